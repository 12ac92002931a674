"""The individuals that one worker owns, and which of them its peers were told of."""

from __future__ import annotations

from heapq import merge
from typing import TYPE_CHECKING

from optuna_propulate.evolution.population import Population


if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna_propulate.evolution.individual import Individual
    from optuna_propulate.evolution.individual import RankKey


class OwnedIndividuals:
    """Holds the best individuals that a worker owns, and lets go of the others.

    Each is either offered, so the peers know of it, or a reserve, which only the owner knows.
    More than ``2 * pool_size`` are never held: the worst of them are forgotten. A forgotten one
    stays active, but is never needed again: whatever the owner holds is better, and at least
    ``pool_size`` of these stay (``n_spare``), enough to fill the breeding pool.

    Args:
        pool_size: The size of the breeding pool.
    """

    def __init__(self, pool_size: int) -> None:
        self._pool_size = pool_size
        self._offered, self._reserves = Population(), Population()
        self._horizon: RankKey | None = None  # the best that was ever forgotten

    @property
    def n_spare(self) -> int:
        """How many may be given up."""
        return len(self) - (0 if self._horizon is None else self._pool_size)

    def keeps(self, key: RankKey) -> bool:
        """Tell whether an individual with this key would be held, or forgotten at once."""
        return self._horizon is None or key < self._horizon

    def add(self, individual: Individual, *, offered: bool = False) -> None:
        """Add an individual that is active on this island by now; ``overflow`` must follow."""
        (self._offered if offered else self._reserves).add(individual)

    def give_up(self, key: RankKey) -> bool:
        """Remove an individual that is held; return whether it was offered."""
        offered = key in self._offered
        (self._offered if offered else self._reserves).remove(key)
        return offered

    def offer(self, individual: Individual) -> None:
        """Turn a reserve into one that is offered."""
        self._reserves.remove(individual.rank_key)
        self._offered.add(individual)

    def withdraw(self, individual: Individual) -> None:
        """Turn an offered individual back into a reserve."""
        self._offered.remove(individual.rank_key)
        self._reserves.add(individual)

    def overflow(self) -> list[tuple[RankKey, bool]]:
        """Forget what is too much; return the keys, and whether each was offered."""
        forgotten = []
        while len(self) and (
            len(self) > 2 * self._pool_size or not self.keeps(self._worst().rank_key)
        ):
            key = self._worst().rank_key
            forgotten.append((key, self.give_up(key)))
            self._horizon = key if self._horizon is None else min(key, self._horizon)
        return forgotten

    @property
    def best_reserve(self) -> Individual | None:
        """The best individual that the peers were not told of."""
        return next(iter(self._reserves.best(1)), None)

    @property
    def worst_offered(self) -> Individual | None:
        """The worst individual that the peers were told of."""
        return self._offered.worst() if len(self._offered) else None

    def __contains__(self, key: RankKey) -> bool:
        return key in self._offered or key in self._reserves

    def __len__(self) -> int:
        return len(self._offered) + len(self._reserves)

    def __iter__(self) -> Iterator[Individual]:
        return merge(self._offered, self._reserves, key=lambda individual: individual.rank_key)

    def _worst(self) -> Individual:
        ends = [part.worst() for part in (self._offered, self._reserves) if len(part)]
        return max(ends, key=lambda individual: individual.rank_key)
