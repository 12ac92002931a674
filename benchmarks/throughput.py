"""Trials per second of one process in memory, as ratios to Optuna's RandomSampler.

All samplers take turns in every round, so that whatever else the machine does meets each of
them alike; the table shows the median over the rounds::

    python benchmarks/throughput.py --n-trials 2000 --rounds 5

The last column tells whether the cost of a trial grows with the number of trials that went
before: the time of a study's second half over that of its first.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING

import optuna
from optuna.samplers import BaseSampler
from optuna.samplers import NSGAIISampler
from optuna.samplers import RandomSampler

from optuna_propulate import PropulateSampler


if TYPE_CHECKING:
    from collections.abc import Callable


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "RandomSampler": lambda seed: RandomSampler(seed=seed),
    "PropulateSampler": lambda seed: PropulateSampler(seed=seed),
    "NSGAIISampler": lambda seed: NSGAIISampler(seed=seed),
}


def sphere(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -5, 5) ** 2 + trial.suggest_float("y", -5, 5) ** 2


def time_halves(sampler: BaseSampler, n_trials: int) -> tuple[float, float]:
    """Return the seconds that the first and the second half of a study took."""
    study = optuna.create_study(sampler=sampler)
    halves = []
    for n_half in (n_trials // 2, n_trials - n_trials // 2):
        start = time.perf_counter()
        study.optimize(sphere, n_trials=n_half)
        halves.append(time.perf_counter() - start)
    return halves[0], halves[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n-trials", type=int, default=2000, help="per study (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    flags = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rounds = [
        {name: time_halves(build(seed), flags.n_trials) for name, build in SAMPLERS.items()}
        for seed in range(flags.rounds)
    ]
    print(f"{'sampler':18}{'trials/s':>10}{'of random':>11}{'2nd half / 1st':>16}")
    for name in SAMPLERS:
        speed = statistics.median(flags.n_trials / sum(times[name]) for times in rounds)
        ratio = statistics.median(sum(t["RandomSampler"]) / sum(t[name]) for t in rounds)
        growth = statistics.median(times[name][1] / times[name][0] for times in rounds)
        print(f"{name:18}{speed:10.0f}{ratio:11.2f}{growth:16.2f}")


if __name__ == "__main__":
    main()
