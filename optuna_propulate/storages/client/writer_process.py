"""The writer as a process of its own, as the one that starts it sees it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from typing import Any

from optuna.exceptions import StorageInternalError

from optuna_propulate.storages.client.started_writer import StartedWriter
from optuna_propulate.storages.sql.open import working_folder


_START = (  # not "-m", which would look for modules in the working folder first
    "import sys; sys.path[:] = sys.argv[1:]; "
    "from optuna_propulate.storages.writer.serve import main; main()"
)


class WriterProcess(StartedWriter):
    """A process that outlives this one until all that it was told is written."""

    def _launch(self, settings: dict[str, Any]) -> dict[str, Any]:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, *_absolute(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",  # the working folder may be deleted
            start_new_session=True,  # what interrupts the job must not interrupt what it has told
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # not an argument, which anybody can read
            self._process.stdin.write(json.dumps(settings).encode() + b"\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        self._process.stdout.close()
        if not answer:
            raise StorageInternalError(
                f"The process that writes to the database ended with {self._process.wait()}."
            )
        return dict(json.loads(answer))

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def _let_go(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def wait(self, timeout: float | None) -> bool:
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True


def _absolute(path: list[str]) -> list[str]:
    """Return where modules are looked for, independent of the working folder."""
    here = working_folder()
    return [str(here / entry) for entry in path]
