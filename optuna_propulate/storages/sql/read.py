"""Optuna's tables, read: whole trials, and what is new since the last time."""

from __future__ import annotations

import gc
import json
import math
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING
from typing import Any

import sqlalchemy as sa
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_propulate.storages.sql.write import OWNER
from optuna_propulate.storages.sql.write import slices
from optuna_propulate.storages.sql.write import table
from optuna_propulate.storages.wire.changes import distribution_of
from optuna_propulate.storages.wire.times import local


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from collections.abc import Sequence

    from sqlalchemy import Connection


def count_trials(connection: Connection, study_id: int, last_id: int | None = None) -> int:
    """Return how many trials a study has, up to an id."""
    trials = table("TrialModel")
    query = sa.select(sa.func.count()).where(trials.c.study_id == study_id)
    if last_id is not None:
        query = query.where(trials.c.trial_id <= last_id)
    return connection.scalar(query) or 0


def last_trial_id(connection: Connection, study_id: int) -> int:
    """Return the highest id of a study's trials, 0 if there are none."""
    trials = table("TrialModel")
    query = sa.select(sa.func.max(trials.c.trial_id)).where(trials.c.study_id == study_id)
    return connection.scalar(query) or 0


def trials_after(
    connection: Connection, study_id: int, identity: int
) -> list[tuple[int, int, str]]:
    """Return id, number and state of a study's trials with a higher id, ascending."""
    trials = table("TrialModel")
    query = (
        sa.select(trials.c.trial_id, trials.c.number, trials.c.state)
        .where(trials.c.study_id == study_id, trials.c.trial_id > identity)
        .order_by(trials.c.trial_id)
    )
    return [(row.trial_id, row.number, row.state.name) for row in connection.execute(query)]


def trials_in_state(connection: Connection, study_id: int, state: TrialState) -> dict[int, int]:
    """Return the numbers of a study's trials in a state by their ids."""
    trials = table("TrialModel")
    query = (
        sa.select(trials.c.trial_id, trials.c.number)
        .where(trials.c.study_id == study_id, trials.c.state == state)
        .order_by(trials.c.trial_id)
    )
    return {row.trial_id: row.number for row in connection.execute(query)}


def states_of(connection: Connection, identities: Sequence[int]) -> dict[int, str]:
    """Return the states of trials by their ids."""
    trials = table("TrialModel")
    states = {}
    for some in slices(identities):
        query = sa.select(trials.c.trial_id, trials.c.state).where(trials.c.trial_id.in_(some))
        states.update({row.trial_id: row.state.name for row in connection.execute(query)})
    return states


def study_of(connection: Connection, identity: int) -> int | None:
    """Return the study of a trial; ``None`` if there is no such trial."""
    trials = table("TrialModel")
    return connection.scalar(sa.select(trials.c.study_id).where(trials.c.trial_id == identity))


def id_of_number(connection: Connection, study_id: int, number: int) -> int | None:
    """Return the id of a trial; ``None`` if there is no such trial."""
    trials = table("TrialModel")
    return connection.scalar(
        sa.select(trials.c.trial_id).where(
            trials.c.study_id == study_id, trials.c.number == number
        )
    )


def ids_of_numbers(
    connection: Connection, study_id: int, numbers: Sequence[int]
) -> dict[int, int]:
    """Return the ids of a study's trials by their numbers."""
    trials = table("TrialModel")
    ids: dict[int, int] = {}
    for some in slices(numbers):
        query = sa.select(trials.c.number, trials.c.trial_id).where(
            trials.c.study_id == study_id, trials.c.number.in_(some)
        )
        ids.update((row.number, row.trial_id) for row in connection.execute(query))
    return ids


def last_numbered(connection: Connection, study_id: int, last_id: int, n: int) -> list[int]:
    """Return the ids of the ``n`` trials with the highest numbers, ascending, up to an id."""
    trials = table("TrialModel")
    query = (
        sa.select(trials.c.trial_id)
        .where(trials.c.study_id == study_id, trials.c.trial_id <= last_id)
        .order_by(trials.c.number.desc())
        .limit(n)
    )
    return list(connection.scalars(query))[::-1]


def first_values(connection: Connection, identities: Sequence[int]) -> dict[int, float]:
    """Return the finite values of trials for the first objective, by id."""
    values = table("TrialValueModel")
    found: dict[int, float] = {}
    for some in slices(identities):
        query = sa.select(values.c.trial_id, values.c.value).where(
            values.c.trial_id.in_(some), values.c.objective == 0, values.c.value.is_not(None)
        )
        found.update((row.trial_id, row.value) for row in connection.execute(query))
    return found


def system_attribute(connection: Connection, study_id: int, key: str) -> set[Any]:
    """Return the values that a system attribute has in any of a study's trials."""
    trials, attributes = table("TrialModel"), table("TrialSystemAttributeModel")
    query = (
        sa.select(attributes.c.value_json)
        .join(trials, trials.c.trial_id == attributes.c.trial_id)
        .where(trials.c.study_id == study_id, attributes.c.key == key)
    )
    return {json.loads(text) for text in connection.scalars(query)}


def first_distributions(connection: Connection, study_id: int) -> dict[str, str]:
    """Return the first distribution of each parameter of a study, as JSON, by name."""
    trials, params = table("TrialModel"), table("TrialParamModel")
    first = (
        sa.select(sa.func.min(params.c.param_id))
        .join(trials, trials.c.trial_id == params.c.trial_id)
        .where(trials.c.study_id == study_id)
        .group_by(params.c.param_name)
    )
    query = sa.select(params.c.param_name, params.c.distribution_json).where(
        params.c.param_id.in_(first)
    )
    return {name: text for name, text in connection.execute(query)}


def read_trials_after(
    connection: Connection,
    study_id: int,
    identity: int,
    at_once: int = 5000,
    *,
    outlined: bool = False,
) -> Iterator[FrozenTrial]:
    """Yield a study's trials with a higher id, ascending; keeps ``at_once`` in memory.

    Args:
        connection: To the database.
        study_id: The study's id.
        identity: The id that those of the trials are higher than.
        at_once: How many trials are read by a statement.
        outlined: Whether parameters and intermediate values are left out.
    """
    trials = table("TrialModel")
    while True:
        query = (
            sa.select(trials)
            .where(trials.c.study_id == study_id, trials.c.trial_id > identity)
            .order_by(trials.c.trial_id)
            .limit(at_once)
        )
        rows = connection.execute(query).all()
        if not rows:
            return
        first, identity = rows[0].trial_id, rows[-1].trial_id
        yield from _frozen(
            connection,
            rows,
            lambda column: column.between(first, identity),  # noqa: B023
            outlined=outlined,
        )


def read_trials(connection: Connection, identities: Sequence[int]) -> Iterator[FrozenTrial]:
    """Yield trials by their ids, ascending; those that are not there are left out."""
    trials = table("TrialModel")
    for some in slices(sorted(identities)):
        query = sa.select(trials).where(trials.c.trial_id.in_(some)).order_by(trials.c.trial_id)
        rows = connection.execute(query).all()
        yield from _frozen(connection, rows, lambda c: c.in_(some))  # noqa: B023


def read_trial(connection: Connection, identity: int) -> FrozenTrial | None:
    """Return a trial by its id; ``None`` if it is not there."""
    return next(read_trials(connection, [identity]), None)


def _frozen(
    connection: Connection,
    rows: Sequence[Any],
    which: Callable[[Any], Any],
    *,
    outlined: bool = False,
) -> Iterator[FrozenTrial]:
    """Yield the trials of rows, with what the other tables hold about them."""

    def about(model: str, *columns: str) -> dict[int, list[tuple[Any, ...]]]:
        source = table(model)
        (primary,) = source.primary_key.columns
        query = sa.select(source.c.trial_id, *(source.c[column] for column in columns))
        found: defaultdict[int, list[tuple[Any, ...]]] = defaultdict(list)
        for identity, *facts in connection.execute(
            query.where(which(source.c.trial_id)).order_by(primary)
        ).all():
            found[identity].append(tuple(facts))
        return found

    values = about("TrialValueModel", "objective", "value", "value_type")
    user = about("TrialUserAttributeModel", "key", "value_json")
    system = about("TrialSystemAttributeModel", "key", "value_json")
    params: dict[int, list[tuple[Any, ...]]] = {}
    steps: dict[int, list[tuple[Any, ...]]] = {}
    if not outlined:
        params = about("TrialParamModel", "param_name", "param_value", "distribution_json")
        steps = about(
            "TrialIntermediateValueModel", "step", "intermediate_value", "intermediate_value_type"
        )
    for row in rows:
        identity = row.trial_id
        told = params.get(identity, ())
        distributions = {name: distribution_of(text) for name, _, text in told}
        yield FrozenTrial(
            number=row.number,
            state=row.state,
            value=None,
            values=_in_order(values[identity]) or None,
            datetime_start=local(row.datetime_start),
            datetime_complete=local(row.datetime_complete),
            params={name: distributions[name].to_external_repr(value) for name, value, _ in told},
            distributions=distributions,
            user_attrs={key: _value_of(text) for key, text in user[identity]},
            system_attrs={key: _value_of(text) for key, text in system[identity] if key != OWNER},
            intermediate_values={
                step: _loaded(value, kind) for step, value, kind in steps.get(identity, ())
            },
            trial_id=identity,
        )


def _value_of(text: str) -> Any:
    return int(text) if text.isdecimal() and text.isascii() else json.loads(text)  # most are


def _loaded(value: float | None, kind: Any) -> float:
    if kind.name == "FINITE":
        assert value is not None
        return value
    return {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}[kind.name]


def _in_order(values: list[tuple[Any, ...]]) -> list[float]:
    """Return objective values in the order of the objectives."""
    by_objective = {objective: _loaded(value, kind) for objective, value, kind in values}
    return [by_objective[objective] for objective in sorted(by_objective)]


@contextmanager
def uncollected() -> Iterator[None]:
    """Let nobody look for cycles meanwhile: that takes half the time of reading many trials."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
