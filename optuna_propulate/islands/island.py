"""An island, as one of its workers sees it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from optuna_propulate.individual import Individual
from optuna_propulate.population import Population


if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from optuna_propulate.exchange.base import Exchange
    from optuna_propulate.islands.archipelago import Archipelago
    from optuna_propulate.islands.migration import Pollination
    from optuna_propulate.operators import Operator


class Island:
    """Holds the population of one worker's island, kept up to date through an exchange.

    Args:
        archipelago: Who lives where.
        worker: The worker whose view this is.
        population_size: The size of the breeding pool; nothing more is kept.
        breed: Maps the breeding pool to offspring.
        topology: How many migrants go from island to island, shape ``(n_islands, n_islands)``.
        migration: Who migrates, and when.
        exchange: Carries individuals to and from the other workers.
    """

    def __init__(
        self,
        *,
        archipelago: Archipelago,
        worker: int,
        population_size: int,
        breed: Operator,
        topology: NDArray[np.int64],
        migration: Pollination,
        exchange: Exchange,
    ) -> None:
        self.index = archipelago.island_of(worker)
        self.worker = worker
        self.population = Population(population_size)
        self._breed = breed
        self._migration = migration
        self._exchange = exchange
        self._mates = [mate for mate in archipelago.workers_of(self.index) if mate != worker]
        self._destinations = [
            (archipelago.workers_of(target), int(n_migrants))
            for target, n_migrants in enumerate(topology[self.index])
            if n_migrants > 0
        ]

    def take_in(self) -> None:
        """Add to the population what has arrived; never waits."""
        for individual in self._exchange.receive():
            self.population.add(individual)

    def join(self, individual: Individual) -> None:
        """Add an individual that every worker of the island learns of by itself."""
        self.population.add(individual)

    def breed(self, rng: np.random.Generator) -> Individual:
        """Return an offspring of the breeding pool; one without genes if the pool is empty."""
        children = self._breed(self.population.best(self.population.capacity), rng)
        child = children[0] if len(children) else Individual(genes={})
        return replace(child, island=self.index, worker=self.worker)

    def born(self, individual: Individual, rng: np.random.Generator) -> None:
        """Add an individual that was evaluated here, tell the mates, perhaps send migrants."""
        self.population.add(individual)
        self._exchange.send([individual], self._mates)
        if self._destinations and self._migration.departs(rng):
            self._send_migrants(rng)

    def settle(self) -> None:
        """Wait until every worker has finished and every message has arrived, then take it in."""
        self._exchange.settle()
        self.take_in()

    def _send_migrants(self, rng: np.random.Generator) -> None:
        pool = self.population.best(self.population.capacity)
        for workers, n_migrants in self._destinations:
            self._exchange.send(self._migration.select(pool, n_migrants, rng), workers)
