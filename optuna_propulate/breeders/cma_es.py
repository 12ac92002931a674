"""Covariance matrix adaptation: offspring from a normal distribution that follows the births."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from optuna_propulate.breeders.context import BreedingContext
from optuna_propulate.breeders.normal_distribution import AdaptiveNormal
from optuna_propulate.breeders.normal_distribution import generation_size
from optuna_propulate.evolution.ranking import by_loss
from optuna_propulate.operators.base import Operator
from optuna_propulate.operators.base import offspring


if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from optuna_propulate.breeders.context import Birth
    from optuna_propulate.breeders.gene_matrix import GeneMatrix
    from optuna_propulate.evolution.individual import Individual

_TOP = 20
_N_REDRAWN = 10


@dataclass(frozen=True)
class CovarianceSampling:
    """Draws the ordered genes from a normal distribution adapted as in CMA-ES.

    The births that such draws led to, on whichever worker of the island, and those of other
    operators that are among the best, make up the generations that the distribution learns from.
    It starts around the best quarter of the pool, and anew when it has converged or a new gene
    turns up. Categories come from one of the best of the pool; one in ten is drawn anew.

    Args:
        otherwise: What makes the offspring if no gene is ordered.
        n_births: How many births make a generation at least; the dimension may ask for more.
        sigma: The width that the distribution starts with, as a fraction of the range; above 0.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Hansen, The CMA evolution strategy: a tutorial, arXiv:1604.00772; Hansen, Injecting
        external solutions into CMA-ES, arXiv:1110.4181.
    """

    otherwise: Operator
    n_births: int = 4
    sigma: float = 0.2

    def __post_init__(self) -> None:
        if self.n_births < 4:
            raise ValueError(f"n_births must be at least 4, but got {self.n_births}.")
        if not self.sigma > 0.0:
            raise ValueError(f"sigma must be above 0, but got {self.sigma}.")

    def __call__(
        self, individuals: Sequence[Individual], rng: np.random.Generator
    ) -> Sequence[Individual]:
        context = BreedingContext.of(individuals)
        matrix, ordered = context.matrix, context.matrix.ordered
        if not len(context) or not len(ordered):
            return self.otherwise(individuals, rng)
        follower = context.recall(self, lambda: Follower(matrix, self.n_births))
        if not follower.is_ready:
            pool = matrix.rows(context[: max(3, len(context) // 4)])[:, ordered]
            follower.start(pool, ordered, self.sigma)
        parent = context[int(rng.random(3).min() * len(context))]
        child = matrix.row(parent)
        if len(ordered) < matrix.n_columns:
            redrawn = matrix.is_category & ~np.isnan(child) & (rng.random(len(child)) < 0.1)
            child[redrawn] = rng.random(int(redrawn.sum()))
        child[ordered] = follower.draw(rng)
        return [offspring(matrix.genes(child), [parent], type(self).__name__)]


class Follower:
    """A normal distribution that follows the births that one worker hears of.

    Args:
        matrix: The columns of the births' genes.
        n_births: How many births make a generation at least.
    """

    def __init__(self, matrix: GeneMatrix, n_births: int) -> None:
        self._matrix, self._n_births = matrix, n_births
        self._normal: AdaptiveNormal | None = None
        self._ordered: NDArray[np.intp] = np.zeros(0, dtype=np.intp)
        self._n_columns = self._size = 0
        self._generation: list[Individual] = []

    @property
    def is_ready(self) -> bool:
        """Whether there is a distribution over all genes that has not converged."""
        return (
            self._normal is not None
            and self._n_columns == self._matrix.n_columns
            and not self._normal.has_converged
        )

    def start(self, pool: NDArray[np.float64], ordered: NDArray[np.intp], sigma: float) -> None:
        """Begin at the mean of some individuals' ordered genes, shape ``(n, n_ordered)``."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing but NaN
            mean = np.nanmean(pool, axis=0)
        self._normal = AdaptiveNormal(np.where(np.isnan(mean), 0.5, mean), sigma)
        self._n_columns, self._ordered = self._matrix.n_columns, ordered
        self._size = max(self._n_births, generation_size(len(ordered)))
        self._generation.clear()

    def draw(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw ordered genes, shape ``(n_ordered,)``, again where a bound was crossed."""
        assert self._normal is not None
        for _ in range(_N_REDRAWN):
            drawn = self._normal.draw(rng)
            units = drawn.tolist()  # of the few genes that there are, at half the time
            if min(units) >= 0.0 and max(units) <= 1.0:
                return drawn
        return np.clip(drawn, 0.0, 1.0)

    def hear(self, birth: Birth) -> None:
        own = CovarianceSampling.__name__ in birth.individual.lineage.operators
        if self._normal is None or not (own or birth.rank < _TOP):
            return
        if self._n_columns != self._matrix.n_columns:
            return
        self._generation.append(birth.individual)
        if len(self._generation) >= self._size:
            ranked = sorted(self._generation, key=by_loss)
            self._normal.learn(self._matrix.rows(ranked)[:, self._ordered])
            self._generation.clear()
