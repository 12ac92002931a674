"""Optuna's samplers and Propulate on the virtual clock of the quality benchmark."""

from __future__ import annotations

import heapq
import os
import warnings
from typing import TYPE_CHECKING
from typing import Any
from typing import TypeVar

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    from optuna.distributions import BaseDistribution

    from benchmarks.quality.mixed import Suggest
    from benchmarks.quality.tasks import Task

AnyTrial = TypeVar("AnyTrial")


def durations(seed: int) -> Iterator[float]:
    """Yield the lengths of evaluations: log-normal, most between 0.4 and 2.7."""
    rng = np.random.default_rng((seed, 7))
    while True:
        yield from rng.lognormal(0.0, 0.5, 1024).tolist()


def on_virtual_clock(
    task: Task,
    n_workers: int,
    seed: int,
    ask: Callable[[], tuple[AnyTrial, Suggest]],
    tell: Callable[[AnyTrial, float], object],
) -> list[tuple[float, float]]:
    """Let workers evaluate what is asked for, each anew when its evaluation ends.

    Returns:
        The losses of the trials, seen and true, in the order of their ends.
    """
    evaluate, lengths = task.objective(seed), durations(seed)
    under_way: list[tuple[float, int, AnyTrial, tuple[float, float]]] = []
    finished = []
    now = 0.0
    for number in range(task.n_trials + n_workers):
        if number >= n_workers:
            if not under_way:
                break
            now, _, trial, losses = heapq.heappop(under_way)
            tell(trial, losses[0])
            finished.append(losses)
        if number < task.n_trials:
            trial, suggest = ask()
            values: dict[str, Any] = {}
            losses = evaluate(_noted(suggest, values))
            length = next(lengths) * (task.time(values) if task.time else 1.0)
            heapq.heappush(under_way, (now + length, number, trial, losses))
    finished += [heapq.heappop(under_way)[3] for _ in range(len(under_way))]
    return finished


def _noted(suggest: Suggest, values: dict[str, Any]) -> Suggest:
    def note(name: str, distribution: BaseDistribution) -> Any:
        values[name] = suggest(name, distribution)
        return values[name]

    return note


def _auto_sampler(seed: int) -> optuna.samplers.BaseSampler:
    """Return OptunaHub's AutoSampler, offline where ``OPTUNAHUB_REGISTRY`` is a checkout of it."""
    import optunahub

    registry = os.environ.get("OPTUNAHUB_REGISTRY")
    if registry is None:
        module = optunahub.load_module("samplers/auto_sampler")
    else:
        module = optunahub.load_local_module(
            "samplers/auto_sampler", registry_root=f"{registry}/package"
        )
    sampler: optuna.samplers.BaseSampler = module.AutoSampler(seed=seed)
    return sampler


OPTUNA: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "Random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "TPE": lambda seed: optuna.samplers.TPESampler(seed=seed, warn_independent_sampling=False),
    "TPE univariate": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=False),
    "NSGA-II": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "CMA-ES": lambda seed: optuna.samplers.CmaEsSampler(
        seed=seed, warn_independent_sampling=False
    ),
    "GP": lambda seed: optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False),
    "AutoSampler": _auto_sampler,
}


def suggest_of(trial: optuna.Trial) -> Suggest:
    """Return the trial's suggestions by distribution."""

    def suggest(name: str, distribution: BaseDistribution) -> Any:
        if isinstance(distribution, CategoricalDistribution):
            return trial.suggest_categorical(name, distribution.choices)
        low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
        if isinstance(distribution, FloatDistribution):
            return trial.suggest_float(
                name, low, high, step=distribution.step, log=distribution.log
            )
        assert isinstance(distribution, IntDistribution)
        return trial.suggest_int(name, low, high, step=distribution.step, log=distribution.log)

    return suggest


def search_optuna(
    task: Task, sampler: str, n_workers: int, seed: int
) -> list[tuple[float, float]]:
    """Search with one of Optuna's samplers.

    Returns:
        The losses of the trials, seen and true, in the order of their ends.
    """
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=OPTUNA[sampler](seed))

    def ask() -> tuple[optuna.Trial, Suggest]:
        trial = study.ask()
        return trial, suggest_of(trial)

    return on_virtual_clock(task, n_workers, seed, ask, study.tell)
