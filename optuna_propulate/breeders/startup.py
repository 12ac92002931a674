"""How a search begins: random individuals, until there are some to breed from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna_propulate.breeders.base import breeder_of
from optuna_propulate.evolution.individual import Individual
from optuna_propulate.operators.initialization import RandomInitialization


if TYPE_CHECKING:
    import numpy as np

    from optuna_propulate.breeders.base import Breeder
    from optuna_propulate.breeders.base import Evaluation
    from optuna_propulate.breeders.context import BreedingContext
    from optuna_propulate.operators import Operator


class WarmUp:
    """Proposes random individuals until the breeding pool is full, then what a breeder does.

    Which genes a random individual has is learnt from an individual drawn from those present.

    Args:
        population_size: From how many individuals on ``operators`` takes over; at least 1.
        operators: The breeder or operator for a full pool.
    """

    def __init__(self, population_size: int, operators: Operator | Breeder) -> None:
        self._population_size = population_size
        self._breeder = breeder_of(operators)

    def propose(self, context: BreedingContext, rng: np.random.Generator) -> Individual:
        pool = context.pool
        if len(pool) >= self._population_size:
            return self._breeder.propose(context, rng)
        if not pool:
            return Individual(genes={})
        pattern = pool[int(rng.integers(len(pool)))]
        return RandomInitialization(probability=1.0)([pattern], rng)[0]

    def observe(self, evaluation: Evaluation) -> None:
        self._breeder.observe(evaluation)
