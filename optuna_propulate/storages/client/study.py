"""What a process knows of a study: which trials are its own, who waits, which is the best."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.study import StudyDirection

from optuna_propulate.storages.client.live import copy_trial
from optuna_propulate.storages.client.waiting import WaitingTrials


if TYPE_CHECKING:
    from typing import Any

    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from optuna_propulate.storages.client.cache import TrialCache

ALIASES = 1 << 40
"""Ids from here on are no database's, but those of trials that this process has started."""

_NUMBERS = 1 << 32  # how many trials of a study can have an alias


class StudyView:
    """Holds what this process knows of a study.

    Args:
        study_id: The study's id.
        place: Its place among the studies that this process knows.
        directions: Its directions.

    Attributes:
        name: Its name, once trials are added.
        base: The number of the job's first trial; ``None`` before the job adds trials.
        counter: The counter of its trials.
        distributions: The distribution of each parameter, as far as this process has seen it.
        attributes: When the attributes of a kind were read, and what they were.
        waiting: The trials that anybody may take up.
        best: The best trial.
        cache: The trials of others; ``None`` before somebody asks for them.
    """

    def __init__(self, study_id: int, place: int, directions: list[StudyDirection]) -> None:
        self.study_id, self.place, self.directions = study_id, place, directions
        self.name = ""
        self.base: int | None = None
        self.counter = 0
        self.distributions: dict[str, BaseDistribution] = {}
        self.attributes: dict[str, tuple[float, dict[str, Any]]] = {}
        self.waiting = WaitingTrials()
        self.best: FrozenTrial | None = None
        self.cache: TrialCache | None = None
        self._first_alias = ALIASES + place * _NUMBERS
        self._own = bytearray()  # a bit a trial, as a job may run millions
        self._sign = -1.0 if directions[0] == StudyDirection.MAXIMIZE else 1.0

    @property
    def has_begun(self) -> bool:
        """Whether this process may add trials."""
        return self.base is not None

    def alias(self, number: int) -> int:
        """Return the id by which this process knows a trial that it has started."""
        return self._first_alias + number

    def number_of(self, alias: int) -> int | None:
        """Return the number of the trial with this alias; ``None`` if it is another study's."""
        number = alias - self._first_alias
        return number if 0 <= number < _NUMBERS else None

    def own(self, number: int) -> None:
        """Note that this process has started the trial with this number."""
        byte = number >> 3
        if byte >= len(self._own):
            self._own.extend(bytes(byte + 1024 - len(self._own)))
        self._own[byte] |= 1 << (number & 7)

    def disown(self, number: int) -> None:
        """Note that the trial is the database's."""
        self._own[number >> 3] &= ~(1 << (number & 7))

    def is_own(self, number: int) -> bool:
        """Tell whether this process has started the trial with this number."""
        byte = number >> 3
        return 0 <= byte < len(self._own) and bool(self._own[byte] >> (number & 7) & 1)

    def note_if_best(self, trial: FrozenTrial) -> None:
        """Remember a complete trial if it is better than all before."""
        if self.best is None or self._rank(trial) < self._rank(self.best):
            self.best = copy_trial(trial)

    def _rank(self, trial: FrozenTrial) -> tuple[float, int]:
        assert trial.values is not None
        return self._sign * trial.values[0], trial.number
