"""Offspring in conditional spaces: genes that one branch has are inherited on another."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from typing import TYPE_CHECKING

from optuna_propulate.breeders.context import BreedingContext
from optuna_propulate.operators.base import Operator
from optuna_propulate.operators.base import check_probability


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from optuna_propulate.evolution.individual import Individual


@dataclass(frozen=True)
class InheritMissing:
    """Completes offspring by genes that only other members of the pool have.

    In a conditional space the offspring may turn into a branch that its parents are not on;
    there it starts from what a member of that branch knows, instead of at random.

    Args:
        operator: What makes the offspring.
        probability: How likely each missing gene is inherited.

    Raises:
        ValueError: If ``probability`` is not in [0, 1].
    """

    operator: Operator
    probability: float = 0.9

    def __post_init__(self) -> None:
        check_probability("probability", self.probability)

    def __call__(
        self, individuals: Sequence[Individual], rng: np.random.Generator
    ) -> Sequence[Individual]:
        context = BreedingContext.of(individuals)
        return [
            child
            if len(child.genes) == context.matrix.n_columns or not child.lineage.parents
            else self._complete(child, context, rng)
            for child in self.operator(context, rng)
        ]

    def _complete(
        self, child: Individual, context: BreedingContext, rng: np.random.Generator
    ) -> Individual:
        genes = dict(child.genes)
        for name in context.matrix.names:
            if name in genes or rng.random() >= self.probability:
                continue
            donors = [member for member in context if name in member.genes]
            if donors:
                genes[name] = donors[int(rng.integers(len(donors)))].genes[name]
        return replace(child, genes=genes)
