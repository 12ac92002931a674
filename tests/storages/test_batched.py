from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
import optuna
import pytest
import sqlalchemy as sa
from optuna.distributions import IntDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from optuna.trial import create_trial

from optuna_propulate import BatchedRDBStorage
from optuna_propulate.storages.client import write_buffer
from optuna_propulate.storages.sql.open import parse_url
from optuna_propulate.storages.sql.open import shown


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchedRDBStorage]:
    monkeypatch.chdir(tmp_path)  # where what cannot be written is kept
    storage = BatchedRDBStorage(
        f"sqlite:///{tmp_path}/study.db", refresh_interval=0.2, in_thread=True
    )
    yield storage
    storage.close()


def test_a_trial_waits_a_bounded_time_for_a_database_that_does_not_keep_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)  # where what cannot be written is kept
    url, options = f"sqlite:///{tmp_path}/study.db", {"connect_args": {"timeout": 0.1}}
    storage = BatchedRDBStorage(url, commit_timeout=1.0, engine_kwargs=options)
    study = optuna.create_study(storage=storage, study_name="s")
    study.optimize(lambda trial: 0.0, n_trials=1)
    storage.flush()
    monkeypatch.setattr(write_buffer, "BACKLOG_BYTES", 1)
    lock = sqlite3.connect(tmp_path / "study.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    study.tell(study.ask(), 1.0)
    storage.flush()  # in vain
    begun = time.monotonic()
    trial = study.ask()
    assert time.monotonic() - begun > 0.9
    assert "The database does not keep up" in caplog.text
    lock.execute("ROLLBACK")
    study.tell(trial, 2.0)
    deadline = time.monotonic() + 30.0
    while storage._client._buffer.is_away:
        assert time.monotonic() < deadline
        storage.flush()
        time.sleep(0.05)
    storage.close()
    assert [trial.value for trial in _plain(storage).trials] == [0.0, 1.0, 2.0]


def _plain(storage: BatchedRDBStorage) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=storage._url)


def test_a_value_reported_twice_is_the_later_one(storage: BatchedRDBStorage) -> None:
    study = optuna.create_study(storage=storage, study_name="s")
    trial = study.ask()
    for value in (1.0, 2.0):
        storage.set_trial_intermediate_value(trial._trial_id, 3, value)
    study.tell(trial, 0.0)
    storage.flush()
    (stored,) = _plain(storage).trials
    assert (stored.state, stored.intermediate_values) == (TrialState.COMPLETE, {3: 2.0})


def test_numbers_of_numpy_are_numbers(storage: BatchedRDBStorage) -> None:
    study = optuna.create_study(storage=storage, study_name="s")
    study.add_trial(
        create_trial(value=np.float32(0.5), intermediate_values={np.int64(1): np.float64(2.0)})
    )
    storage.flush()
    (stored,) = _plain(storage).trials
    assert (stored.value, stored.intermediate_values) == (0.5, {1: 2.0})


def test_an_added_trial_fits_the_study(storage: BatchedRDBStorage) -> None:
    study = optuna.create_study(storage=storage, study_name="s")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(ValueError, match="distribution kind"):
        study.add_trial(
            create_trial(value=1.0, params={"x": 1}, distributions={"x": IntDistribution(0, 9)})
        )
    assert len(study.trials) == 1


def test_a_waiting_trial_is_run_whichever_storage_came_first(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    first = BatchedRDBStorage(url, refresh_interval=0.2, in_thread=True)
    second = BatchedRDBStorage(url, refresh_interval=0.2, in_thread=True)
    study = optuna.create_study(storage=second, study_name="s")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    optuna.load_study(study_name="s", storage=RDBStorage(url)).enqueue_trial({"x": 0.125})
    deadline = time.monotonic() + 20
    while not any(trial.params.get("x") == 0.125 for trial in study.trials):
        assert time.monotonic() < deadline
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
        time.sleep(0.05)
    second.close()
    first.close()


def test_enqueueing_while_the_database_is_locked_breaks_nothing_after(tmp_path: Path) -> None:
    storage = BatchedRDBStorage(
        f"sqlite:///{tmp_path}/study.db",
        commit_timeout=1.0,
        engine_kwargs={"connect_args": {"timeout": 0.2}},
    )
    study = optuna.create_study(storage=storage, study_name="s")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    lock = sqlite3.connect(tmp_path / "study.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageInternalError):
        study.enqueue_trial({"x": 0.5})
    lock.execute("ROLLBACK")
    lock.close()
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    storage.close()
    trials = optuna.load_study(study_name="s", storage=storage._url).trials
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert sum(trial.state == TrialState.COMPLETE for trial in trials) >= 4


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cret@localhost:1/db",
        "postgresql://localhost:1/db?user=me&password=s3cret",
    ],
)
def test_a_password_is_never_shown(url: str) -> None:
    assert "s3cret" not in shown(url)
    with pytest.raises(StorageInternalError) as raised:
        BatchedRDBStorage(url)
    assert "s3cret" not in str(raised.value)
    assert "localhost" in str(raised.value)


def test_a_url_without_a_host_shows_no_password() -> None:
    with pytest.raises(ValueError, match="not shown") as raised:
        parse_url("postgresql://optuna:s3cret/db")
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("name", ["flush_interval", "refresh_interval", "commit_timeout"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_intervals_are_above_zero(name: str, value: float) -> None:
    arguments: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"{name} must be above 0"):
        BatchedRDBStorage("sqlite:///study.db", **arguments)


def test_a_database_in_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="in memory"):
        BatchedRDBStorage("sqlite://")


def test_a_rank_with_another_storage_or_sampler_is_an_error_on_every_rank(
    mpiexec: Callable, tmp_path: Path
) -> None:
    outcome = mpiexec(
        """
        import optuna_propulate
        from mpi4py import MPI
        rank = MPI.COMM_WORLD.rank
        rdb = optuna.storages.RDBStorage(f"sqlite:///rank{rank}.db")
        errors = []
        for arguments in (
            {"storage": ["sqlite:///study.db", rdb][rank]},
            {"storage": ["sqlite:///study.db", "sqlite:///another.db"][rank]},
            {"storage": ["sqlite:///study.db", "sqlite://"][rank]},
            {
                "storage": "sqlite:///study.db",
                "sampler": [None, optuna.samplers.RandomSampler()][rank],
            },
        ):
            try:
                optuna_propulate.create_study(**arguments)
            except ValueError as error:
                errors.append(str(error))
        report(errors=errors)
        """,
        2,
        timeout=60,
        environ={"OPTUNA_PROPULATE_COMM_TIMEOUT": "10"},
    )
    assert outcome.status == 0, outcome.stderr
    for rank in outcome.ranks:
        assert len(rank["errors"]) == 4
        assert "storage must be" in rank["errors"][0]
        assert "sampler must be the same" in rank["errors"][3]


def test_what_a_trial_costs_does_not_grow_with_the_trials_that_wait(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    plain = optuna.create_study(storage=RDBStorage(url), study_name="s")
    for place in range(200):
        plain.enqueue_trial({"x": place / 200})
    storage = BatchedRDBStorage(url, refresh_interval=1e-6)
    study = optuna.load_study(study_name="s", storage=storage)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    n_calls, n_reads = 0, 0
    call = storage._client._buffer.connection.call

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        return call(*arguments, **options)

    @sa.event.listens_for(storage._client._reader.engine, "before_cursor_execute")
    def count(*arguments: Any) -> None:
        nonlocal n_reads
        n_reads += 1

    storage._client._buffer.connection.call = counted  # type: ignore[method-assign]
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=20)
    assert n_calls <= 2 * 20
    assert n_reads <= 20
    storage.close()
    trials = RDBStorage(url).get_all_trials(study._study_id)
    assert [trial.value for trial in trials[:21]] == [place / 200 for place in range(21)]
