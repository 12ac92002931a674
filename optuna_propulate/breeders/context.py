"""What a worker knows when it breeds."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING
from typing import Any

from optuna_propulate.breeders.base import Evaluation
from optuna_propulate.breeders.gene_matrix import GeneMatrix
from optuna_propulate.evolution.ranking import by_loss


if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna_propulate.evolution.individual import Individual
    from optuna_propulate.evolution.ranking import Ranking

_RANKED = 64  # among how many of the best evaluations ranks are told apart


class BreedingContext:
    """What a worker knows when it breeds, the same for all of its breeders.

    Args:
        pool: The breeding pool, best first.
        ranking: Which individual is better.

    Attributes:
        pool: The breeding pool, best first.
        pending: Offspring of this worker's process that are being evaluated.
        matrix: The genes that any individual heard of has.
    """

    def __init__(self, pool: Sequence[Individual] = (), ranking: Ranking = by_loss) -> None:
        self.pool: Sequence[Individual] = ()
        self.pending: Sequence[Individual] = ()
        self.matrix = GeneMatrix()
        self._ranking = ranking
        self._best: list[Any] = []  # keys
        self.look_at(pool)

    def look_at(self, pool: Sequence[Individual], pending: Sequence[Individual] = ()) -> None:
        """Take over the pool and the pending offspring of now, with genes not heard of before."""
        looked_at = pending if pool == self.pool else (*pool, *pending)
        self.pool, self.pending = pool, pending
        seen: tuple[str, ...] | None = None
        for individual in looked_at:
            if individual.names is not seen:
                seen = individual.names
                self.matrix.admit(individual)

    def evaluated(self, individual: Individual) -> Evaluation:
        """Take in an individual that was evaluated; return it with its rank."""
        key = self._ranking(individual)
        rank = bisect_left(self._best, key)
        self._best.insert(rank, key)
        del self._best[_RANKED:]
        self.matrix.include(individual)
        return Evaluation(individual, rank)
