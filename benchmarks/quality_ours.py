"""PropulateSampler on the virtual clock of the quality benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quality_contenders import durations

from optuna_propulate.islands import Pollination
from optuna_propulate.islands import default_population_size
from optuna_propulate.islands import resolve_topology
from optuna_propulate.islands import settle_workers
from optuna_propulate.islands.simulation import simulate
from optuna_propulate.islands.simulation import worker_streams
from optuna_propulate.operators import default_operator


if TYPE_CHECKING:
    from collections.abc import Mapping

    from quality_mixed import Suggest
    from quality_tasks import Task

    from optuna_propulate.genes import Gene
    from optuna_propulate.operators import Operator


def search(
    task: Task,
    n_workers: int,
    seed: int,
    *,
    n_islands: int = 1,
    operator: Operator | None = None,
    population_size: int | None = None,
    migration: float = 0.1,
) -> list[tuple[float, float]]:
    """Search as ``PropulateSampler(islands=n_islands)`` does on so many MPI ranks.

    Args:
        task: What is searched.
        n_workers: How many workers all islands have together.
        seed: The seed of task, durations and workers.
        n_islands: How many islands there are.
        operator: What breeds; ``None`` for the sampler's default.
        population_size: The size of the breeding pools; ``None`` for the sampler's default.
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

    archipelago = settle_workers(n_islands, n_workers)
    n_mates = max(archipelago.sizes)
    population_size = population_size or default_population_size(n_mates)
    run = simulate(
        archipelago,
        n_trials=task.n_trials,
        objective=objective,
        duration=duration,
        breed=operator or default_operator(population_size, n_workers=n_mates),
        topology=resolve_topology("fully_connected", n_islands),
        migration=Pollination(migration),
        population_size=population_size,
        streams=worker_streams(seed, n_workers),
    )
    return [(birth.loss, true[birth.loss].pop(0)) for birth in run.births]
