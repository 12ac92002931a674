"""The population: the best individuals that a worker has heard of, always in order."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna_propulate.individual import Individual


class Population:
    """Holds the best ``capacity`` of all individuals ever added, ordered from best to worst.

    What it holds depends on the set of individuals added, not on their order: two workers that
    heard of the same individuals hold the same population. Adding costs O(log capacity)
    comparisons, whatever the number of individuals that went before.

    Args:
        capacity: How many individuals are kept; at least 1.

    Raises:
        ValueError: If ``capacity`` is below 1.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, but got {capacity}.")
        self.capacity = capacity
        self._individuals: list[Individual] = []
        self._keys: list[tuple[float, float, int, int]] = []

    def add(self, individual: Individual) -> bool:
        """Add an individual, and let go of the worst one if there are too many.

        Args:
            individual: An evaluated individual; one that is present already is ignored.

        Returns:
            Whether the individual is a new member.
        """
        key = individual.rank_key
        place = bisect_left(self._keys, key)
        if place == self.capacity or (place < len(self._keys) and self._keys[place] == key):
            return False
        self._keys.insert(place, key)
        self._individuals.insert(place, individual)
        if len(self._keys) > self.capacity:
            self._keys.pop()
            self._individuals.pop()
        return True

    def best(self, n: int) -> list[Individual]:
        """Return the best ``n`` individuals, or all if there are fewer, best first."""
        return self._individuals[:n]

    def __len__(self) -> int:
        return len(self._individuals)

    def __iter__(self) -> Iterator[Individual]:
        return iter(self._individuals)
