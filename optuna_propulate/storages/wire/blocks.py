"""Which trial numbers a job may use: all from one on while it is alone, else blocks of them.

The ranks of a job count its trials with one counter. What that counter gives is a trial's
*index* in the job. While no other job adds trials to the study, the number is the index and the
number of the job's first trial. As soon as another one comes, the counter jumps to ``SHARED``,
and the indices from there on have the numbers of blocks that the writer claims in the database.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Sequence

SHARED = 1 << 31
"""Indices from here on are of trials that were started while other jobs add some, too."""

Block = tuple[int, int, int]
"""Index and number of its first trial, and how many there are."""


class Numbers:
    """Maps the indices of a job's trials to their numbers, and back.

    Args:
        base: The number of the trial with index 0.
        blocks: The blocks that are known already.

    Attributes:
        n_last: How many trials the block has that was added last.
    """

    def __init__(self, base: int, blocks: Sequence[Block] = ()) -> None:
        self.base = base
        self._indices: list[int] = []
        self._numbers: list[int] = []
        self._ends: list[int] = []  # the first index after each block
        self.n_last = 0
        for block in blocks:
            self.add(*block)

    @property
    def blocks(self) -> list[Block]:
        """All blocks, in the order of their indices, which is that of their numbers."""
        return [
            (index, number, end - index)
            for index, number, end in zip(self._indices, self._numbers, self._ends, strict=True)
        ]

    @property
    def end(self) -> int:
        """The first index that has no number yet."""
        return self._ends[-1] if self._ends else SHARED

    def add(self, index: int, number: int, n: int) -> None:
        """Note a block; one that is known already changes nothing."""
        place = bisect_right(self._indices, index)
        if place and index < self._ends[place - 1]:
            return
        self.n_last = n
        if place == len(self._ends) and place and self._follows(index, number):
            self._ends[-1] = index + n
            return
        self._indices.insert(place, index)
        self._numbers.insert(place, number)
        self._ends.insert(place, index + n)

    def _follows(self, index: int, number: int) -> bool:
        n = self._ends[-1] - self._indices[-1]
        return index == self._ends[-1] and number == self._numbers[-1] + n

    def number_of(self, index: int) -> int | None:
        """Return the number of a trial; ``None`` if its block is not known."""
        if index < SHARED:
            return self.base + index
        place = bisect_right(self._indices, index) - 1
        if place < 0 or index >= self._ends[place]:
            return None
        return self._numbers[place] + index - self._indices[place]

    def holds(self, number: int, closed_at: int | None) -> bool:
        """Tell whether a trial is this job's.

        Args:
            number: The trial's number.
            closed_at: The index of the first trial that was started beside other jobs; ``None``
                if the job has never been alone.
        """
        index = self.index_of(number)
        return index is not None and (index >= SHARED or index < (closed_at or 0))

    def index_of(self, number: int) -> int | None:
        """Return the index of a trial of this job, if it is one; ``None`` if it cannot be."""
        place = bisect_right(self._numbers, number) - 1
        if place >= 0:
            index = self._indices[place] + number - self._numbers[place]
            if index < self._ends[place]:
                return index
        return number - self.base if number >= self.base else None
