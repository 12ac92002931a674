"""The writer as a thread: what it was told is committed when its process ends."""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from optuna_propulate.storages.batched import BatchedRDBStorage
from optuna_propulate.storages.writer import serve
from optuna_propulate.storages.writer.service import Writer


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


N_TRIALS = 30


def square(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -1, 1) ** 2


def committed(url: str) -> list[optuna.trial.FrozenTrial]:
    (study,) = RDBStorage(url).get_all_studies()
    return RDBStorage(url).get_all_trials(study._study_id)


def test_what_it_was_told_is_committed_when_its_process_ends(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    script = f"""
import optuna
import pytest
from optuna_propulate.storages.batched import BatchedRDBStorage
optuna.logging.set_verbosity(optuna.logging.WARNING)
storage = BatchedRDBStorage({url!r}, flush_interval=1000.0, in_thread=True)
study = optuna.create_study(storage=storage)
study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials={N_TRIALS})
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert [trial.number for trial in committed(url)] == list(range(N_TRIALS))
    assert all(trial.state == TrialState.COMPLETE for trial in committed(url))


def test_jobs_that_follow_each_other_in_a_process_leave_nothing_behind(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"

    def job() -> None:
        storage = BatchedRDBStorage(url, in_thread=True)
        study = optuna.create_study(storage=storage, study_name="s", load_if_exists=True)
        study.optimize(square, n_trials=3)
        storage.close()

    def held() -> tuple[int, int]:
        gc.collect()
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    job()
    before = held()
    for _ in range(5):
        job()
    assert held() == before
    assert len(committed(url)) == 18


def report(trial: optuna.Trial) -> None:
    trial.report(0.5, step=7)


def test_what_a_forked_child_reports_is_there(tmp_path: Path) -> None:
    storage = BatchedRDBStorage(f"sqlite:///{tmp_path}/study.db", in_thread=True)
    study = optuna.create_study(storage=storage)

    def objective(trial: optuna.Trial) -> float:
        child = multiprocessing.get_context("fork").Process(target=report, args=(trial,))
        child.start()
        child.join(20)
        assert child.exitcode == 0
        return square(trial)

    study.optimize(objective, n_trials=3)
    storage.close()
    trials = committed(f"sqlite:///{tmp_path}/study.db")
    assert [trial.intermediate_values for trial in trials] == 3 * [{7: 0.5}]


DIES = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@DIES
def test_one_that_has_ended_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = BatchedRDBStorage(
        f"sqlite:///{tmp_path}/study.db", flush_interval=0.01, in_thread=True
    )
    study = optuna.create_study(storage=storage)
    study.optimize(square, n_trials=5)
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "_poll", lambda self: sys.exit("it ends"))
        (writer,) = (t for t in threading.enumerate() if t.name == "optuna_propulate writer")
        writer.join(20)
        assert not writer.is_alive()
    study.optimize(square, n_trials=5)
    storage.close()
    trials = committed(f"sqlite:///{tmp_path}/study.db")
    assert [trial.number for trial in trials] == list(range(10))


@DIES
def test_whatever_keeps_it_from_starting_is_raised_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(folder: Path) -> int:
        raise OSError("no room")

    monkeypatch.setattr(serve, "hold", fails)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(optuna.exceptions.StorageInternalError, match="ended at once"):
            BatchedRDBStorage(f"sqlite:///{tmp_path}/study.db", in_thread=True)
    assert len(os.listdir("/proc/self/fd")) == before


def test_ranks_do_not_share_a_thread(mpiexec: Callable) -> None:
    outcome = mpiexec(
        """
        import optuna_propulate
        from mpi4py import MPI
        try:
            optuna_propulate.BatchedRDBStorage(
                "sqlite:///study.db", comm=MPI.COMM_WORLD, in_thread=True
            )
        except ValueError as error:
            report(error=str(error))
        """,
        n=2,
    )
    assert ["in_thread" in rank["error"] for rank in outcome.ranks] == [True, True]
