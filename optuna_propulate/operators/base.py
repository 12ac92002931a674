"""What an operator is, and how operators compose."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Protocol
from typing import runtime_checkable

from optuna_propulate.evolution.individual import UNNUMBERED
from optuna_propulate.evolution.individual import Individual
from optuna_propulate.evolution.individual import Lineage


if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence

    import numpy as np

    from optuna_propulate.evolution.genes import Gene


SIGMA = "sigma"
"""The width of an individual's steps in ``Lineage.strategy``; children inherit it."""


@runtime_checkable
class Operator(Protocol):
    """Maps individuals to individuals; has settings, but no state.

    What learns from evaluations is no operator, but a ``breeders.Breeder``.
    """

    def __call__(
        self, individuals: Sequence[Individual], rng: np.random.Generator
    ) -> Sequence[Individual]:
        """Return the selected, crossed, mutated or drawn individuals.

        Args:
            individuals: What the operator before this one returned, or the breeding pool
                (best first) for the first operator.
            rng: The only source of randomness.
        """
        ...


class Pipeline:
    """Applies operators one after the other.

    Args:
        operators: At least one.

    Raises:
        TypeError: If one of them cannot be called, as a breeder cannot: here it would not learn.
    """

    def __init__(self, *operators: Operator) -> None:
        for operator in operators:
            if not callable(operator) or isinstance(operator, type):
                raise TypeError(
                    "A Pipeline is made of operators, which map individuals to individuals, but "
                    f"got {operator!r}."
                )
        self.operators = operators

    def __call__(
        self, individuals: Sequence[Individual], rng: np.random.Generator
    ) -> Sequence[Individual]:
        for operator in self.operators:
            individuals = operator(individuals, rng)
        return individuals

    def __repr__(self) -> str:
        return f"Pipeline({', '.join(map(repr, self.operators))})"


def offspring(
    genes: Mapping[str, Gene], parents: Sequence[Individual], operator: str, **strategy: float
) -> Individual:
    """Return an unevaluated child of evaluated parents.

    Args:
        genes: The child's genes.
        parents: At least one, each a trial; the child inherits the first one's step width.
        operator: The name of the operator that made the child.
        **strategy: What of the strategy is the child's own.
    """
    return Individual(
        genes=genes,
        generation=1 + max([parent.generation for parent in parents]),
        lineage=Lineage(
            operators=(operator,),
            parents=tuple([parent.number for parent in parents]),
            homes=tuple([parent.island for parent in parents]),
            strategy={**_inherited(parents[0]), **strategy},
        ),
    )


def _inherited(parent: Individual) -> dict[str, float]:
    strategy = parent.lineage.strategy
    return {SIGMA: strategy[SIGMA]} if SIGMA in strategy else {}


def changed(
    individual: Individual, genes: Mapping[str, Gene], operator: str, **strategy: float
) -> Individual:
    """Return the offspring with other genes; an evaluated individual gives a child of its own."""
    if individual.number != UNNUMBERED:
        return offspring(genes, [individual], operator, **strategy)
    return Individual(
        genes=genes,
        island=individual.island,
        worker=individual.worker,
        generation=individual.generation,
        lineage=individual.lineage.then(operator, **strategy),
    )
