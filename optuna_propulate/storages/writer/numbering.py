"""Trial numbers: dense and unique at every instant, though others add trials in between.

Of a job that is alone the numbering is *open*: workers claim numbers from a counter and go on;
their rows are written later. Another client of the database, which knows nothing of that, gives
its trial the number of rows that it sees: one that was claimed already. Such a trial *floats*: it
keeps the highest number, above all that are written, until a number has been claimed for it from
the same counter, which it keeps for good.

Several jobs share a study once the numbering of each is closed: then no number is used before it
has a row, which is inserted under the study's lock, as any other client does it. Nothing floats.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from dataclasses import field
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass
class Plan:
    """What a transaction has to do, so that numbers stay dense.

    Args:
        inserted: The numbers to insert rows for, ascending; some may be of trials that are claimed
            but not told of yet.
        renumbered: The number of each row to be renumbered, by its id.
        settled: The rows, by id, that have got their number for good, with that.
        deleted: The numbers whose rows of ours are to be deleted first: they were inserted for
            trials that nobody had told of, and turned out to be claimed for floating rows.
    """

    inserted: list[int] = field(default_factory=list)
    deleted: list[int] = field(default_factory=list)
    renumbered: dict[int, int] = field(default_factory=dict)
    settled: dict[int, int] = field(default_factory=dict)


class Numbering:
    """Holds which numbers of a study have rows, and which rows float.

    Args:
        n_rows: How many rows there are; they are numbered densely from 0.
        is_open: Whether numbers are claimed before they have rows.
    """

    def __init__(self, n_rows: int, *, is_open: bool = True) -> None:
        self.is_open = is_open
        self._next = n_rows
        self._floating: deque[int] = deque()
        self._claimed: set[int] = set()

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return self._next + len(self._floating)

    @property
    def n_settled(self) -> int:
        """How many rows keep their numbers for good: those with the lowest."""
        return self._next

    @property
    def n_unclaimed(self) -> int:
        """How many rows float without a number being claimed for them."""
        return len(self._floating) - len(self._claimed)

    @property
    def floating(self) -> list[int]:
        """The ids of the rows that float, in the order of their numbers."""
        return list(self._floating)

    @property
    def claims(self) -> list[int]:
        """The numbers that were claimed and that no floating row has got yet."""
        return sorted(self._claimed)

    def has_row(self, number: int) -> bool:
        """Tell whether one of ours has a row with this number."""
        return number < self._next

    def found(self, identity: int) -> None:
        """Note a row that somebody else has added: it floats if the numbering is open."""
        if self.is_open:
            self._floating.append(identity)
        else:
            self._next += 1

    def close(self) -> None:
        """Let every row keep its number: each number that was ever claimed has one."""
        self.is_open = False
        self._next += len(self._floating)
        self._floating.clear()
        self._claimed.clear()

    def take(self, n: int) -> range:
        """Return the numbers of rows that are inserted now, once the numbering is closed."""
        self._next += n
        return range(self._next - n, self._next)

    def claimed(self, numbers: Iterable[int]) -> None:
        """Note numbers that were claimed for floating rows; too late once nothing floats."""
        if self.is_open:
            self._claimed.update(numbers)

    def plan(self, told: Iterable[int]) -> Plan:
        """Return what a transaction has to do, and assume that it will be done.

        Args:
            told: The numbers of the trials that are to be written.
        """
        plan, before = Plan(), self._next
        floated = {identity: before + place for place, identity in enumerate(self._floating)}
        end = max((*told, *self._claimed, before - 1)) + 1
        plan.deleted = sorted(number for number in self._claimed if number < before)
        del plan.deleted[len(self._floating) :]  # claimed twice, as a rank died over it
        for number in plan.deleted:
            plan.settled[self._floating.popleft()] = number
        for number in range(before, end):
            if number in self._claimed and self._floating:
                plan.settled[self._floating.popleft()] = number
            else:
                plan.inserted.append(number)
        self._claimed.clear()
        self._next = end
        numbers = {identity: end + place for place, identity in enumerate(self._floating)}
        numbers.update(plan.settled)
        plan.renumbered = {i: number for i, number in numbers.items() if number != floated[i]}
        return plan
