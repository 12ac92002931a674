"""Covariance matrix adaptation: offspring from a normal distribution that learns."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from optuna_propulate.breeders.base import breeder_of
from optuna_propulate.breeders.litter import Litter
from optuna_propulate.breeders.litter import litter_of
from optuna_propulate.breeders.normal_distribution import AdaptiveNormal
from optuna_propulate.breeders.normal_distribution import generation_size
from optuna_propulate.evolution.arguments import check_integer
from optuna_propulate.evolution.ranking import by_loss


if TYPE_CHECKING:
    from numpy.typing import NDArray

    from optuna_propulate.breeders.base import Breeder
    from optuna_propulate.breeders.base import Evaluation
    from optuna_propulate.breeders.context import BreedingContext
    from optuna_propulate.breeders.gene_matrix import GeneMatrix
    from optuna_propulate.evolution.individual import Individual
    from optuna_propulate.operators import Operator

_TOP = 20
_N_REDRAWN = 10


class CovarianceSampling:
    """Draws the ordered genes from a normal distribution adapted as in CMA-ES.

    The evaluations of such draws, on whichever worker of the island, and those of other ways to
    breed that are among the best, make up the generations that the distribution learns from.
    It starts around the best quarter of the pool, and anew when it has converged or a new gene
    turns up. Categories come from one of the best of the pool; one in ten is drawn anew.

    Args:
        otherwise: The breeder or operator that takes over if no gene is ordered.
        n_births: How many evaluations make a generation at least; the dimension may ask for more.
        sigma: The width that the distribution starts with, as a fraction of the range; above 0.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Hansen, The CMA evolution strategy: a tutorial, arXiv:1604.00772; Hansen, Injecting
        external solutions into CMA-ES, arXiv:1110.4181.
    """

    def __init__(
        self, otherwise: Operator | Breeder, n_births: int = 4, sigma: float = 0.2
    ) -> None:
        check_integer("n_births", n_births, 4)
        if not sigma > 0.0:
            raise ValueError(f"sigma must be above 0, but got {sigma}.")
        self._otherwise = breeder_of(otherwise)
        self._sigma = sigma
        self._follower = Follower(n_births)

    def propose(self, context: BreedingContext, rng: np.random.Generator) -> Individual:
        if not len(context.pool) or not len(context.matrix.ordered):
            return self._otherwise.propose(context, rng)
        return self.litter(context, 1, rng).child(0)

    def litter(self, context: BreedingContext, n: int, rng: np.random.Generator) -> Litter:
        """Return ``n`` offspring side by side."""
        matrix, pool = context.matrix, context.pool
        ordered = matrix.ordered
        if not len(pool) or not len(ordered):
            return litter_of(self._otherwise, context, n, rng)
        if not self._follower.follows(matrix):
            best = matrix.rows(pool[: max(3, len(pool) // 4)])[:, ordered]
            self._follower.start(best, matrix, self._sigma)
        parents = (rng.random((n, 3)).min(axis=1) * len(pool)).astype(int).tolist()
        children = np.empty((n, matrix.n_columns))
        if len(ordered) < matrix.n_columns:
            children = matrix.rows([pool[parent] for parent in parents])
            anew = matrix.is_category & ~np.isnan(children) & (rng.random(children.shape) < 0.1)
            children[anew] = rng.random(int(anew.sum()))
        children[:, ordered] = self._follower.draw(n, rng)
        return Litter.of_parents(
            context, children, lambda index: [pool[parents[index]]], type(self).__name__
        )

    def observe(self, evaluation: Evaluation) -> None:
        self._otherwise.observe(evaluation)
        self._follower.add(evaluation)


class Follower:
    """A normal distribution that follows the evaluations that one worker hears of.

    Args:
        n_births: How many evaluations make a generation at least.
    """

    def __init__(self, n_births: int) -> None:
        self._n_births = n_births
        self._normal: AdaptiveNormal | None = None
        self._matrix: GeneMatrix | None = None
        self._ordered: NDArray[np.intp] = np.zeros(0, dtype=np.intp)
        self._n_columns = self._size = 0
        self._generation: list[Individual] = []

    def follows(self, matrix: GeneMatrix) -> bool:
        """Tell whether there is a distribution over all ordered genes that has not converged."""
        return (
            self._normal is not None
            and self._matrix is matrix
            and self._n_columns == matrix.n_columns
            and not self._normal.has_converged
        )

    def start(self, pool: NDArray[np.float64], matrix: GeneMatrix, sigma: float) -> None:
        """Begin at the mean of some individuals' ordered genes, shape ``(n, n_ordered)``."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing but NaN
            mean = np.nanmean(pool, axis=0)
        self._normal = AdaptiveNormal(np.where(np.isnan(mean), 0.5, mean), sigma)
        self._matrix, self._n_columns, self._ordered = matrix, matrix.n_columns, matrix.ordered
        self._size = max(self._n_births, generation_size(len(self._ordered)))
        self._generation.clear()

    def draw(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw ordered genes, shape ``(n, n_ordered)``, again where a bound was crossed."""
        assert self._normal is not None
        drawn = self._normal.draw(n, rng)
        for _ in range(_N_REDRAWN - 1):
            outside = ((drawn < 0.0) | (drawn > 1.0)).any(axis=1)
            if not outside.any():
                return drawn
            drawn[outside] = self._normal.draw(int(outside.sum()), rng)
        return np.clip(drawn, 0.0, 1.0)

    def add(self, evaluation: Evaluation) -> None:
        """Count an evaluation into the generation, and learn from that when it is complete."""
        own = CovarianceSampling.__name__ in evaluation.individual.lineage.operators
        if self._normal is None or not (own or evaluation.rank < _TOP):
            return
        assert self._matrix is not None
        if self._n_columns != self._matrix.n_columns:
            return
        self._generation.append(evaluation.individual)
        if len(self._generation) >= self._size:
            ranked = sorted(self._generation, key=by_loss)
            self._normal.learn(self._matrix.rows(ranked)[:, self._ordered])
            self._generation.clear()
