"""What a process knows of a study: which trials are its own, who waits, which is the best."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from optuna.study import StudyDirection

from optuna_propulate.storages.client.live import copy_trial
from optuna_propulate.storages.client.waiting import WaitingTrials
from optuna_propulate.storages.wire.blocks import SHARED


if TYPE_CHECKING:
    from typing import Any

    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from optuna_propulate.storages.client.cache import TrialCache
    from optuna_propulate.storages.client.others import TrialsOfOthers
    from optuna_propulate.storages.wire.blocks import Numbers

ALIASES = 1 << 40
"""Ids from here on are no database's, but those of trials that this process has started."""

_NUMBERS = 2 * SHARED  # how many trials of a study can have an alias


class StudyFullError(Exception):
    """The study has as many trials as it shall have."""


class StudyView:
    """Holds what this process knows of a study.

    Args:
        study_id: The study's id.
        place: Its place among the studies that this process knows.
        directions: Its directions.

    Attributes:
        name: Its name, once trials are added.
        numbers: The numbers of the job's trials; ``None`` before the job adds trials.
        counter: The counter of its trials.
        n_total: How many trials the study shall have; ``None`` for no limit.
        refused: The indices of trials that were not started, as there were so many.
        is_late: Whether other jobs were there when the job began.
        first_worker: The first of the numbers by which the job's workers are known.
        asked_at: Up to which index the writer was asked for numbers ahead.
        distributions: The distribution of each parameter, as far as this process has seen it.
        attributes: When the attributes of a kind were read, and what they were.
        waiting: The trials that anybody may take up.
        best: The best trial.
        cache: The trials of others; ``None`` before somebody asks for them.
        others: Those that have finished, while other jobs add trials; ``None`` before.
        others_at: When these are to be looked for again, on the clock ``time.monotonic``.
    """

    def __init__(self, study_id: int, place: int, directions: list[StudyDirection]) -> None:
        self.study_id, self.place, self.directions = study_id, place, directions
        self.name = ""
        self.numbers: Numbers | None = None
        self.counter = 0
        self.n_total: int | None = None
        self.refused: deque[int] = deque()
        self.is_late = False
        self.first_worker = 0
        self.asked_at = 0
        self.distributions: dict[str, BaseDistribution] = {}
        self.attributes: dict[str, tuple[float, dict[str, Any]]] = {}
        self.waiting = WaitingTrials()
        self.best: FrozenTrial | None = None
        self.cache: TrialCache | None = None
        self.others: TrialsOfOthers | None = None
        self.others_at = 0.0
        self._first_alias = ALIASES + place * _NUMBERS
        self._own = bytearray(), bytearray()  # a bit a trial, as a job may run millions
        self._sign = -1.0 if directions[0] == StudyDirection.MAXIMIZE else 1.0

    @property
    def has_begun(self) -> bool:
        """Whether this process may add trials."""
        return self.numbers is not None

    @property
    def base(self) -> int | None:
        """What the writer is told of the job's numbers, should it not know the job.

        The number of the first trial; -1 if the job shares the study; ``None`` if it adds none.
        """
        if self.numbers is None:
            return None
        return -1 if self.is_late or self.numbers.end > SHARED else self.numbers.base

    @property
    def slot(self) -> int:
        """Where the job's trials are counted; the next one says when other jobs came."""
        return 2 * self.counter

    def alias(self, number: int) -> int:
        """Return the id by which this process knows a trial that it has started."""
        index = None if self.numbers is None else self.numbers.index_of(number)
        assert index is not None
        return self._first_alias + index

    def number_of(self, alias: int) -> int | None:
        """Return the number of the trial with this alias; ``None`` if it is another study's."""
        index = alias - self._first_alias
        if self.numbers is None or not 0 <= index < _NUMBERS:
            return None
        return self.numbers.number_of(index)

    def own(self, number: int) -> None:
        """Note that this process has started the trial with this number."""
        bits, byte, bit = self._bit(number)
        if byte >= len(bits):
            bits.extend(bytes(byte + 1024 - len(bits)))
        bits[byte] |= bit

    def disown(self, number: int) -> None:
        """Note that the trial is the database's."""
        bits, byte, bit = self._bit(number)
        bits[byte] &= ~bit

    def is_own(self, number: int) -> bool:
        """Tell whether this process has started the trial with this number."""
        bits, byte, bit = self._bit(number)
        return 0 <= byte < len(bits) and bool(bits[byte] & bit)

    def _bit(self, number: int) -> tuple[bytearray, int, int]:
        """Return where it is kept whether a trial is this process's: bytes, place and bit."""
        index = None if self.numbers is None else self.numbers.index_of(number)
        if index is None:
            return bytearray(), 0, 0
        byte, bit = divmod(index % SHARED, 8)
        return self._own[index >= SHARED], byte, 1 << bit

    def note_if_best(self, trial: FrozenTrial) -> None:
        """Remember a complete trial if it is better than all before."""
        if self.best is None or self._rank(trial) < self._rank(self.best):
            self.best = copy_trial(trial)

    def _rank(self, trial: FrozenTrial) -> tuple[float, int]:
        assert trial.values is not None
        return self._sign * trial.values[0], trial.number
