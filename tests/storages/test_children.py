"""Trials that are handed to child processes, or told by another process than asked for them."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from optuna_propulate import BatchedRDBStorage


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HAND_OVER = """
import multiprocessing, os, sys
import optuna_propulate

def train(trial):
    for step in range(3):
        trial.report(trial.number + step, step)
        assert not trial.should_prune()
    trial.set_user_attr("child", os.getpid())
    trial.suggest_int("late", 3, 3)

def objective(trial):
    trial.suggest_float("x", 0, 1)
    trial.set_user_attr("parent", os.getpid())
    if method == "os.fork":
        child = os.fork()
        if child == 0:
            train(trial)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    else:
        child = multiprocessing.get_context(method).Process(target=train, args=(trial,))
        child.start()
        child.join()
        assert child.exitcode == 0
    if trial.number == 1:
        raise optuna.TrialPruned  # its value is what the child has reported last
    return 0.5

if __name__ == "__main__":
    for method in {methods!r}:
        study = optuna_propulate.create_study(
            {url!r}, study_name=method, pruner=optuna.pruners.NopPruner()
        )
        study.optimize(objective, n_trials=4)
"""


def check_that_children_were_heard(url: str, methods: list[str]) -> None:
    for method in methods:
        trials = optuna.load_study(study_name=method, storage=url).trials
        assert [trial.number for trial in trials] == [0, 1, 2, 3]
        for trial in trials:
            n = trial.number
            assert trial.intermediate_values == {0: n, 1: n + 1, 2: n + 2}
            assert trial.user_attrs["child"] != trial.user_attrs["parent"]
            assert set(trial.params) == {"x", "late"}
            state, value = (TrialState.PRUNED, 3.0) if n == 1 else (TrialState.COMPLETE, 0.5)
            assert (trial.state, trial.value) == (state, value)


def test_what_a_child_process_reports_is_there(tmp_path: Path, postgresql: str) -> None:
    methods = ["os.fork", "fork", "spawn", "forkserver"]
    script = tmp_path / "script.py"
    script.write_text("import optuna\n" + HAND_OVER.format(url=postgresql, methods=methods))
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    check_that_children_were_heard(postgresql, methods)


def test_what_a_child_of_a_rank_reports_is_there(mpiexec: Callable, tmp_path: Path) -> None:
    url, methods = f"sqlite:///{tmp_path}/study.db", ["os.fork", "spawn"]
    outcome = mpiexec(HAND_OVER.format(url=url, methods=methods), 2, timeout=120)
    assert outcome.status == 0, outcome.stderr
    check_that_children_were_heard(url, methods)


TELL = """
import sys
import optuna
from optuna_propulate import BatchedRDBStorage
storage = BatchedRDBStorage(sys.argv[1])
study = optuna.load_study(study_name="s", storage=storage)
study.tell(int(sys.argv[2]), float(sys.argv[3]))
storage.close()
"""


def tell_elsewhere(url: str, number: int, value: float) -> None:
    command = [sys.executable, "-c", TELL, url, str(number), str(value)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_trial_may_be_asked_in_one_process_and_told_in_another(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    storage = BatchedRDBStorage(url)
    study = optuna.create_study(storage=storage, study_name="s")
    for _ in range(3):
        study.ask().suggest_float("x", 0, 1)
    storage.flush()
    tell_elsewhere(url, 0, 1.0)  # while the one that asked goes on, ...
    study.tell(study.ask(), 4.0)
    storage.close()
    tell_elsewhere(url, 1, 2.0)  # ... and after it has ended, ...
    later = BatchedRDBStorage(url)  # ... also when another job has begun since
    other = optuna.load_study(study_name="s", storage=later)
    other.tell(other.ask(), 5.0)
    other.tell(2, 3.0)
    later.close()
    trials = RDBStorage(url).get_all_trials(study._study_id)
    assert [trial.value for trial in trials] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}


def test_a_trial_that_another_process_has_told_cannot_be_told_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    storage = BatchedRDBStorage(url)
    study = optuna.create_study(storage=storage, study_name="s")
    study.ask()
    storage.flush()
    tell_elsewhere(url, 0, 1.0)
    storage.close()
    later = BatchedRDBStorage(url)
    with pytest.raises(ValueError, match="Cannot tell a COMPLETE trial"):
        optuna.load_study(study_name="s", storage=later).tell(0, 2.0)
    later.close()


def test_choices_that_no_database_can_hold_are_refused_where_they_are_suggested(
    tmp_path: Path,
) -> None:
    storage = BatchedRDBStorage(f"sqlite:///{tmp_path}/study.db")
    study = optuna.create_study(storage=storage, study_name="s")
    trial = study.ask()
    with pytest.raises(TypeError, match="'activation' cannot be stored"):
        trial.suggest_categorical("activation", [lambda x: x, max])
    study.tell(trial, 0.5)
    storage.close()
    (stored,) = RDBStorage(storage._url).get_all_trials(study._study_id)
    assert (stored.value, stored.params) == (0.5, {})


def test_a_locked_database_holds_up_nobody_who_has_children(tmp_path: Path) -> None:
    storage = BatchedRDBStorage(f"sqlite:///{tmp_path}/study.db", flush_interval=0.1)
    study = optuna.create_study(storage=storage, study_name="s")
    trial = study.ask()
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
    with sqlite3.connect(tmp_path / "study.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        study.tell(study.ask(), 1.0)
        deadline = time.monotonic() + 60
        while not storage._client.is_away:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        begun = time.monotonic()
        for step in range(30):  # the writer waits up to 5 s for the lock, again and again
            trial.report(0.5, step)
            assert len(storage.get_trial(trial._trial_id).intermediate_values) == step + 1
        assert time.monotonic() - begun < 30
        other.execute("ROLLBACK")
    study.tell(trial, 2.0)
    storage.close()
    trials = RDBStorage(f"sqlite:///{tmp_path}/study.db").get_all_trials(study._study_id)
    assert [trial.value for trial in trials] == [2.0, 1.0]
