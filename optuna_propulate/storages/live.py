"""Live trials: those of this rank that are not finished, or not committed yet."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING
from typing import Any

from optuna.trial import FrozenTrial

from optuna_propulate.storages.protocol import Change
from optuna_propulate.storages.protocol import distribution_json
from optuna_propulate.storages.protocol import utc


if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


class LiveTrial:
    """Holds a trial, and what of it the writer has not been told.

    Args:
        trial: The trial; it belongs to this object from now on.
        identity: The database's id if its row is there already; all that the trial holds is
            written, then.
    """

    __slots__ = ("_params", "_steps", "_system", "_user", "_values", "began", "identity", "trial")

    def __init__(self, trial: FrozenTrial, identity: int | None = None) -> None:
        self.trial = trial
        self.identity = identity
        self.began = time.monotonic()
        self._params: list[tuple[str, float, BaseDistribution]] = []
        self._user: dict[str, str] = {}
        self._system: dict[str, str] = {}
        self._steps: dict[int, float] = {}
        self._values: list[float] | None = None
        if identity is None:
            self._note_all(trial)

    def set_param(self, name: str, internal: float, distribution: BaseDistribution) -> None:
        """Set a parameter."""
        internal = float(internal)
        self.trial._params[name] = distribution.to_external_repr(internal)
        self.trial._distributions[name] = distribution
        self._params.append((name, internal, distribution))

    def set_user_attribute(self, key: str, value: Any) -> None:
        """Set a user attribute; ``TypeError`` if it is nothing that JSON can hold."""
        self._user[key] = _json(value)
        self.trial._user_attrs[key] = value

    def set_system_attribute(self, key: str, value: Any) -> None:
        """Set a system attribute; ``TypeError`` if it is nothing that JSON can hold."""
        self._system[key] = _json(value)
        self.trial._system_attrs[key] = value

    def report(self, step: int, value: float) -> None:
        """Note a value reported by the objective."""
        self.trial.intermediate_values[step] = value
        self._steps[step] = value

    def set_values(self, values: list[float]) -> None:
        """Set the objective values."""
        self.trial._values = values
        self._values = values

    def take_change(self, distributions: dict[str, int]) -> list[Any]:
        """Return what the writer has not been told, packed; it counts as told from now on.

        Args:
            distributions: The distributions of the message so far with their indices; those of
                this trial are added.
        """
        trial = self.trial
        params = [
            (name, internal, distributions.setdefault(text, len(distributions)))
            for name, internal, distribution in self._params
            for text in (distribution_json(distribution),)
        ]
        change = Change(
            trial._number, self.identity, trial.state.name,
            utc(trial._datetime_start), utc(trial.datetime_complete),
            params, self._values, self._user, self._system, list(self._steps.items()),
        )  # fmt: skip
        self._params, self._steps, self._user, self._system = [], {}, {}, {}
        self._values = None
        return change.pack()

    def _note_all(self, trial: FrozenTrial) -> None:
        self._params = [
            (name, distribution.to_internal_repr(trial.params[name]), distribution)
            for name, distribution in trial._distributions.items()
        ]
        self._user = {key: _json(value) for key, value in trial._user_attrs.items()}
        self._system = {key: _json(value) for key, value in trial._system_attrs.items()}
        self._steps = {int(s): float(value) for s, value in trial.intermediate_values.items()}
        self._values = trial._values and [float(value) for value in trial._values]


def copy_trial(trial: FrozenTrial) -> FrozenTrial:
    """Return a copy whose own containers may be changed; faster than ``copy.deepcopy``."""
    twin = FrozenTrial.__new__(FrozenTrial)
    twin.__dict__.update(trial.__dict__)
    twin._params = trial._params.copy()
    twin._distributions = trial._distributions.copy()
    twin._user_attrs = trial._user_attrs.copy()
    twin._system_attrs = trial._system_attrs.copy()
    twin.intermediate_values = trial.intermediate_values.copy()
    return twin


def _json(value: Any) -> str:
    """Return a value as JSON; an integer, as most attributes of ours are, at once."""
    return repr(value) if type(value) is int else json.dumps(value)
