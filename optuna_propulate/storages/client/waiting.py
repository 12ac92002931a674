"""Waiting trials: those that anybody may take up, each read once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna_propulate._optuna_compat import trial_id_of


if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Mapping

    from optuna.trial import FrozenTrial


class WaitingTrials:
    """Holds the numbers of the trials of a study that wait, and those that were read.

    A trial is read again once somebody takes it up, so what is kept here may be old.
    """

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._trials: dict[int, FrozenTrial] = {}
        self._is_sorted = True

    def add(self, numbers: Mapping[int, int]) -> None:
        """Note that trials wait: their numbers by id."""
        for identity, number in numbers.items():
            if self._numbers.get(identity) != number:
                self._trials.pop(identity, None)
        self._numbers.update(numbers)
        self._is_sorted = False

    def replace(self, numbers: Mapping[int, int]) -> None:
        """Note that these trials wait, and no others."""
        for identity in self._numbers.keys() - numbers.keys():
            self.remove(identity)
        self.add(numbers)

    def remove(self, identity: int) -> None:
        """Note that a trial does not wait any more."""
        self._numbers.pop(identity, None)
        self._trials.pop(identity, None)

    def read(self, trials: Iterable[FrozenTrial]) -> None:
        """Keep trials that were read."""
        self._trials.update((trial_id_of(trial), trial) for trial in trials)

    def expire(self) -> None:
        """Let all trials be read again."""
        self._trials.clear()

    @property
    def unread(self) -> list[int]:
        """The ids of those that are to be read."""
        return [identity for identity in self._numbers if identity not in self._trials]

    def in_order(self) -> list[FrozenTrial]:
        """Return those that were read, in the order of their numbers."""
        if not self._is_sorted:
            by_number = sorted(self._numbers.items(), key=lambda item: item[1])
            self._numbers, self._is_sorted = dict(by_number), True
        return [self._trials[i] for i in self._numbers if i in self._trials]

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, identity: int) -> bool:
        return identity in self._numbers
