"""The folders of writers: those of jobs that were killed are removed by the next one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from optuna_propulate.storages.writer.folder import hold
from optuna_propulate.storages.writer.folder import make_folder


if TYPE_CHECKING:
    from pathlib import Path

    import pytest

HOLDER = """
import os, signal
from pathlib import Path
from optuna_propulate.storages.writer.folder import hold, make_folder
folder = make_folder()
descriptor = hold(Path(folder))
print(folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_job_removes_the_folders_of_killed_ones_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    held, starting = tmp_path / "optuna-propulate-held", tmp_path / "optuna-propulate-starting"
    other = tmp_path / "somebody-elses"
    for folder in (starting, other):
        folder.mkdir()
    descriptor = hold(held)
    killed = subprocess.run(
        [sys.executable, "-c", HOLDER], capture_output=True, text=True, timeout=60, check=False
    ).stdout.strip()
    assert os.path.isdir(killed)

    new = make_folder()
    kept = {held, starting, other}
    if new.startswith(str(tmp_path)):  # its path is not too long for a socket
        kept.add(tmp_path / os.path.basename(new))
    assert set(tmp_path.iterdir()) == kept
    assert not os.path.exists(killed)
    os.close(descriptor)
    os.rmdir(new)
    os.rmdir(make_folder())
    assert not held.exists()
