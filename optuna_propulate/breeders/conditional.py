"""Offspring in conditional spaces: genes that one branch has are inherited on another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from optuna_propulate.breeders.base import breeder_of
from optuna_propulate.breeders.litter import litter_of
from optuna_propulate.evolution.arguments import check_probability


if TYPE_CHECKING:
    from optuna_propulate.breeders.base import Breeder
    from optuna_propulate.breeders.base import Evaluation
    from optuna_propulate.breeders.context import BreedingContext
    from optuna_propulate.breeders.litter import Litter
    from optuna_propulate.evolution.individual import Individual
    from optuna_propulate.operators import Operator


class InheritMissing:
    """Completes offspring by genes that only other members of the pool have.

    In a conditional space the offspring may turn into a branch that its parents are not on;
    there it starts from what a member of that branch knows, instead of at random.

    Args:
        operators: What makes the offspring.
        probability: How likely each missing gene is inherited.

    Raises:
        ValueError: If ``probability`` is not in [0, 1].
    """

    def __init__(self, operators: Operator | Breeder, probability: float = 0.9) -> None:
        self._breeder = breeder_of(operators)
        self._probability = check_probability("probability", probability)

    def propose(self, context: BreedingContext, rng: np.random.Generator) -> Individual:
        child = self._breeder.propose(context, rng)
        if len(child.genes) == context.matrix.n_columns or not child.lineage.parents:
            return child
        return self._complete(child, context, rng)

    def litter(self, context: BreedingContext, n: int, rng: np.random.Generator) -> Litter:
        """Return ``n`` offspring side by side."""
        litter = litter_of(self._breeder, context, n, rng)
        lacks = np.isnan(litter.rows)
        if lacks.any():
            donors = context.matrix.rows(context.pool)
            for column in np.flatnonzero(lacks.any(axis=0)).tolist():
                given = donors[~np.isnan(donors[:, column]), column]
                wants = lacks[:, column] & (rng.random(n) < self._probability)
                if len(given):
                    places = (rng.random(int(wants.sum())) * len(given)).astype(int)
                    litter.rows[wants, column] = given[places]
        return litter

    def observe(self, evaluation: Evaluation) -> None:
        self._breeder.observe(evaluation)

    def _complete(
        self, child: Individual, context: BreedingContext, rng: np.random.Generator
    ) -> Individual:
        genes = dict(child.genes)
        for name in context.matrix.names:
            if name in genes or rng.random() >= self._probability:
                continue
            donors = [member for member in context.pool if name in member.genes]
            if donors:
                genes[name] = donors[int(rng.integers(len(donors)))].genes[name]
        return replace(child, genes=genes)
