"""PropulateSampler on the virtual clock of the quality benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.quality.contenders import durations
from optuna_propulate.breeders import DifferentialMutation
from optuna_propulate.breeders import ParzenSampling
from optuna_propulate.breeders import Screening
from optuna_propulate.breeders import WarmUp
from optuna_propulate.breeders.defaults import choose_among
from optuna_propulate.breeders.defaults import ways_to_breed
from optuna_propulate.islands import Pollination
from optuna_propulate.islands import assign_workers
from optuna_propulate.islands import default_population_size
from optuna_propulate.islands import resolve_topology
from optuna_propulate.islands.simulation import simulate
from optuna_propulate.islands.simulation import worker_streams
from optuna_propulate.operators import Pipeline
from optuna_propulate.operators import SelectTournament
from optuna_propulate.operators import SelfAdaptiveMutation
from optuna_propulate.operators import UniformCrossover
from optuna_propulate.operators import crossover_and_mutation


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from benchmarks.quality.mixed import Suggest
    from benchmarks.quality.tasks import Task
    from optuna_propulate.breeders import Breeder
    from optuna_propulate.evolution.genes import Gene
    from optuna_propulate.operators import Operator


@dataclass(frozen=True)
class Variant:
    """PropulateSampler with something changed.

    Args:
        n_islands: How many islands there are.
        without: Which of the default's ways to breed is left out.
        beside: Which of ``FURTHER_WAYS`` is added to them.
        screening: Returns what proposes some of the children of a breeder.
        of_paper: Whether the operators are those of Propulate's paper.
        population_size: The size of the breeding pools; ``None`` for the default.
    """

    n_islands: int = 1
    without: str | None = None
    beside: str | None = None
    screening: Callable[[Breeder], Breeder] = Screening
    of_paper: bool = False
    population_size: int | None = None

    def breeder(self, population_size: int, n_workers: int) -> Breeder:
        """Return what breeds on an island with so many workers."""
        if self.of_paper:
            return WarmUp(population_size, crossover_and_mutation())
        ways = [way for name, way in ways_to_breed(n_workers).items() if name != self.without]
        if self.beside is not None:
            ways.append((FURTHER_WAYS[self.beside], 0.03))
        return choose_among(ways, population_size, screening=self.screening)


FURTHER_WAYS: dict[str, Operator | Breeder] = {
    "densities": ParzenSampling(),
    "steps": Pipeline(SelectTournament(2), UniformCrossover(1.0), SelfAdaptiveMutation()),
    "differences": DifferentialMutation(),
}
DEFAULT = Variant()
ABLATION = {
    **{f"without {name}": Variant(without=name) for name in ways_to_breed()},
    **{f"with {name}": Variant(beside=name) for name in FURTHER_WAYS},
    "without screening": Variant(screening=lambda breeder: breeder),
    "all screened": Variant(screening=partial(Screening, share=1.0)),
    "half screened": Variant(screening=partial(Screening, share=0.5)),
    "of 10 children": Variant(screening=partial(Screening, n_children=10)),
    "of 40 children": Variant(screening=partial(Screening, n_children=40)),
    "pool of 10": Variant(population_size=10),
    "pool of 40": Variant(population_size=40),
    "operators of the paper": Variant(of_paper=True),
}


def search(
    task: Task,
    n_workers: int,
    seed: int,
    variant: Variant = DEFAULT,
    *,
    migration: float = 0.1,
) -> list[tuple[float, float]]:
    """Search as ``PropulateSampler`` does on so many MPI ranks.

    Args:
        task: What is searched.
        n_workers: How many workers all islands have together.
        seed: The seed of task, durations and workers.
        variant: What differs from the sampler's defaults.
        migration: The migration probability.

    Returns:
        The losses of the trials, seen and true, in the order of their ends.
    """
    evaluate, lengths = task.objective(seed), durations(seed)
    true: dict[float, list[float]] = {}

    def objective(suggest: Suggest) -> float:
        seen, counts = evaluate(suggest)
        true.setdefault(seen, []).append(counts)
        return seen

    def duration(worker: int, genes: Mapping[str, Gene]) -> float:
        values = {name: gene.value for name, gene in genes.items()}
        return next(lengths) * (task.time(values) if task.time else 1.0)

    archipelago = assign_workers(variant.n_islands, n_workers)
    n_peers = max(archipelago.sizes)
    population_size = variant.population_size or default_population_size(n_peers)
    run = simulate(
        archipelago,
        n_trials=task.n_trials,
        objective=objective,
        duration=duration,
        breeder=variant.breeder(population_size, n_peers),
        topology=resolve_topology("fully_connected", variant.n_islands),
        migration=Pollination(migration),
        population_size=population_size,
        streams=worker_streams(seed, n_workers),
    )
    return [(birth.loss, true[birth.loss].pop(0)) for birth in run.births]
