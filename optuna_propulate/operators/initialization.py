"""Initialisation: individuals at random, at the start and now and then later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna_propulate.individual import Individual
from optuna_propulate.individual import Lineage
from optuna_propulate.operators.base import Operator
from optuna_propulate.operators.base import check_probability


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


@dataclass(frozen=True)
class WarmUp:
    """Gives random individuals until the breeding pool is full, then breeds.

    Which genes a random individual has is learnt from an individual drawn from those present.

    Args:
        population_size: From how many individuals on ``breed`` takes over; at least 1.
        breed: The operator for a full pool.
    """

    population_size: int
    breed: Operator

    def __call__(
        self, individuals: Sequence[Individual], rng: np.random.Generator
    ) -> Sequence[Individual]:
        if len(individuals) >= self.population_size:
            return self.breed(individuals, rng)
        if not individuals:
            return []
        pattern = individuals[int(rng.integers(len(individuals)))]
        return RandomInitialization(probability=1.0)([pattern], rng)
