"""One search under a pruner: workers on a virtual clock, who share a number of epochs."""

from __future__ import annotations

import heapq
import math
import time
import warnings
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import optuna
from optuna.trial import TrialState

from benchmarks.fidelity.curves import N_EPOCHS
from benchmarks.fidelity.curves import curves
from optuna_propulate import PropulateSampler
from optuna_propulate.records.attributes import operators_of


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

N_STARTUP = 30
"""So many trials nobody asks how they were made."""
PRUNERS: dict[str, Callable[[], BasePruner]] = {
    "none": optuna.pruners.NopPruner,
    "median": optuna.pruners.MedianPruner,
    "successive halving": optuna.pruners.SuccessiveHalvingPruner,
    "Hyperband": partial(optuna.pruners.HyperbandPruner, max_resource=N_EPOCHS),
    "Wilcoxon": optuna.pruners.WilcoxonPruner,
}
SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "PropulateSampler": lambda seed: PropulateSampler(seed=seed),
    "TPE": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "NSGA-II": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "CMA-ES": lambda seed: optuna.samplers.CmaEsSampler(
        seed=seed, warn_independent_sampling=False
    ),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


@dataclass(frozen=True)
class Key:
    """Which search it is: the names of task, pruner and sampler, and two numbers."""

    task: str
    pruner: str
    sampler: str
    n_workers: int
    seed: int


@dataclass(frozen=True)
class Run:
    """What one search came to.

    Args:
        key: Which search it was.
        best: The regret of the best complete trial after 1/4, 1/2 and all of the epochs; if
            none is complete, infinity.
        n_trials: How many trials had begun.
        random: The share of trials after the 30th that no operator has bred, in [0, 1]; 0 where
            there is none.
        cpu: What a trial took, in seconds of the processor.
    """

    key: Key
    best: tuple[float, float, float]
    n_trials: int
    random: float
    cpu: float


def search(key: Key, n_epochs: int, digits: Path) -> Run:
    """Search until so many epochs have been trained by all workers together.

    Each epoch of a trial takes the same time, which is log-normal over the trials.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    began = time.process_time()
    lengths = np.random.default_rng((key.seed, 7))
    task = curves(key.task, digits)
    name = f"{key.task} {key.seed}"  # which says to which bracket of Hyperband a trial belongs
    sampler, pruner = SAMPLERS[key.sampler](key.seed), PRUNERS[key.pruner]()
    study = optuna.create_study(sampler=sampler, pruner=pruner, study_name=name)
    under_way: list[tuple[float, int, int, float, optuna.Trial, list[float]]] = []

    def start(now: float) -> None:
        trial, length = study.ask(), float(lengths.lognormal(0.0, 0.5))
        heapq.heappush(under_way, (now + length, trial.number, 1, length, trial, task.of(trial)))

    for _ in range(key.n_workers):
        start(0.0)
    best, found = math.inf, []
    for n_trained in range(1, n_epochs + 1):
        now, number, epoch, length, trial, curve = heapq.heappop(under_way)
        trial.report(curve[epoch - 1], epoch)
        if epoch == N_EPOCHS:
            study.tell(trial, curve[-1])
            best = min(best, curve[-1])
            start(now)
        elif trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            start(now)
        else:
            heapq.heappush(under_way, (now + length, number, epoch + 1, length, trial, curve))
        if n_trained in (n_epochs // 4, n_epochs // 2, n_epochs):
            found.append(best)
    trials = study.trials
    bred = [operators_of(trial) != ("RandomInitialization",) for trial in trials[N_STARTUP:]]
    return Run(
        key,
        (found[0], found[1], found[2]),
        len(trials),
        1.0 - sum(bred) / len(bred) if bred else 0.0,
        (time.process_time() - began) / len(trials),
    )
