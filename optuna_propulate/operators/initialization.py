"""Initialisation: individuals at random, at the start and now and then later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna_propulate.evolution.arguments import check_probability
from optuna_propulate.evolution.individual import Individual
from optuna_propulate.evolution.individual import Lineage


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np


@dataclass(frozen=True)
class RandomInitialization:
    """Replaces an individual by a random one: every gene is drawn anew, no parent remains.

    Args:
        probability: How likely an individual is replaced.

    Raises:
        ValueError: If ``probability`` is not in [0, 1].
    """

    probability: float = 0.1

    def __post_init__(self) -> None:
        check_probability("probability", self.probability)

    def __call__(
        self, individuals: Sequence[Individual], rng: np.random.Generator
    ) -> Sequence[Individual]:
        return [
            self._random(individual, rng) if rng.random() < self.probability else individual
            for individual in individuals
        ]

    def _random(self, individual: Individual, rng: np.random.Generator) -> Individual:
        return Individual(
            genes={name: individual.genes[name].redrawn(rng) for name in sorted(individual.genes)},
            lineage=Lineage(operators=(type(self).__name__,)),
        )
