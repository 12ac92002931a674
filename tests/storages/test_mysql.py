"""MariaDB, where the machine has a server: `tox run -e chaos` names it otherwise."""

from __future__ import annotations

import threading
import time

import optuna
import pytest
import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from optuna_propulate.storages.batched import BatchedRDBStorage
from optuna_propulate.storages.sql.dialects.base import IDLE
from optuna_propulate.storages.sql.engine import connect_engine
from optuna_propulate.storages.sql.write import BulkWriter


def objective(trial: optuna.Trial) -> float:
    value = trial.suggest_float("x", 0, 1) + trial.suggest_int("n", 1, 4)
    trial.set_user_attr("told", value)
    trial.report(value, 1)
    if trial.number % 7 == 0:
        raise optuna.TrialPruned
    return value


def test_trials_of_a_plain_client_in_between_keep_all_numbers_dense_and_all_values_right(
    mysql: str,
) -> None:
    storage = BatchedRDBStorage(mysql, flush_interval=0.01, refresh_interval=0.05)
    ours = optuna.create_study(storage=storage, study_name="s")
    plain = optuna.load_study(study_name="s", storage=RDBStorage(mysql))
    ours.sampler = plain.sampler = optuna.samplers.RandomSampler()
    n_foreign = 25
    foreign = threading.Thread(target=plain.optimize, args=(objective, n_foreign))
    foreign.start()
    n_ours = 0
    while foreign.is_alive():
        ours.optimize(objective, n_trials=5)
        n_ours += 5
        numbers = [trial.number for trial in RDBStorage(mysql).get_all_trials(ours._study_id)]
        assert sorted(numbers) == list(range(len(numbers)))
    storage.close()
    assert n_ours >= 10
    trials = optuna.load_study(study_name="s", storage=mysql).trials
    assert [trial.number for trial in trials] == list(range(n_ours + n_foreign))
    for trial in trials:
        value = trial.params["x"] + trial.params["n"]
        assert trial.user_attrs == {"told": value}
        assert trial.intermediate_values == {1: value}
        assert trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        assert trial.value == value


def test_a_lock_is_not_held_for_long_by_who_sleeps_before_it_writes(mysql: str) -> None:
    study_id = RDBStorage(mysql).create_new_study([StudyDirection.MINIMIZE])
    engine = connect_engine(mysql, None, writing=True)
    with engine.connect() as sleeper:
        assert BulkWriter(sleeper).lock_study(study_id)
        time.sleep(IDLE + 2.0)
        with connect_engine(mysql, None, writing=True).begin() as other:
            assert BulkWriter(other).lock_study(study_id)
        with pytest.raises(OperationalError):
            sleeper.execute(sa.text("SELECT 1"))
    engine.dispose()
