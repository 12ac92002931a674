"""The population: the individuals that a worker knows of, always in order."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna_propulate.evolution.individual import Individual
    from optuna_propulate.evolution.individual import RankKey


class Population:
    """Holds individuals from best to worst, each as often as it was added and not removed.

    What it holds depends on how often each individual was added and removed, not on the order:
    a removal may come before the addition that it undoes. Two workers that were told the same
    hold the same, and what is gone takes no memory. An individual is counted once, however
    often it was added. Adding and removing cost O(log n) comparisons.
    """

    def __init__(self) -> None:
        self._keys: list[RankKey] = []
        self._members: dict[RankKey, Individual] = {}
        self._balance: dict[RankKey, int] = {}  # additions minus removals, where not 0

    def add(self, individual: Individual) -> None:
        """Add an evaluated individual."""
        key = individual.rank_key
        balance = self._account(key, 1)
        if balance >= 1 and key not in self._members:
            self._keys.insert(bisect_left(self._keys, key), key)
            self._members[key] = individual

    def remove(self, key: RankKey) -> None:
        """Undo one addition of the individual with this key, made already or still to come."""
        balance = self._account(key, -1)
        if balance <= 0 and key in self._members:
            del self._keys[bisect_left(self._keys, key)]
            del self._members[key]

    def rank(self, key: RankKey) -> int:
        """Return how many members are better."""
        return bisect_left(self._keys, key)

    def best(self, n: int) -> list[Individual]:
        """Return the best ``n`` members, or all if there are fewer, best first."""
        return [self._members[key] for key in self._keys[:n]]

    def worst(self) -> Individual:
        """Return the worst member.

        Raises:
            IndexError: If there is none.
        """
        return self._members[self._keys[-1]]

    def __contains__(self, key: RankKey) -> bool:
        return key in self._members

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Individual]:
        return iter(self.best(len(self)))

    def _account(self, key: RankKey, change: int) -> int:
        balance = self._balance.pop(key, 0) + change
        if balance:
            self._balance[key] = balance
        return balance
