"""The tasks of the quality benchmark: what is searched, and for how many trials."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.distributions import FloatDistribution

import benchmarks.quality.mixed as quality_mixed
from benchmarks.quality.bbob import DIMENSIONS
from benchmarks.quality.bbob import NUMBERS
from benchmarks.quality.bbob import bbob
from benchmarks.quality.functions import FUNCTIONS
from benchmarks.quality.functions import quartic_noise
from benchmarks.quality.tables import DATASETS
from benchmarks.quality.tables import table
from optuna_propulate.evolution.genes import from_unit


if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.quality.functions import Function
    from benchmarks.quality.mixed import Suggest

    Evaluation = tuple[float, float]


@dataclass(frozen=True)
class Task:
    """A search problem; every seed has an optimum of its own.

    Args:
        name: Its name.
        kind: ``"function"``, ``"mixed"``, ``"table"`` or ``"bbob"``.
        n_trials: How many trials a run has.
        objective: Called with a seed; returns what maps a ``suggest`` to two losses: the one that
            samplers see, and the one that counts, which differs only where there is noise.
        time: Called with the parameters of a trial; returns how long it takes, or ``None``.
    """

    name: str
    kind: str
    n_trials: int
    objective: Callable[[int], Callable[[Suggest], Evaluation]]
    time: Callable[[dict[str, Any]], float] | None = None

    def of(self, n_trials: int) -> Task:
        """Return the task with another number of trials."""
        return replace(self, n_trials=n_trials)


def _of_function(function: Function, *, shifted: bool = True) -> Callable[[int], Any]:
    def objective(seed: int) -> Callable[[Suggest], Evaluation]:
        rng = np.random.default_rng((seed, function.n_dimensions, 1))
        shift = rng.uniform(-function.shift, function.shift, function.n_dimensions)
        shift = shift if shifted else np.zeros(function.n_dimensions)
        space = FloatDistribution(-function.limit, function.limit)
        names = [f"x{i}" for i in range(function.n_dimensions)]

        def evaluate(suggest: Suggest) -> Evaluation:
            x = np.array([suggest(name, space) for name in names]) - shift
            value = function.value(x)
            if function.name == "quartic":
                return abs(value + quartic_noise(len(x), rng)), value
            return value, value - function.best if shifted else value

        return evaluate

    return objective


def _of_loss(loss: Callable[[int], Callable[[Suggest], float]]) -> Callable[[int], Any]:
    def objective(seed: int) -> Callable[[Suggest], Evaluation]:
        of_seed = loss(seed)

        def evaluate(suggest: Suggest) -> Evaluation:
            value = of_seed(suggest)
            return value, value

        return evaluate

    return objective


def _of_table(dataset: str) -> Callable[[int], Any]:
    return _of_loss(lambda seed: table(dataset))


def _mixed() -> list[Task]:
    return [
        Task(
            name,
            "mixed",
            300,
            _of_loss(getattr(quality_mixed, name)),
            quality_mixed.training_time if name == "training" else None,
        )
        for name in ("training", "categories", "ellipsoid", "integers", "branches", "inheritance")
    ]


def _bbob() -> list[Task]:
    return [
        Task(f"f{number:02} {d}D", "bbob", 1000, _of_loss(bbob(number, d)))
        for d in DIMENSIONS
        for number in NUMBERS
    ]


def task_by_name(name: str) -> Task:
    """Return the task of this name."""
    return next(task for task in tasks() if task.name == name)


def space_of(task: Task, seed: int) -> dict[str, BaseDistribution]:
    """Return all parameters that a task may ask for, found by asking at random."""
    rng, space = np.random.default_rng(seed), dict[str, BaseDistribution]()

    def suggest(name: str, distribution: BaseDistribution) -> Any:
        space[name] = distribution
        return from_unit(rng.random(), distribution)

    evaluate = task.objective(seed)
    for _ in range(200):
        evaluate(suggest)
    return space


def unshifted(function: Function, n_trials: int) -> Task:
    """Return a function as the paper has it, for ``paper_table.py``."""
    return Task(function.name, "function", n_trials, _of_function(function, shifted=False))


def tasks() -> list[Task]:
    """Return all tasks."""
    return [
        *(Task(one.name, "function", 1000, _of_function(one)) for one in FUNCTIONS),
        *_mixed(),
        *(Task(name, "table", 150, _of_table(name)) for name in DATASETS),
        *_bbob(),
    ]
