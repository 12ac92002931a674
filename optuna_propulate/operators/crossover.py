"""Crossover: a child takes each gene from one of its parents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna_propulate.operators.base import check_probability
from optuna_propulate.operators.base import offspring


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from optuna_propulate.individual import Individual


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
        first = individuals[0]
        if len(individuals) < 2 or rng.random() >= self.probability:
            return [offspring(dict(first.genes), [first], "Copy")]
        second = individuals[1]
        names = sorted(first.genes.keys() | second.genes.keys())
        from_first = rng.random(len(names)) < self.parent_share
        genes = {}
        for name, take_first in zip(names, from_first.tolist(), strict=True):
            giver, other = (first, second) if take_first else (second, first)
            genes[name] = giver.genes[name] if name in giver.genes else other.genes[name]
        return [offspring(genes, [first, second], type(self).__name__)]
