"""Recombination: each gene from one of two good parents, and now and then one anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optuna_propulate.breeders.litter import Litter
from optuna_propulate.evolution.individual import Individual


if TYPE_CHECKING:
    from optuna_propulate.breeders.base import Evaluation
    from optuna_propulate.breeders.context import BreedingContext


class Recombination:
    """Crosses two members of the pool gene by gene, and draws a gene anew.

    Each parent is the better of two that are drawn from the pool; half of the children, and
    those that are copies of a parent, get the new gene. What the operators
    ``SelectTournament``, ``UniformCrossover`` and ``PointMutation`` do, many children at a time.

    Reference:
        Syswerda, Uniform crossover in genetic algorithms, ICGA 1989.
    """

    def propose(self, context: BreedingContext, rng: np.random.Generator) -> Individual:
        return self.litter(context, 1, rng).child(0) if context.pool else Individual(genes={})

    def observe(self, evaluation: Evaluation) -> None:
        """Do nothing: parents come from the pool as it is."""

    def litter(self, context: BreedingContext, n: int, rng: np.random.Generator) -> Litter:
        """Return ``n`` offspring side by side; the pool must not be empty."""
        pool, rows = context.pool, context.matrix.rows(context.pool)
        places = (rng.random((n, 2, 2)) * len(pool)).astype(int).min(axis=2)  # best first
        first, second = rows[places[:, 0]], rows[places[:, 1]]
        of_first = (rng.random(first.shape) < 0.5) | np.isnan(second)
        children = np.where(of_first & ~np.isnan(first), first, second)
        if children.shape[1]:
            lacks = np.isnan(children)
            column = (rng.random(n) * children.shape[1]).astype(int)
            draws = rng.random((n, 2))
            is_copy = ((children == first) | lacks).all(axis=1)
            is_copy |= ((children == second) | lacks).all(axis=1)
            anew = is_copy | (draws[:, 0] < 0.5)
            anew &= ~lacks[np.arange(n), column]
            children[anew, column[anew]] = draws[anew, 1]

        def parents(index: int) -> list[Individual]:
            return [pool[place] for place in dict.fromkeys(places[index].tolist())]

        return Litter.of_parents(context, children, parents, type(self).__name__)
