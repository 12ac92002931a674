from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import optuna
import pytest

from optuna_propulate.storages.batched import BatchedRDBStorage


if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import sys
import optuna
from optuna_propulate import BatchedRDBStorage
study = optuna.load_study(study_name="s", storage=BatchedRDBStorage(sys.argv[1]))
print(len(study.trials), flush=True)
try:
    study.ask()
except RuntimeError as error:
    print(error, flush=True)
else:
    print("asked", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_second_job_may_read_a_study_but_not_add_to_it(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    if database == "postgresql":
        url = request.getfixturevalue("postgresql")
    storage = BatchedRDBStorage(url)
    study = optuna.create_study(storage=storage, study_name="s")
    study.ask()
    storage.flush()
    other = optuna.create_study(storage=storage, study_name="other")
    other.ask()
    storage.flush()
    second = subprocess.run(
        [sys.executable, "-c", PROGRAM, url],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    seen, answer = second.stdout.splitlines()
    assert seen == "1"
    assert "Another job is adding trials to this study (its writer is process" in answer
    storage.close()
    third = subprocess.run(
        [sys.executable, "-c", PROGRAM, url], capture_output=True, text=True, timeout=60,
        check=True, input="\n",
    )  # fmt: skip
    assert third.stdout.splitlines() == ["1", "asked"]


def test_storages_of_one_process_share_their_writer(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    first, second = BatchedRDBStorage(url), BatchedRDBStorage(url)
    study = optuna.create_study(storage=first, study_name="s")
    again = optuna.load_study(study_name="s", storage=second)
    numbers = [each.ask().number for each in (study, again, study, again)]
    assert numbers == [0, 1, 2, 3]
    first.close()
    again.tell(again.ask(), 1.0)
    second.close()
    plain = optuna.load_study(study_name="s", storage=url)
    assert [trial.number for trial in plain.trials] == [0, 1, 2, 3, 4]
