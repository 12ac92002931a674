"""Pruners: what the search is worth beside TPE's if most trials are stopped early.

A multilayer perceptron learns scikit-learn's 1,797 handwritten digits; five hyperparameters are
searched, and the validation loss is reported after each of 27 epochs. Every run has a seed, the
same for all samplers: it shuffles the digits and draws the first weights. Printed for each pruner
and sampler: the mean over the seeds of the best validation loss after 50, 100 and all trials, in
how many runs it is lower than TPE's, the share of trials after the 30th that were random, and of
epochs that were trained. ::

    python benchmarks/pruners.py --seeds 10 --trials 200 --results benchmarks/results
"""

from __future__ import annotations

import argparse
import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from optuna_propulate import PropulateSampler
from optuna_propulate.records.attributes import operators_of


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

    Floats = NDArray[np.float64]

N_EPOCHS = 27
N_VALIDATION = 600
WORST = 10.0  # the loss of a training that diverges
CAPTION = """\
# Under pruners

A multilayer perceptron on scikit-learn's digits, five hyperparameters, up to 27
epochs; {trials} trials one after the other, means of {seeds} seeds of the best validation loss of
a complete trial. `python benchmarks/pruners.py --seeds {seeds} --trials {trials}`"""
N_STARTUP = 30  # trials, of which nobody asks how they were made
PRUNERS: dict[str, Callable[[], BasePruner]] = {
    "none": optuna.pruners.NopPruner,
    "median": optuna.pruners.MedianPruner,
    "successive halving": optuna.pruners.SuccessiveHalvingPruner,
    "Hyperband": partial(optuna.pruners.HyperbandPruner, max_resource=N_EPOCHS),
}
SAMPLERS: dict[str, Callable[..., BaseSampler]] = {
    "PropulateSampler": PropulateSampler,
    "TPE": optuna.samplers.TPESampler,
    "random": optuna.samplers.RandomSampler,
}


@dataclass(frozen=True)
class Run:
    """What one search came to.

    Args:
        pruner: Its pruner's name.
        sampler: Its sampler's name.
        best: The lowest loss of a complete trial after each trial; infinity before the first.
        random: The share of trials after the 30th that no operator has bred, in [0, 1].
        trained: The share of all epochs that were trained, in (0, 1].
    """

    pruner: str
    sampler: str
    best: tuple[float, ...]
    random: float
    trained: float


@lru_cache
def digits(seed: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Return images, shape (n, 64), and labels, (n, 10), to train with and to validate with."""
    from sklearn.datasets import load_digits

    images, numbers = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(images))
    images, labels = images[order] / 16.0, np.eye(10)[numbers[order]]
    n = N_VALIDATION
    return images[n:], labels[n:], images[:n], labels[:n]


def losses(
    seed: int, n_hidden: int, rate: float, momentum: float, decay: float, n_batch: int
) -> Iterator[float]:
    """Train by gradient descent with momentum; yield the validation loss after each epoch."""
    images, labels, others, truth = digits(seed)
    rng = np.random.default_rng(seed)
    weights = [
        rng.normal(0, 1 / math.sqrt(64), (64, n_hidden)),
        np.zeros(n_hidden),
        rng.normal(0, 1 / math.sqrt(n_hidden), (n_hidden, 10)),
        np.zeros(10),
    ]
    speeds = [np.zeros_like(weight) for weight in weights]

    def forward(batch: Floats) -> tuple[Floats, Floats]:
        hidden = np.tanh(batch @ weights[0] + weights[1])
        scores = hidden @ weights[2] + weights[3]
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return hidden, powers / powers.sum(axis=1, keepdims=True)

    for _ in range(N_EPOCHS):
        order = rng.permutation(len(images))
        for start in range(0, len(order), n_batch):
            rows = order[start : start + n_batch]
            hidden, chances = forward(images[rows])
            error = (chances - labels[rows]) / len(rows)
            inner = (error @ weights[2].T) * (1 - hidden**2)
            slopes = [images[rows].T @ inner, inner.sum(0), hidden.T @ error, error.sum(0)]
            for weight, speed, slope in zip(weights, speeds, slopes, strict=True):
                speed *= momentum
                speed -= rate * (slope + decay * weight)
                weight += speed
        chances = np.clip((forward(others)[1] * truth).sum(axis=1), 1e-300, None)
        loss = float(-np.log(chances).mean())
        yield min(loss, WORST) if math.isfinite(loss) else WORST


def search(pruner: str, sampler: str, seed: int, n_trials: int) -> Run:
    """Search once, in one process."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    n_trained = 0

    def objective(trial: optuna.Trial) -> float:
        nonlocal n_trained
        settings: dict[str, Any] = {
            "n_hidden": trial.suggest_int("n_hidden", 4, 128, log=True),
            "rate": trial.suggest_float("rate", 1e-4, 3.0, log=True),
            "momentum": trial.suggest_float("momentum", 0.0, 0.99),
            "decay": trial.suggest_float("decay", 1e-6, 1e-1, log=True),
            "n_batch": trial.suggest_int("n_batch", 16, 512, log=True),
        }
        loss = WORST
        with np.errstate(over="ignore", invalid="ignore"):
            for epoch, loss in enumerate(losses(seed, **settings), 1):
                n_trained += 1
                trial.report(loss, epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned
        return loss

    study = optuna.create_study(sampler=SAMPLERS[sampler](seed=seed), pruner=PRUNERS[pruner]())
    study.optimize(objective, n_trials=n_trials)
    trials = study.trials
    values = [
        trial.value if trial.state == TrialState.COMPLETE and trial.value is not None else math.inf
        for trial in trials
    ]
    later = trials[N_STARTUP:]
    return Run(
        pruner=pruner,
        sampler=sampler,
        best=tuple(float(best) for best in np.minimum.accumulate(values)),
        random=fmean(operators_of(trial) == ("RandomInitialization",) for trial in later),
        trained=n_trained / (N_EPOCHS * n_trials),
    )


def table(runs: list[Run], n_trials: int) -> str:
    """Return the figures as a table in Markdown."""
    marks = sorted({min(50, n_trials), min(100, n_trials), n_trials})
    columns = [
        "pruner", "sampler", *(f"best at {n}" for n in marks), "lower than TPE's",
        "random after the 30th", "epochs trained",
    ]  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for pruner, sampler in product(PRUNERS, SAMPLERS):
        ours = [run for run in runs if (run.pruner, run.sampler) == (pruner, sampler)]
        tpe = [run for run in runs if (run.pruner, run.sampler) == (pruner, "TPE")]
        lower = sum(a.best[-1] < b.best[-1] for a, b in zip(ours, tpe, strict=True))
        cells = [
            pruner,
            sampler,
            *(f"{fmean(run.best[n - 1] for run in ours):.4f}" for n in marks),
            "" if sampler == "TPE" else f"{lower} of {len(ours)}",
            f"{fmean(run.random for run in ours):.1%}" if sampler == "PropulateSampler" else "",
            f"{fmean(run.trained for run in ours):.0%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10, help="how many (%(default)s)")
    parser.add_argument("--trials", type=int, default=200, help="above 30 (%(default)s)")
    parser.add_argument("--processes", type=int, help="(one for each core)")
    parser.add_argument("--results", type=Path, help="where the table goes, too")
    flags = parser.parse_args()
    with ProcessPoolExecutor(flags.processes) as pool:
        futures = [
            pool.submit(search, pruner, sampler, seed, flags.trials)
            for pruner, sampler, seed in product(PRUNERS, SAMPLERS, range(flags.seeds))
        ]
        found = table([future.result() for future in futures], flags.trials)
    print(found)
    if flags.results:
        caption = CAPTION.format(seeds=flags.seeds, trials=flags.trials)
        (flags.results / "pruners.md").write_text(f"{caption}\n\n{found}\n")


if __name__ == "__main__":
    main()
