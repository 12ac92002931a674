"""An archipelago in one process, on a virtual clock: for tests, benchmarks and pictures."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from optuna_propulate.evolution.genes import Gene
from optuna_propulate.evolution.genes import from_unit
from optuna_propulate.exchange.local import Network
from optuna_propulate.exchange.local import no_delay
from optuna_propulate.islands.island import Island


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray
    from optuna.distributions import BaseDistribution

    from optuna_propulate.breeders import Breeder
    from optuna_propulate.evolution.individual import Individual
    from optuna_propulate.islands.archipelago import Archipelago
    from optuna_propulate.islands.island import Departure
    from optuna_propulate.islands.migration import MigrationPolicy

    Suggest = Callable[[str, BaseDistribution], Any]


def over(
    space: Mapping[str, BaseDistribution], loss: Callable[[Mapping[str, Any]], float]
) -> Callable[[Suggest], float]:
    """Return the objective that asks for all parameters of a fixed space.

    Args:
        space: The distribution of each parameter.
        loss: Called with the values by name.
    """
    return lambda suggest: loss({name: suggest(name, space[name]) for name in space})


def worker_streams(seed: int, n_workers: int) -> list[np.random.Generator]:
    """Return the generator that each worker of a job with this seed draws from."""
    return [
        np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(worker,)))
        for worker in range(n_workers)
    ]


@dataclass(frozen=True)
class Simulation:
    """What happened in a simulated run.

    Args:
        network: What carried the messages.
        islands: What each worker knows at the end.
        births: The individuals, in the order of their evaluations' ends.
        departures: The time of each migration with the island that it left from.
    """

    network: Network
    islands: list[Island]
    births: list[Individual] = field(default_factory=list)
    departures: list[tuple[float, int, Departure]] = field(default_factory=list)


def simulate(
    archipelago: Archipelago,
    *,
    n_trials: int,
    objective: Callable[[Suggest], float],
    duration: Callable[[int, Mapping[str, Gene]], float],
    breeder: Breeder,
    topology: NDArray[np.int64],
    migration: MigrationPolicy,
    population_size: int,
    streams: Sequence[np.random.Generator],
    delay: Callable[[int, int], float] = no_delay,
    island_type: type[Island] = Island,
) -> Simulation:
    """Run workers side by side on a virtual clock; the same arguments give the same run.

    As in a study, trials are numbered in the order in which they start.

    Args:
        archipelago: Who lives where; hundreds of workers are fine.
        n_trials: How many trials all workers together evaluate.
        objective: Called with what maps a parameter's name and distribution to its value, as an
            Optuna objective asks for them; returns the loss.
        duration: Called with a worker and the genes; returns how long the evaluation takes.
        breeder: Proposes offspring; each worker has a copy of it.
        topology: How many migrants go from island to island, shape ``(n_islands, n_islands)``.
        migration: Who migrates, and when.
        population_size: The size of the breeding pool.
        streams: What each worker draws from, such as ``worker_streams`` returns.
        delay: Called with sender and receiver; returns how long a message travels.
        island_type: What the workers see of their island.

    Returns:
        The run, drained: nothing is in flight any more.
    """
    n_workers = sum(archipelago.sizes)
    network = Network(archipelago.islands, delay)
    run = Simulation(
        network,
        [
            island_type(
                index=archipelago.island_of(worker),
                worker=worker,
                population_size=population_size,
                breeder=breeder,
                topology=topology,
                migration=migration,
                exchange=network.exchange(worker),
            )
            for worker in range(n_workers)
        ],
    )
    under_way: list[tuple[float, int, Individual]] = []  # end, number, individual

    def start(worker: int, number: int) -> None:
        island, rng = run.islands[worker], streams[worker]
        island.take_in(rng)
        child = island.breed(rng)
        genes: dict[str, Gene] = {}

        def suggest(name: str, distribution: BaseDistribution) -> Any:
            gene = child.genes.get(name)
            if gene is None:
                gene = Gene(from_unit(rng.random(), distribution), distribution)
            genes[name] = gene
            return gene.value

        loss = objective(suggest)
        end = network.now + duration(worker, genes)
        born = replace(child, genes=genes, number=number, loss=loss)
        heapq.heappush(under_way, (end, number, born))

    n_started = min(n_workers, n_trials)
    for worker in range(n_started):
        start(worker, worker)
    while under_way:
        network.now, _, born = heapq.heappop(under_way)
        run.births.append(born)
        departures = run.islands[born.worker].born(born, streams[born.worker])
        run.departures.extend((network.now, born.island, departure) for departure in departures)
        if n_started < n_trials:
            start(born.worker, n_started)
            n_started += 1
    for island, rng in zip(run.islands, streams, strict=True):
        island.drain(rng)
    return run
