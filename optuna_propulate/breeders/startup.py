"""How a search begins: random individuals, until there are some to breed from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna_propulate.operators.initialization import RandomInitialization


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from optuna_propulate.evolution.individual import Individual
    from optuna_propulate.operators.base import Operator


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
