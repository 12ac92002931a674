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
        self.n_last = 0
        # First index, first number and first index after it of each block; replaced as
        # a whole, as one thread hears of blocks while another one looks numbers up.
        self._table: tuple[list[int], list[int], list[int]] = [], [], []
        for block in blocks:
            self.add(*block)

    @property
    def blocks(self) -> list[Block]:
        """All blocks, in the order of their indices, which is that of their numbers."""
        return [
            (index, number, end - index) for index, number, end in zip(*self._table, strict=True)
        ]

    @property
    def end(self) -> int:
        """The first index that has no number yet."""
        ends = self._table[2]
        return ends[-1] if ends else SHARED

    def add(self, index: int, number: int, n: int) -> None:
        """Note a block; one that is known already changes nothing."""
        indices, numbers, ends = map(list, self._table)
        place = bisect_right(indices, index)
        if place and index < ends[place - 1]:
            return
        self.n_last = n
        follows = place and index == ends[-1] and number == numbers[-1] + index - indices[-1]
        if follows:
            ends[-1] += n
        else:
            indices.insert(place, index)
            numbers.insert(place, number)
            ends.insert(place, index + n)
        self._table = indices, numbers, ends

    def number_of(self, index: int) -> int | None:
        """Return the number of a trial; ``None`` if its block is not known."""
        if index < SHARED:
            return self.base + index
        indices, numbers, ends = self._table
        place = bisect_right(indices, index) - 1
        if place < 0 or index >= ends[place]:
            return None
        return numbers[place] + index - indices[place]

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
        indices, numbers, ends = self._table
        place = bisect_right(numbers, number) - 1
        if place >= 0:
            index = indices[place] + number - numbers[place]
            if index < ends[place]:
                return index
        return number - self.base if number >= self.base else None
