"""Files and folders go away under a job, and nothing of the search is lost."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import optuna
import pytest

from optuna_propulate.storages.batched import BatchedRDBStorage
from optuna_propulate.storages.writer.spill import import_trials


if TYPE_CHECKING:
    from pathlib import Path


def objective(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0, 1)


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_deleted_file_of_a_database_is_a_database_that_is_away(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_replaced: bool,
) -> None:
    monkeypatch.chdir(tmp_path)  # where what cannot be written is kept
    storage = BatchedRDBStorage("sqlite:///study.db", flush_interval=0.01, commit_timeout=1.0)
    study = optuna.create_study(storage=storage, study_name="s")
    study.optimize(objective, n_trials=5)
    storage.flush()
    for path in tmp_path.glob("study.db*"):
        path.rename(tmp_path / f"old-{path.name}")
    if is_replaced:
        optuna.create_study(storage="sqlite:///study.db", study_name="s")
    told = []
    study.optimize(objective, n_trials=5, callbacks=[lambda _, trial: told.append(trial.value)])
    writer = storage._client._handle._started._process
    storage.close()
    writer.wait(30)  # it writes the file last
    assert "cannot be written" in caplog.text
    (kept,) = tmp_path.glob("optuna-propulate-*.jsonl")
    optuna.create_study(storage="sqlite:///new.db", study_name="s")
    import_trials(kept, "sqlite:///new.db")
    trials = optuna.load_study(study_name="s", storage="sqlite:///new.db").trials
    assert set(told) <= {trial.value for trial in trials}


def test_an_objective_may_change_its_folder_and_delete_that_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = tmp_path / "start"
    start.mkdir()
    monkeypatch.chdir(start)
    storage = BatchedRDBStorage("sqlite:///../study.db", flush_interval=0.01)
    study = optuna.create_study(storage=storage, study_name="s")

    def moves(trial: optuna.Trial) -> float:
        if trial.number == 1:
            os.chdir(tmp_path)
            start.rmdir()
        if trial.number == 2:
            storage._client._handle._started._process.kill()
        return objective(trial)

    study.optimize(moves, n_trials=10)
    storage.close()
    trials = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/study.db").trials
    assert len([trial for trial in trials if trial.value is not None]) == 10
    assert not list(tmp_path.glob("optuna-propulate-*.jsonl"))
