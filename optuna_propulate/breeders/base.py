"""What a breeder is: it proposes offspring, and learns from what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Protocol
from typing import runtime_checkable

from optuna_propulate.evolution.individual import Individual


if TYPE_CHECKING:
    import numpy as np

    from optuna_propulate.breeders.context import BreedingContext
    from optuna_propulate.operators import Operator


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An individual that was evaluated, by this worker or another of its island.

    Args:
        individual: The individual.
        rank: How many better ones the worker had heard of before, up to 64.
    """

    individual: Individual
    rank: int


@runtime_checkable
class Breeder(Protocol):
    """Proposes offspring, and may learn from every evaluation that its worker hears of.

    A sampler copies the breeder that it is given for each study, so what a breeder has learnt may
    simply be its attributes. One that stands inside of another is told of evaluations by that, so
    it has to stand in one place only.
    """

    def propose(self, context: BreedingContext, rng: np.random.Generator) -> Individual:
        """Return the next offspring; parameters that it has no gene for are drawn at random.

        Args:
            context: The breeding pool, which may be empty, and what is being evaluated.
            rng: The only source of randomness.
        """
        ...

    def observe(self, evaluation: Evaluation) -> None:
        """Learn from an evaluation: any worker's of the island, good or bad, in any order."""
        ...


class OperatorBreeder:
    """Breeds with an operator, which learns nothing.

    Args:
        operator: Called with the breeding pool; its first individual is the offspring.
    """

    def __init__(self, operator: Operator) -> None:
        self.operator = operator

    def propose(self, context: BreedingContext, rng: np.random.Generator) -> Individual:
        children = self.operator(context.pool, rng)
        return children[0] if len(children) else Individual(genes={})

    def observe(self, evaluation: Evaluation) -> None:
        """Do nothing: an operator is the same at all times."""

    def __repr__(self) -> str:
        return repr(self.operator)


def breeder_of(operators: Operator | Breeder) -> Breeder:
    """Return a breeder as it is, and one that breeds with an operator.

    Raises:
        TypeError: If it is neither, or a class instead of an object of it.
    """
    if not isinstance(operators, type):
        if isinstance(operators, Breeder):
            return operators
        if callable(operators):
            return OperatorBreeder(operators)
    raise TypeError(f"operators must be an operator or a breeder, but got {operators!r}.")
