"""Propulate's default propagator on the virtual clock; runs where Propulate is installed.

Reads keys of runs as JSON, writes their records as JSON. Propulate knows no log scale, no steps
and no conditional parameters: it searches the linear range, the index of a stepped value, and all
parameters of every branch.
"""

from __future__ import annotations

import json
import random
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from propulate.utils import get_default_propagator

import benchmarks.quality.runs as quality_runs
from benchmarks.quality.contenders import on_virtual_clock
from benchmarks.quality.tasks import space_of
from benchmarks.quality.tasks import task_by_name


if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from benchmarks.quality.mixed import Suggest
    from benchmarks.quality.tasks import Task


def search(task: Task, n_workers: int, seed: int) -> list[tuple[float, float]]:
    """Search with Propulate's defaults, a population of two for each worker and 10 or more."""
    limits = {name: _limits(distribution) for name, distribution in space_of(task, seed).items()}
    propagator = get_default_propagator(max(10, 2 * n_workers), limits, rng=random.Random(seed))
    population: list[Any] = []

    def ask() -> tuple[Any, Suggest]:
        individual = propagator(population)
        return individual, lambda name, distribution: _value(individual[name], distribution)

    def tell(individual: Any, loss: float) -> None:
        individual.loss = loss
        population.append(individual)

    return on_virtual_clock(task, n_workers, seed, ask, tell)


def _limits(distribution: BaseDistribution) -> tuple[Any, ...]:
    if isinstance(distribution, CategoricalDistribution):
        return tuple(str(choice) for choice in distribution.choices)
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    if isinstance(distribution, FloatDistribution) and distribution.step is None:
        return (distribution.low, distribution.high)
    if distribution.log:
        return (int(distribution.low), int(distribution.high))
    assert distribution.step is not None
    return (0, round((distribution.high - distribution.low) / distribution.step))


def _value(value: Any, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution) or isinstance(value, float):
        return value
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    if distribution.log or distribution.step is None:
        return value
    return distribution.low + value * distribution.step


def main() -> None:
    records = []
    for name, sampler, n_workers, seed, n_trials in json.load(sys.stdin):
        began = time.process_time()
        losses = search(task_by_name(name).of(n_trials), n_workers, seed)
        cpu = (time.process_time() - began) / n_trials
        curve = quality_runs.curve(losses)
        record = quality_runs.Record(name, sampler, n_workers, seed, n_trials, curve, cpu)
        records.append(asdict(record))
    json.dump(records, sys.stdout)


if __name__ == "__main__":
    main()
