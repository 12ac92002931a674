"""Differential evolution: steps along the differences between members of the pool."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from optuna_propulate.evolution.arguments import check_integer
from optuna_propulate.evolution.individual import Individual
from optuna_propulate.operators.base import offspring


if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from optuna_propulate.breeders.base import Evaluation
    from optuna_propulate.breeders.context import BreedingContext

    Row = NDArray[np.float64]

FACTOR = "F"
RATE = "CR"
TARGET_LOSS = "target_loss"
TARGET_VIOLATION = "target_violation"

_WIDTH = 0.1
_N_BEATEN = 1024


class DifferentialMutation:
    r"""Moves a member of the pool towards a better one, and along a difference of two others.

    The child of target :math:`x` is :math:`x + F (x_{best} - x) + F (x_1 - x_2)`, where
    :math:`x_{best}` is one of the best ``p`` of the pool, and a gene is taken from it with the
    probability :math:`CR`, else from the target. F and CR are drawn around those of children that
    were better than their targets. As no worker waits for a generation, a child challenges its
    target when it is heard of: one that was beaten takes no further part, but to give the
    second of the two others. A category comes from one of the four; a gene that not all have,
    from those that have it.

    Args:
        p: The share of the pool that is best, in (0, 1].
        n_remembered: How many pairs of F and CR are remembered.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Zhang and Sanderson, JADE, IEEE Transactions on Evolutionary Computation 13, 2009
        (current-to-pbest); Tanabe and Fukunaga, SHADE, CEC 2013 (success history).
    """

    def __init__(self, p: float = 0.15, n_remembered: int = 5) -> None:
        if not 0.0 < p <= 1.0:
            raise ValueError(f"p must be in (0, 1], but got {p}.")
        check_integer("n_remembered", n_remembered, 1)
        self._p = p
        self._history = SuccessHistory(n_remembered)

    def propose(self, context: BreedingContext, rng: np.random.Generator) -> Individual:
        pool = context.pool
        if not pool:
            return Individual(genes={})
        if not context.matrix.n_columns:
            return offspring({}, pool[:1], type(self).__name__)
        factor, rate = self._history.draw(rng)
        members = [one for one in pool if one.number not in self._history.beaten]
        if len(members) < 4:
            members = list(pool)
        target = _one_of(members, rng)
        n_best = min(max(2, round(self._p * len(members))), len(members))
        best = _one_of(members[:n_best], rng)
        first = _other(members, (target,), rng)
        second = _other(pool, (target, first), rng)
        matrix = context.matrix
        rows = matrix.rows((target, best, first, second))
        moved = _moved(rows, factor)
        if len(matrix.ordered) < matrix.n_columns:
            giver = rng.integers(4, size=len(moved))
            moved = np.where(matrix.is_category, rows[giver, np.arange(len(moved))], moved)
        crossed = rng.random(len(moved)) < rate
        crossed[int(rng.random() * len(moved))] = True
        child = np.where(crossed & ~np.isnan(moved), moved, rows[0])
        strategy = {
            FACTOR: factor,
            RATE: rate,
            TARGET_LOSS: target.loss,
            TARGET_VIOLATION: target.violation,
        }
        parents = [target, best, first, second]
        return offspring(matrix.genes(child), parents, type(self).__name__, **strategy)

    def observe(self, evaluation: Evaluation) -> None:
        self._history.add(evaluation.individual)


def _other(
    members: Sequence[Individual], taken: tuple[Individual, ...], rng: np.random.Generator
) -> Individual:
    """Draw a member that is not taken yet; one that is, if there are too few."""
    for _ in range(10):
        member = _one_of(members, rng)
        if all(member is not one for one in taken):
            break
    return member


def _one_of(members: Sequence[Individual], rng: np.random.Generator) -> Individual:
    return members[int(rng.random() * len(members))]  # a tenth of the cost of rng.integers


def _moved(rows: Row, factor: float) -> Row:
    """Return the target moved by the differences that are defined, halfway back at a bound.

    Args:
        rows: Target, best, first and second, shape ``(4, n_columns)``; NaN is no gene.
        factor: F.
    """
    target, best, first, second = rows
    towards, along = best - target, first - second
    moved = target + factor * (towards + along)
    if math.isnan(moved.sum()):
        step = np.where(np.isnan(towards), 0.0, towards) + np.where(np.isnan(along), 0.0, along)
        moved = np.where(np.isnan(target), best, target + factor * step)
    if not 0.0 <= moved.min() <= moved.max() <= 1.0:
        moved = np.where(moved < 0.0, 0.5 * target, moved)
        moved = np.where(moved > 1.0, 0.5 * (1.0 + target), moved)
    return np.asarray(moved)


class SuccessHistory:
    """The F and CR of children that beat their targets, and which targets were beaten."""

    def __init__(self, n_remembered: int) -> None:
        self.beaten: dict[int, None] = {}
        self._pairs = [(0.5, 0.5)] * n_remembered
        self._next = 0

    def draw(self, rng: np.random.Generator) -> tuple[float, float]:
        """Return F in (0, 1] and CR in [0, 1]."""
        mean_factor, mean_rate = self._pairs[int(rng.random() * len(self._pairs))]
        factor = 0.0
        while factor <= 0.0:
            factor = mean_factor + _WIDTH * math.tan(math.pi * (rng.random() - 0.5))
        rate = float(rng.normal(mean_rate, _WIDTH))
        return min(factor, 1.0), min(max(rate, 0.0), 1.0)

    def add(self, child: Individual) -> None:
        """Learn from a child that was evaluated, if it beat its target."""
        lineage = child.lineage
        if DifferentialMutation.__name__ not in lineage.operators:
            return
        target = lineage.strategy
        if TARGET_LOSS not in target:  # a record leaves out what is infinite
            return
        if (child.violation, child.loss) < (target[TARGET_VIOLATION], target[TARGET_LOSS]):
            factor, rate = self._pairs[self._next]
            pair = (0.5 * (factor + target[FACTOR]), 0.5 * (rate + target[RATE]))
            self._pairs[self._next] = pair
            self._next = (self._next + 1) % len(self._pairs)
            self.beaten[lineage.parents[0]] = None
            if len(self.beaten) > _N_BEATEN:
                del self.beaten[next(iter(self.beaten))]
