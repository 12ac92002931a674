"""A tree of Parzen estimators: where good individuals are dense and bad ones are not."""

from __future__ import annotations

import math
from bisect import insort
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from optuna_propulate.breeders.litter import Litter
from optuna_propulate.evolution.arguments import check_integer
from optuna_propulate.evolution.individual import Individual
from optuna_propulate.evolution.ranking import by_loss
from optuna_propulate.operators.base import offspring


if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from optuna_propulate.breeders.base import Evaluation
    from optuna_propulate.breeders.context import BreedingContext
    from optuna_propulate.breeders.gene_matrix import GeneMatrix

    Rows = NDArray[np.float64]

_MOST_GOOD = 25
_ROOT = math.sqrt(2.0 * math.pi)


class ParzenSampling:
    """Draws candidates near good individuals, and takes the one least like the bad ones.

    Both densities are mixtures of multivariate kernels, one for each individual and a uniform
    one: truncated normal for ordered genes, mostly the category itself for categories, uniform
    for a gene that the individual lacks. The good ones are a set that every tenth evaluation makes
    larger by one, up to 25, and that keeps its best; the latest others are bad, and so are
    offspring that are still being evaluated, so that workers do not crowd.

    Args:
        n_candidates: How many candidates are compared.
        n_bad: How many bad individuals are remembered.

    Raises:
        ValueError: If an argument is below 1.

    Reference:
        Bergstra et al., Algorithms for hyper-parameter optimization, NeurIPS 2011; Falkner et
        al., BOHB, ICML 2018 (multivariate kernels); Watanabe, Tree-structured Parzen estimator,
        arXiv:2304.11127 (bandwidths).
    """

    def __init__(self, n_candidates: int = 24, n_bad: int = 150) -> None:
        check_integer("n_candidates", n_candidates, 1)
        check_integer("n_bad", n_bad, 1)
        self._n_candidates = n_candidates
        self._history = History(n_bad)

    def propose(self, context: BreedingContext, rng: np.random.Generator) -> Individual:
        matrix, history = context.matrix, self._history
        good = history.good or list(context.pool)
        if not good:
            return Individual(genes={})
        if not matrix.n_columns:
            return offspring({}, good[:1], type(self).__name__)
        pending = [one for one in context.pending if one.genes]
        near = Mixture(matrix, good)
        far = Mixture(matrix, [*history.bad, *pending])
        candidates, sources = near.sample(self._n_candidates, rng)
        matrix.snap(candidates)
        best = int(np.argmax(near.log_density(candidates) - far.log_density(candidates)))
        row, parent = candidates[best], good[0]
        if sources[best] < len(good):  # else it comes from the uniform kernel
            parent = good[sources[best]]
            row = np.where(np.isnan(matrix.row(parent)), np.nan, row)
        return offspring(matrix.genes(row), [parent], type(self).__name__)

    def litter(self, context: BreedingContext, n: int, rng: np.random.Generator) -> Litter:
        """Return ``n`` offspring side by side, drawn near good individuals.

        They are not compared with the bad ones: whoever chooses among them does that.
        """
        good = self._history.good or list(context.pool)
        rows, sources = Mixture(context.matrix, good).sample(n, rng)
        for row, source in zip(rows, sources, strict=True):
            if source < len(good):
                row[np.isnan(context.matrix.row(good[source]))] = np.nan

        def parents(index: int) -> list[Individual]:
            return [good[sources[index] % len(good)]]

        return Litter.of_parents(context, rows, parents, type(self).__name__)

    def observe(self, evaluation: Evaluation) -> None:
        self._history.add(evaluation.individual)


class History:
    """The good individuals, a tenth of those heard of, and the latest of the others."""

    def __init__(self, n_bad: int) -> None:
        self.good: list[Individual] = []
        self.bad: deque[Individual] = deque(maxlen=n_bad)
        self._n_heard = 0

    def add(self, individual: Individual) -> None:
        """Remember an individual that was evaluated."""
        self._n_heard += 1
        is_full = len(self.good) >= max(2, min(math.ceil(0.1 * self._n_heard), _MOST_GOOD))
        if is_full and by_loss(individual) > by_loss(self.good[-1]):
            self.bad.append(individual)
            return
        insort(self.good, individual, key=by_loss)
        if is_full:
            self.bad.append(self.good.pop())


class Mixture:
    """A mixture of kernels in the unit interval, one per individual and a uniform one.

    Args:
        matrix: The columns.
        individuals: The centres of the kernels; may be none.
    """

    def __init__(self, matrix: GeneMatrix, individuals: Sequence[Individual]) -> None:
        self._centres = matrix.rows(individuals)
        self._is_category, self._ordered = matrix.is_category, matrix.ordered
        self._n_values = matrix.n_values
        n = len(individuals) + 1
        width = 0.2 * n ** (-1.0 / (matrix.n_columns + 4))
        self._width = min(max(width, 1.0 / min(100, n + 1)), 1.0)
        self._other = 1.0 / (1.0 + 0.5 * math.sqrt(n))  # how likely another category is drawn

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Rows, list[int]]:
        """Draw places, shape ``(n, n_columns)``, and say which kernel each comes from."""
        sources = rng.integers(len(self._centres) + 1, size=n)
        n_columns = len(self._n_values)
        uniform = rng.random((n, n_columns))
        centres = np.vstack([self._centres, np.full(n_columns, np.nan)])[sources]
        places = np.where(
            self._is_category,
            np.where(rng.random((n, n_columns)) < self._other, uniform, centres),
            self._normal(centres, rng),
        )
        places = np.where(np.isnan(places), uniform, places)
        return places, sources.tolist()

    def log_density(self, places: Rows) -> NDArray[np.float64]:
        """Return the logarithm of the density, shape ``(n,)``, up to a constant.

        Args:
            places: Shape ``(n, n_columns)``.
        """
        densities = np.zeros((len(places), len(self._centres) + 1))
        centres = self._centres[:, self._ordered]
        offsets = (places[:, None, self._ordered] - centres[None]) / self._width
        log_mass = np.log(self._width * _ROOT * self._mass(centres))
        if math.isnan(log_mass.sum()):
            log_normal = -0.5 * offsets**2 - log_mass
            densities[:, :-1] = np.where(np.isnan(log_normal), 0.0, log_normal).sum(axis=2)
        else:
            squared = np.einsum("ijk,ijk->ij", offsets, offsets)
            densities[:, :-1] = -0.5 * squared - log_mass.sum(axis=1)
        for column in np.flatnonzero(self._is_category).tolist():
            centre, n_values = self._centres[:, column], self._n_values[column]
            same = np.abs(places[:, None, column] - centre[None]) < 0.5 / n_values
            other = np.log(self._other)
            stays = np.log(n_values * (1.0 - self._other) + self._other)
            densities[:, :-1] += np.where(np.isnan(centre), 0.0, np.where(same, stays, other))
        highest = densities.max(axis=1)
        summed = np.exp(densities - highest[:, None]).sum(axis=1)
        logs: NDArray[np.float64] = highest + np.log(summed) - math.log(len(self._centres) + 1)
        return logs

    def _normal(self, centres: Rows, rng: np.random.Generator) -> Rows:
        """Draw around centres, again where a bound was crossed, then clip."""
        places = centres + self._width * rng.normal(size=centres.shape)
        for _ in range(5):
            outside = (places < 0.0) | (places > 1.0)
            if not outside.any():
                break
            drawn = centres + self._width * rng.normal(size=centres.shape)
            places = np.where(outside, drawn, places)
        return np.asarray(np.clip(places, 0.0, 1.0))

    def _mass(self, centres: Rows) -> Rows:
        """Return the integral of the kernels over the unit interval."""
        return _integral((1.0 - centres) / self._width) + _integral(centres / self._width)


def _integral(offsets: Rows) -> Rows:
    """Return the standard normal's integral from 0, to 3e-4, which NumPy has no function for."""
    return np.asarray(0.5 * np.tanh(0.7978845608 * (offsets + 0.044715 * offsets**3)))
