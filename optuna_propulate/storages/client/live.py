"""Live trials: those of this rank that are not finished, or not committed yet."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING
from typing import Any

from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_propulate.storages.wire.changes import Change
from optuna_propulate.storages.wire.changes import distribution_json
from optuna_propulate.storages.wire.changes import distribution_of
from optuna_propulate.storages.wire.times import local
from optuna_propulate.storages.wire.times import utc


if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_ROW_BYTES = 64  # about what a parameter, an attribute's key or a step takes in a message
_LARGEST = 256 << 20  # bytes that one trial may add to a message, which holds less than 1 GiB


class LiveTrial:
    """Holds a trial, and what of it the writer has not been told.

    Args:
        trial: The trial; it belongs to this object from now on.
        identity: The database's id if its row is there already; all that the trial holds is
            written, then.

    Attributes:
        trial: The trial.
        identity: The database's id, as far as it is known.
        began: When this process heard of it, on the clock ``time.monotonic``.
        size: About how many bytes the writer has not been told.

    Raises:
        TypeError: If the trial holds what JSON cannot.
    """

    __slots__ = (
        "_params", "_steps", "_system", "_user", "_values", "began", "identity", "size", "trial",
    )  # fmt: skip

    def __init__(self, trial: FrozenTrial, identity: int | None = None) -> None:
        self.trial = trial
        self.identity = identity
        self.began = time.monotonic()
        self.size = 0
        self._params: list[tuple[str, float, str]] = []
        self._user: dict[str, str] = {}
        self._system: dict[str, str] = {}
        self._steps: dict[int, float] = {}
        self._values: list[float] | None = None
        if identity is None:
            self._note_all(trial)

    def set_param(self, name: str, internal: float, distribution: BaseDistribution) -> None:
        """Set a parameter; ``TypeError`` if its choices are nothing that JSON can hold."""
        internal = float(internal)
        text = _distribution_json(name, distribution)
        self.trial.params[name] = distribution.to_external_repr(internal)
        self.trial.distributions[name] = distribution
        self._params.append((name, internal, text))
        self.size += _ROW_BYTES

    def set_user_attribute(self, key: str, value: Any) -> None:
        """Set a user attribute; ``TypeError`` if JSON cannot hold it, ``ValueError`` if huge."""
        text = _json(value)
        self._grow(len(text) + _ROW_BYTES)
        self._user[key] = text
        self.trial.user_attrs[key] = value

    def set_system_attribute(self, key: str, value: Any) -> None:
        """Set a system attribute; likewise."""
        text = _json(value)
        self._grow(len(text) + _ROW_BYTES)
        self._system[key] = text
        self.trial.system_attrs[key] = value

    def report(self, step: int, value: float) -> None:
        """Note a value reported by the objective."""
        self.trial.intermediate_values[step] = value
        self._steps[step] = value
        self.size += _ROW_BYTES

    def set_values(self, values: list[float]) -> None:
        """Set the objective values."""
        self.trial.values = values
        self._values = values

    def hear(self, change: Change) -> None:
        """Take in what a child process has told of the trial, to tell it again as this one's."""
        for name, internal, text in change.params:
            self.set_param(name, internal, distribution_of(text))
        for key, value in change.user.items():
            self.set_user_attribute(key, json.loads(value))
        for key, value in change.system.items():
            self.set_system_attribute(key, json.loads(value))
        for step, reported in change.steps:
            self.report(step, reported)
        if change.values is not None:
            self.set_values(change.values)
        state = TrialState[change.state]
        if state.is_finished():
            self.trial.state = state
            self.trial.datetime_complete = local(datetime.fromisoformat(change.complete or ""))

    def forget_changes(self) -> None:
        """Count all that is known of the trial as told."""
        self._params, self._steps, self._user, self._system = [], {}, {}, {}
        self._values, self.size = None, 0

    def take_change(self, distributions: dict[str, int]) -> list[Any]:
        """Return what the writer has not been told, packed; it counts as told from now on.

        Args:
            distributions: The distributions of the message so far with their indices; those of
                this trial are added.
        """
        trial = self.trial
        params = [
            (name, internal, distributions.setdefault(text, len(distributions)))
            for name, internal, text in self._params
        ]
        change = Change(
            trial.number, self.identity, trial.state.name,
            utc(trial.datetime_start), utc(trial.datetime_complete),
            params, self._values, self._user, self._system, list(self._steps.items()),
        )  # fmt: skip
        self.forget_changes()
        return change.pack()

    def _grow(self, n_bytes: int) -> None:
        """Count bytes that are still to be told; ``ValueError`` if no message would hold them."""
        size = self.size + n_bytes
        if size > _LARGEST:
            raise ValueError(
                f"The attributes that a trial sets between two flushes must be at most "
                f"{_LARGEST >> 20} MiB as JSON, but these would be {size >> 20} MiB."
            )
        self.size = size

    def _note_all(self, trial: FrozenTrial) -> None:
        self._params = [
            (
                name,
                distribution.to_internal_repr(trial.params[name]),
                _distribution_json(name, distribution),
            )
            for name, distribution in trial.distributions.items()
        ]
        self._user = {key: _json(value) for key, value in trial.user_attrs.items()}
        self._system = {key: _json(value) for key, value in trial.system_attrs.items()}
        self._steps = {int(s): float(value) for s, value in trial.intermediate_values.items()}
        self._values = trial.values and [float(value) for value in trial.values]
        n_rows = len(self._params) + len(self._steps)
        texts = (*self._user.values(), *self._system.values())
        self._grow(_ROW_BYTES * (n_rows + len(texts)) + sum(map(len, texts)))


def copy_trial(trial: FrozenTrial) -> FrozenTrial:
    """Return a copy whose own containers may be changed; faster than ``copy.deepcopy``."""
    twin = FrozenTrial.__new__(FrozenTrial)
    twin.__dict__.update(trial.__dict__)
    twin.params = trial.params.copy()
    twin.distributions = trial.distributions.copy()
    twin.user_attrs = trial.user_attrs.copy()
    twin.system_attrs = trial.system_attrs.copy()
    twin.intermediate_values = trial.intermediate_values.copy()
    return twin


def _json(value: Any) -> str:
    """Return a value as JSON; an integer, as most attributes of ours are, at once.

    Raises:
        TypeError: If JSON cannot hold the value.
    """
    return repr(value) if type(value) is int else json.dumps(value)


def _distribution_json(name: str, distribution: BaseDistribution) -> str:
    """Return a distribution as JSON; ``TypeError`` with the parameter's name if JSON cannot."""
    try:
        return distribution_json(distribution)
    except TypeError as error:
        raise TypeError(
            f"The choices of parameter {name!r} cannot be stored in a database: {error}"
        ) from error
