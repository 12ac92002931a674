"""Trials, and what is new about them, as plain lists."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.distributions import distribution_to_json
from optuna.distributions import json_to_distribution
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_propulate._optuna_compat import trial_id_of
from optuna_propulate.storages.wire.times import local
from optuna_propulate.storages.wire.times import utc


if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


@dataclass(slots=True)
class Change:
    """What is new about a trial since the writer was told of it last.

    Args:
        number: The trial's number.
        identity: The database's id of the trial, where it is known: the row is there already.
        state: The name of its state.
        start: When it started, as ``utc`` gives it.
        complete: When it ended.
        params: Name, internal value and distribution as JSON; in a message, the distribution's
            index in its list of them.
        values: The objective values, if these are new.
        user: User attributes, each value as JSON.
        system: System attributes, each value as JSON.
        steps: Reported steps and values.
    """

    number: int
    identity: int | None
    state: str
    start: str | None
    complete: str | None
    params: list[tuple[str, float, Any]] = field(default_factory=list)
    values: list[float] | None = None
    user: dict[str, str] = field(default_factory=dict)
    system: dict[str, str] = field(default_factory=dict)
    steps: list[tuple[int, float]] = field(default_factory=list)

    def pack(self) -> list[Any]:
        """Return a plain list, without its empty end."""
        packed = [
            self.number, self.identity, self.state, self.start, self.complete,
            self.params, self.values, self.user, self.system, self.steps,
        ]  # fmt: skip
        while not packed[-1] and len(packed) > 5:
            packed.pop()
        return packed


def unpack_change(packed: list[Any], distributions: list[str]) -> Change:
    """Return the change that ``Change.pack`` made a list of, with distributions as JSON."""
    change = Change(*packed)
    change.params = [(name, value, distributions[place]) for name, value, place in change.params]
    return change


def pack_trial(trial: FrozenTrial) -> list[Any]:
    """Return a whole trial as a plain list."""
    return [
        trial_id_of(trial),
        trial.number,
        trial.state.name,
        utc(trial.datetime_start),
        utc(trial.datetime_complete),
        [
            [
                name,
                distribution.to_internal_repr(trial.params[name]),
                distribution_json(distribution),
            ]
            for name, distribution in trial.distributions.items()
        ],
        trial.values,
        trial.user_attrs,
        trial.system_attrs,
        list(trial.intermediate_values.items()),
    ]


def unpack_trial(packed: list[Any]) -> FrozenTrial:
    """Return the trial that ``pack_trial`` made a list of."""
    identity, number, state, start, complete, params, values, user, system, steps = packed
    distributions = {name: distribution_of(text) for name, _, text in params}
    return FrozenTrial(
        number=number,
        state=TrialState[state],
        value=None,
        values=values,
        datetime_start=start and local(datetime.fromisoformat(start)),
        datetime_complete=complete and local(datetime.fromisoformat(complete)),
        params={name: distributions[name].to_external_repr(value) for name, value, _ in params},
        distributions=distributions,
        user_attrs=user,
        system_attrs=system,
        intermediate_values={int(step): value for step, value in steps},
        trial_id=identity,
    )


def distribution_json(distribution: BaseDistribution) -> str:
    """Return a distribution as Optuna's JSON."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution_to_json(distribution)  # equal ones may differ: 1 == True == 1.0
    return _numerical_json(distribution)


@lru_cache(maxsize=4096)
def distribution_of(text: str) -> BaseDistribution:
    """Return the distribution that Optuna's JSON tells of."""
    return json_to_distribution(text)


@lru_cache(maxsize=4096)
def _numerical_json(distribution: BaseDistribution) -> str:
    return distribution_to_json(distribution)
