"""The individuals that one worker owns, and which of them its peers were told of."""

from __future__ import annotations

from heapq import merge
from typing import TYPE_CHECKING
from typing import Any

from optuna_propulate.evolution.population import Population
from optuna_propulate.evolution.ranking import by_loss


if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna_propulate.evolution.individual import Individual
    from optuna_propulate.evolution.individual import IndividualId
    from optuna_propulate.evolution.ranking import Ranking


class OwnedIndividuals:
    """Holds the best individuals that a worker owns, and lets go of the others.

    Each is either offered, so the peers know of it, or a reserve, which only the owner knows.
    More than ``2 * pool_size`` are never held: the worst of them are forgotten. A forgotten one
    stays active, but is never needed again: whatever the owner holds is better, and at least
    ``pool_size`` of these stay (``n_spare``), enough to fill the breeding pool.

    Args:
        pool_size: The size of the breeding pool.
        ranking: Which individual is better.
    """

    def __init__(self, pool_size: int, ranking: Ranking = by_loss) -> None:
        self._pool_size = pool_size
        self._ranking = ranking
        self._offered, self._reserves = Population(ranking), Population(ranking)
        self._horizon: Any = None  # the key of the best that was ever forgotten

    @property
    def n_spare(self) -> int:
        """How many may be given up."""
        return len(self) - (0 if self._horizon is None else self._pool_size)

    def keeps(self, individual: Individual) -> bool:
        """Tell whether an individual would be held, or forgotten at once."""
        return self._horizon is None or bool(self._ranking(individual) < self._horizon)

    def add(self, individual: Individual, *, offered: bool = False) -> None:
        """Add an individual that is active on this island by now; ``overflow`` must follow."""
        (self._offered if offered else self._reserves).add(individual)

    def give_up(self, identity: IndividualId) -> bool:
        """Remove an individual that is held; return whether it was offered."""
        offered = identity in self._offered
        (self._offered if offered else self._reserves).remove(identity)
        return offered

    def offer(self, individual: Individual) -> None:
        """Turn a reserve into one that is offered."""
        self._reserves.remove(individual.id)
        self._offered.add(individual)

    def withdraw(self, individual: Individual) -> None:
        """Turn an offered individual back into a reserve."""
        self._offered.remove(individual.id)
        self._reserves.add(individual)

    def overflow(self) -> list[tuple[IndividualId, bool]]:
        """Forget who is too much; return their ids, and whether each was offered."""
        forgotten = []
        while len(self) and (len(self) > 2 * self._pool_size or not self.keeps(self._worst())):
            worst = self._worst()
            forgotten.append((worst.id, self.give_up(worst.id)))
            if self.keeps(worst):
                self._horizon = self._ranking(worst)
        return forgotten

    @property
    def best_reserve(self) -> Individual | None:
        """The best individual that the peers were not told of."""
        return next(iter(self._reserves.best(1)), None)

    @property
    def worst_offered(self) -> Individual | None:
        """The worst individual that the peers were told of."""
        return self._offered.worst() if len(self._offered) else None

    def __contains__(self, identity: IndividualId) -> bool:
        return identity in self._offered or identity in self._reserves

    def __len__(self) -> int:
        return len(self._offered) + len(self._reserves)

    def __iter__(self) -> Iterator[Individual]:
        return merge(self._offered, self._reserves, key=self._ranking)

    def _worst(self) -> Individual:
        ends = [part.worst() for part in (self._offered, self._reserves) if len(part)]
        return max(ends, key=self._ranking)
