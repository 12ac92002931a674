"""Screening: of several offspring, the one is evaluated that those near it speak for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from optuna_propulate.breeders.base import breeder_of
from optuna_propulate.breeders.litter import litter_of
from optuna_propulate.evolution.arguments import check_integer
from optuna_propulate.evolution.arguments import check_probability


if TYPE_CHECKING:
    from numpy.typing import NDArray

    from optuna_propulate.breeders.base import Breeder
    from optuna_propulate.breeders.base import Evaluation
    from optuna_propulate.breeders.context import BreedingContext
    from optuna_propulate.breeders.gene_matrix import GeneMatrix
    from optuna_propulate.evolution.individual import Individual
    from optuna_propulate.operators import Operator

    Rows = NDArray[np.float64]

_FADES_AFTER = 1000  # evaluations
_FEWER_AFTER = 100
_FEWEST = 3  # children
_N_REDRAWN = 3
_HALF = math.sqrt(0.5)  # so that two categories are at a distance of 1
_APART = math.sqrt(0.75)  # one has a gene that the other lacks, on average as far as categories


class Screening:
    """Breeds several children, and proposes the one whose nearest evaluations were best.

    Some proposals are not screened, so that the search does not stay where it began. The longer
    it lasts, the less is screened: the ways to breed know the last digits better than their
    neighbours, and children that are chosen for being near the best crowd there.

    Args:
        breeder: What breeds them; an operator or a breeder.
        n_children: How many are compared, at least 2, until a hundred evaluations have been
            heard of; later in inverse proportion to the square of their number, but at least 3.
        share: How many of the proposals are screened, in [0, 1], until a thousand evaluations
            have been heard of; later in inverse proportion to the square of their number.
        n_nearest: How many evaluations speak for a child, the nearer the louder; at least 1.
        n_remembered: How many evaluations are remembered, the latest of all workers.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Pre-selection by a surrogate: Jin, Surrogate-assisted evolutionary computation, Swarm and
        Evolutionary Computation 1, 2011.
    """

    def __init__(
        self,
        breeder: Operator | Breeder,
        n_children: int = 20,
        share: float = 0.8,
        n_nearest: int = 2,
        n_remembered: int = 400,
    ) -> None:
        check_integer("n_children", n_children, 2)
        check_integer("n_nearest", n_nearest, 1)
        check_integer("n_remembered", n_remembered, n_nearest)
        self._breeder = breeder_of(breeder)
        self._n_children = n_children
        self._share = check_probability("share", share)
        self._n_heard = 0
        self._neighbours = Neighbours(n_nearest, n_remembered)

    def propose(self, context: BreedingContext, rng: np.random.Generator) -> Individual:
        share = self._share * self._fading(_FADES_AFTER)
        if rng.random() >= share or not (context.pool and context.matrix.n_columns):
            return self._breeder.propose(context, rng)
        n_children = max(round(self._n_children * self._fading(_FEWER_AFTER)), _FEWEST)
        litter = litter_of(self._breeder, context, min(n_children, self._n_children), rng)
        expected = self._screened(litter.rows, context.matrix, rng)
        child = litter.child(int(np.argmin(expected)))
        return child.of(child.lineage.then(type(self).__name__), child.island, child.worker)

    def observe(self, evaluation: Evaluation) -> None:
        self._n_heard += 1
        self._neighbours.add(evaluation.individual)
        self._breeder.observe(evaluation)

    def _fading(self, after: int) -> float:
        """Return 1 until so many evaluations have been heard of, and ever less later."""
        return min(1.0, after / max(1, self._n_heard)) ** 2

    def _screened(
        self, rows: Rows, matrix: GeneMatrix, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Return the rank that is expected of each child; one evaluated before gets a new gene."""
        matrix.snap(rows)
        expected = self._neighbours.expected_ranks(rows, matrix)
        for _ in range(_N_REDRAWN):
            known = np.flatnonzero(expected == np.inf)
            if not len(known):
                break
            column = (rng.random(len(known)) * matrix.n_columns).astype(int)
            has_gene = ~np.isnan(rows[known, column])
            rows[known[has_gene], column[has_gene]] = rng.random(int(has_gene.sum()))
            matrix.snap(rows)
            expected[known] = self._neighbours.expected_ranks(rows[known], matrix)
        return expected


class Neighbours:
    """The latest evaluations, and how good those near a place were.

    Places are compared in a Euclidean space: an ordered gene is a coordinate; two categories are
    at a distance of 1, as are a gene and its lack, about. Once there are enough evaluations, the
    ordered coordinates are scaled and turned so that the best of them are equally spread in all
    directions: along a narrow valley, near is farther away than across.

    Args:
        n_nearest: How many are averaged, by the inverse of their distance.
        n_remembered: How many are remembered.
    """

    def __init__(self, n_nearest: int, n_remembered: int) -> None:
        self._n_nearest, self._n_remembered = n_nearest, n_remembered
        self._individuals: list[Individual] = []
        self._next = 0  # the place of the oldest, once there are enough
        self._stale: set[int] = set()  # places whose coordinates are those of another
        self._version = -1
        self._keys = np.empty((3, n_remembered))  # loss, and what comes before it
        self._is_plain = True  # whether all are feasible and complete
        self._points: Rows = np.empty((n_remembered, 0))
        self._basis: Basis | None = None  # of the best that were seen last
        self._space: Space | None = None  # of now; None if that is to be seen

    def add(self, individual: Individual) -> None:
        """Remember an evaluation; the oldest is forgotten."""
        place = self._next
        if len(self._individuals) < self._n_remembered:
            self._individuals.append(individual)
        else:
            self._individuals[place] = individual
        self._next = (place + 1) % self._n_remembered
        self._keys[:, place] = individual.loss, -individual.last_step, individual.violation
        self._is_plain &= individual.violation == 0.0 and individual.last_step == math.inf
        self._stale.add(place)

    def expected_ranks(self, rows: Rows, matrix: GeneMatrix) -> NDArray[np.float64]:
        """Return the rank expected at each place, shape ``(n,)``; infinite where one was.

        Args:
            rows: Shape ``(n, n_columns)``; NaN is no gene.
            matrix: What the columns are.
        """
        if not self._individuals:
            return np.zeros(len(rows))
        space = self._look(matrix)
        asked = space.basis.coordinates(_points(rows, matrix))
        lengths = (asked * asked).sum(axis=1)[:, None]
        squared = asked @ space.minus_twice
        squared += lengths
        squared += space.lengths
        near = _nearest(squared, min(self._n_nearest, len(space.ranks)))
        squared = np.maximum(squared[np.arange(len(rows))[:, None], near], 0.0)
        is_known = squared <= 1e-14 * (lengths + space.lengths[near])
        weights = 1.0 / np.sqrt(squared + 1e-18)
        expected = (weights * space.ranks[near]).sum(axis=1) / weights.sum(axis=1)
        expected[is_known.any(axis=1)] = np.inf
        return np.asarray(expected)

    def _look(self, matrix: GeneMatrix) -> Space:
        """Return the evaluations as they are now."""
        n_known = len(self._individuals)
        if self._version != matrix.version:
            self._version, self._basis, self._space = matrix.version, None, None
            points = _points(matrix.rows(self._individuals), matrix)
            self._points = np.empty((self._n_remembered, points.shape[1]))
            self._points[:n_known] = points
        elif self._stale:
            self._space = None
            places = sorted(self._stale)
            rows = matrix.rows([self._individuals[place] for place in places])
            self._points[places] = _points(rows, matrix)
        self._stale.clear()
        if self._space is None:
            keys = self._keys[:, :n_known]
            order = np.argsort(keys[0], kind="stable") if self._is_plain else np.lexsort(keys)
            points, n_ordered = self._points[:n_known], len(matrix.ordered)
            best = points[order[: max(2 * n_ordered + 2, n_known // 10)]]
            if self._basis is None or not np.array_equal(best, self._basis.best):
                self._basis = Basis(best, n_ordered)
            self._space = Space(points, order, self._basis)
        return self._space


class Space:
    """Evaluations as points of a space.

    Args:
        points: Shape ``(n, n_coordinates)``; at least one.
        order: The indices of the points, the best first.
        basis: What the space is.

    Attributes:
        basis: What the space is.
        minus_twice: The coordinates here times -2, shape ``(n_coordinates, n)``.
        lengths: The squares of their distances from the best, shape ``(n,)``.
        ranks: How many are better, shape ``(n,)``.
    """

    def __init__(self, points: Rows, order: NDArray[np.intp], basis: Basis) -> None:
        self.basis = basis
        known = basis.coordinates(points)
        self.minus_twice = np.ascontiguousarray(known.T) * -2.0
        self.lengths = (known * known).sum(axis=1)
        self.ranks = np.empty(len(points))
        self.ranks[order] = np.arange(len(points))


class Basis:
    """A space around the best point, so that distances there are exact.

    Args:
        best: The best points, the best first, shape ``(n, n_coordinates)``; at least one.
        n_ordered: How many of the coordinates, the first, are ordered genes.

    Attributes:
        best: As given.
    """

    def __init__(self, best: Rows, n_ordered: int) -> None:
        self.best = best
        self._n_ordered = n_ordered
        self._turned: Rows | None = None
        if n_ordered > 1 and len(best) >= 2 * n_ordered + 2:
            self._turned = _whitening(best[:, :n_ordered])

    def coordinates(self, points: Rows) -> Rows:
        """Return where points are, shape ``(n, n_coordinates)``."""
        moved = points - self.best[0]
        if self._turned is not None:
            moved[:, : self._n_ordered] = moved[:, : self._n_ordered] @ self._turned
        return np.asarray(moved)


def _nearest(distances: Rows, k: int) -> NDArray[np.intp]:
    """Return which are the ``k`` least of each row, shape ``(n, k)``; few, so one by one."""
    left, rows = distances.copy(), np.arange(len(distances))
    near = np.empty((len(distances), k), dtype=np.intp)
    for place in range(k):
        near[:, place] = left.argmin(axis=1)
        left[rows, near[:, place]] = np.inf
    return near


def _whitening(best: Rows) -> Rows | None:
    """Return the matrix that makes points spread equally, of determinant 1.

    Args:
        best: Shape ``(n, d)``. The fewer, the more their covariance is shrunk to a sphere.
    """
    n, d = best.shape
    centred = best - best.mean(axis=0)
    covariance = centred.T @ centred / n
    mean = float(np.trace(covariance)) / d
    if not mean > 0.0:
        return None  # they are all the same
    shrunk = d / (d + n)
    covariance *= 1.0 - shrunk
    covariance[np.diag_indices(d)] += shrunk * mean
    root = np.linalg.cholesky(covariance)
    scaled: Rows = np.linalg.inv(root).T * math.exp(np.log(np.diagonal(root)).mean())
    return scaled


def _points(rows: Rows, matrix: GeneMatrix) -> Rows:
    """Return the coordinates of places, shape ``(n, n_coordinates)``, ordered genes first."""
    n_ordered = len(matrix.ordered)
    n_others = sum(n + 1 for _, n in matrix.categories)
    points = np.zeros((len(rows), 2 * n_ordered + n_others))
    places = rows[:, matrix.ordered]
    lacks = np.isnan(places)
    points[:, :n_ordered] = np.where(lacks, 0.5, places)
    points[:, n_ordered : 2 * n_ordered] = _APART * lacks
    start = 2 * n_ordered
    for column, n in matrix.categories:
        categories = np.where(np.isnan(rows[:, column]), n, np.floor(rows[:, column] * n))
        places = start + np.minimum(categories, n).astype(int)
        points[np.arange(len(rows)), places] = _HALF  # the last is no category
        start += n + 1
    return points
