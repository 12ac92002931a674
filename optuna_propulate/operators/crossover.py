"""Crossover: a child takes each gene from one of its parents."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna_propulate.evolution.arguments import check_probability
from optuna_propulate.operators.base import offspring


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from optuna_propulate.evolution.individual import Individual


@dataclass(frozen=True)
class UniformCrossover:
    """Crosses the first two individuals gene by gene, or copies the first.

    A gene that only one parent has is inherited from that parent, so children of different
    branches of a conditional space keep what both know.

    Args:
        probability: How likely the child is crossed; else it is a copy of the first parent.
        parent_share: How likely a gene comes from the first parent.

    Raises:
        ValueError: If one of them is not in [0, 1].

    Reference:
        Syswerda, Uniform crossover in genetic algorithms, ICGA 1989.
    """

    probability: float = 0.7
    parent_share: float = 0.5

    def __post_init__(self) -> None:
        check_probability("probability", self.probability)
        check_probability("parent_share", self.parent_share)

    def __call__(
        self, individuals: Sequence[Individual], rng: np.random.Generator
    ) -> Sequence[Individual]:
        if not individuals:
            return []
        if len(individuals) < 2 or rng.random() >= self.probability:
            return [_copy(individuals[0])]
        first, second = individuals[:2]
        return [_child(first, second, self.parent_share, type(self).__name__, rng)]


@dataclass(frozen=True)
class BoltzmannCrossover:
    """Crosses the first two individuals; the better one gives more of the genes.

    A gene comes from the first parent with the probability
    ``1 / (1 + exp((loss_first - loss_second) / temperature))``, a sigmoid: half of them between
    equals, all of them if the second is worse by many times the temperature. A gene that only one
    parent has is inherited from that parent.

    Args:
        temperature: The difference of losses that counts, in units of the loss; above 0.

    Raises:
        ValueError: If ``temperature`` is not above 0.

    Reference:
        Goldberg, A note on Boltzmann tournament selection, Complex Systems 4, 1990; Propulate's
        ``CrossoverSigmoid``.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature > 0.0:
            raise ValueError(f"temperature must be above 0, but got {self.temperature}.")

    def __call__(
        self, individuals: Sequence[Individual], rng: np.random.Generator
    ) -> Sequence[Individual]:
        if not individuals:
            return []
        if len(individuals) < 2:
            return [_copy(individuals[0])]
        first, second = individuals[:2]
        share = self._share(first, second)
        return [_child(first, second, share, type(self).__name__, rng)]

    def _share(self, first: Individual, second: Individual) -> float:
        if first.violation != second.violation:
            return float(first.violation < second.violation)
        if first.loss == second.loss:  # infinite ones, too
            return 0.5
        exponent = (first.loss - second.loss) / self.temperature
        return 1.0 / (1.0 + math.exp(min(max(exponent, -700.0), 700.0)))


@dataclass(frozen=True)
class MultiParentCrossover:
    """Crosses all individuals: each gene comes from any parent that has it, equally likely.

    Reference:
        Muehlenbein and Voigt, Gene pool recombination in genetic algorithms, 1996; Propulate's
        ``CrossoverMultiple``.
    """

    def __call__(
        self, individuals: Sequence[Individual], rng: np.random.Generator
    ) -> Sequence[Individual]:
        if not individuals:
            return []
        genes = {}
        for name in sorted({name for parent in individuals for name in parent.genes}):
            givers = [parent for parent in individuals if name in parent.genes]
            genes[name] = givers[int(rng.integers(len(givers)))].genes[name]
        return [offspring(genes, individuals, type(self).__name__)]


def _copy(parent: Individual) -> Individual:
    return offspring(dict(parent.genes), [parent], "Copy")


def _child(
    first: Individual, second: Individual, share: float, operator: str, rng: np.random.Generator
) -> Individual:
    """Take each gene from the first parent with the probability ``share``, if both have it."""
    names = sorted(first.genes.keys() | second.genes.keys())
    genes = {}
    for name, draw in zip(names, rng.random(len(names)).tolist(), strict=True):
        giver, other = (first, second) if draw < share else (second, first)
        genes[name] = giver.genes[name] if name in giver.genes else other.genes[name]
    return offspring(genes, [first, second], operator)
