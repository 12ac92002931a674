"""The population: the individuals that a worker knows of, always in order."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING
from typing import Any

from optuna_propulate.evolution.ranking import by_loss


if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna_propulate.evolution.individual import Individual
    from optuna_propulate.evolution.individual import IndividualId
    from optuna_propulate.evolution.ranking import Ranking


class Population:
    """Holds individuals from best to worst, each as often as it was added and not removed.

    What it holds depends on how often each individual was added and removed, not on the order:
    a removal may come before the addition that it undoes. Two workers that were told the same
    hold the same, and what is gone takes no memory. An individual is counted once, however
    often it was added. Adding and removing cost O(log n) comparisons.

    Args:
        ranking: Which individual is better.
    """

    def __init__(self, ranking: Ranking = by_loss) -> None:
        self._ranking = ranking
        self._keys: list[Any] = []
        self._ranked: list[Individual] = []  # in the order of the keys
        self._members: dict[IndividualId, Individual] = {}
        self._balance: dict[IndividualId, int] = {}  # additions minus removals, where not 0

    def add(self, individual: Individual) -> None:
        """Add an evaluated individual."""
        identity = individual.id
        balance = self._account(identity, 1)
        if balance >= 1 and identity not in self._members:
            place = self.rank(individual)
            self._keys.insert(place, self._ranking(individual))
            self._ranked.insert(place, individual)
            self._members[identity] = individual

    def remove(self, identity: IndividualId) -> None:
        """Undo one addition of an individual, made already or still to come."""
        balance = self._account(identity, -1)
        if balance <= 0 and identity in self._members:
            place = self.rank(self._members.pop(identity))
            del self._keys[place], self._ranked[place]

    def rank(self, individual: Individual) -> int:
        """Return how many members are better."""
        return bisect_left(self._keys, self._ranking(individual))

    def best(self, n: int) -> list[Individual]:
        """Return the best ``n`` members, or all if there are fewer, best first."""
        return self._ranked[:n]

    def worst(self) -> Individual:
        """Return the worst member.

        Raises:
            IndexError: If there is none.
        """
        return self._ranked[-1]

    def __contains__(self, identity: IndividualId) -> bool:
        return identity in self._members

    def __len__(self) -> int:
        return len(self._ranked)

    def __iter__(self) -> Iterator[Individual]:
        return iter(self._ranked.copy())

    def _account(self, identity: IndividualId, change: int) -> int:
        balance = self._balance.pop(identity, 0) + change
        if balance:
            self._balance[identity] = balance
        return balance
