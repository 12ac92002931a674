"""Trials that a killed job has left running: the next job fails them, and may run them again."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING
from typing import Any

from optuna.trial import TrialState

from optuna_propulate.storages.sql import read as reading
from optuna_propulate.storages.sql.jobs import bare_trials
from optuna_propulate.storages.sql.jobs import owners_of
from optuna_propulate.storages.wire.changes import distribution_json


if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping

    from optuna.trial import FrozenTrial
    from sqlalchemy import Connection

    from optuna_propulate.storages.sql.write import BulkWriter

FAILED_TRIAL = "failed_trial"
RETRY_HISTORY = "retry_history"
"""The system attributes by which Optuna's ``RetryHeartbeatStaleTrialCallback`` knows a retry."""


def fail_stale(
    bulk: BulkWriter,
    connection: Connection,
    study_id: int,
    mark: Mapping[str, Any],
    retry: int,
    *,
    gives_back: bool = False,
) -> None:
    """Fail the trials that another job has left running; others' are not touched.

    Args:
        bulk: Writes over the connection.
        connection: A connection that has locked the study.
        study_id: The study.
        mark: What the writer of that job left in the study.
        retry: How often a trial is run again with the parameters that it had.
        gives_back: Whether the job has certainly ended, so that what it claimed and did not use
            may wait for anybody, where the job shared its study.
    """
    running = reading.trials_in_state(connection, study_id, TrialState.RUNNING)
    owners = owners_of(connection, list(running))
    owners.update((identity, mark["job"]) for identity in mark.get("taken", ()))  # before 0.2
    owners.update(dict.fromkeys((*mark.get("others", ()), *mark.get("floating", ()))))
    is_open = mark.get("is_open", True)
    stale = [
        identity
        for identity, number in running.items()
        if (
            owners[identity] == mark.get("job", "")
            if identity in owners
            else is_open and number >= mark["base"] and identity <= mark["last_id"]
        )
    ]
    if gives_back and not is_open:
        unused = bare_trials(connection, stale)
        bulk.wait(unused)
        stale = sorted(set(stale) - set(unused))
    bulk.fail(stale, datetime.now())
    if not retry or not stale:
        return
    histories = [
        (trial, history)
        for trial in reading.read_trials(connection, stale)
        if len(history := [*_history(trial), trial.number]) <= retry
    ]
    first = reading.count_trials(connection, study_id)
    rows = [(first + place, "WAITING", None, None) for place in range(len(histories))]
    identities = bulk.insert_trials(study_id, rows) if rows else []
    for identity, (trial, history) in zip(identities, histories, strict=True):
        _copy(bulk, identity, trial, history)


def _history(trial: FrozenTrial) -> list[int]:
    history = trial.system_attrs.get(RETRY_HISTORY)
    return history if isinstance(history, list) else []


def _copy(bulk: BulkWriter, identity: int, trial: FrozenTrial, history: list[int]) -> None:
    """Write what a trial that is run again has from the one that failed."""
    system = {**trial.system_attrs, FAILED_TRIAL: history[0], RETRY_HISTORY: history}
    params = [
        (identity, name, distribution.to_internal_repr(trial.params[name]), text)
        for name, distribution in trial.distributions.items()
        for text in (distribution_json(distribution),)
    ]
    bulk.params(params, new=True)
    bulk.user_attributes(list(_attributes(identity, trial.user_attrs)), new=True)
    bulk.system_attributes(list(_attributes(identity, system)), new=True)


def _attributes(identity: int, values: Mapping[str, Any]) -> Iterator[tuple[int, str, str]]:
    for key, value in values.items():
        yield identity, key, json.dumps(value)
