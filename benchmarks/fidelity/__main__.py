"""Pruners: what a search comes to beside other samplers' at equal numbers of epochs.

Workers on a virtual clock train 27 epochs of each trial or fewer, and report each epoch's loss;
all together have a number of epochs. Three tasks are tables of trainings with learning curves
that were made, and one has real ones, of a multilayer perceptron on scikit-learn's digits, which
are trained at the first start (minutes) and kept. Printed for each pruner: the mean rank of each
sampler over tasks, numbers of workers and seeds after a quarter, half and all of the epochs; in
how many of them PropulateSampler was better and worse; the mean regret, at most 1, which is the
median setting's; in how many cases the pruner did better and worse than none; the share of
trials after the 30th that were random. ::

    python -m benchmarks.fidelity --seeds 20 --results benchmarks/results
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata

import benchmarks.fidelity.digits as fidelity_digits
from benchmarks.fidelity.curves import N_EPOCHS
from benchmarks.fidelity.curves import NAMES
from benchmarks.fidelity.runs import PRUNERS
from benchmarks.fidelity.runs import SAMPLERS
from benchmarks.fidelity.runs import Key
from benchmarks.fidelity.runs import Run
from benchmarks.fidelity.runs import search


if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

OURS = "PropulateSampler"
CAPTION = """\
# Under pruners

Four tasks with learning curves of 27 epochs, {workers} workers, {seeds} seeds; together they
train {epochs} epochs. `python -m benchmarks.fidelity --seeds {seeds}`"""


class Report:
    """Compares samplers under each pruner.

    Args:
        runs: The searches; every sampler with the same tasks, workers and seeds.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = {run.key: run for run in runs}
        self.pruners = [name for name in PRUNERS if any(run.key.pruner == name for run in runs)]
        self.samplers = [name for name in SAMPLERS if any(run.key.sampler == name for run in runs)]
        self.cases = sorted({(run.key.task, run.key.n_workers, run.key.seed) for run in runs})

    def of(self, pruner: str, sampler: str) -> list[Run]:
        """Return the runs of a sampler under a pruner, one for each case."""
        return [
            self._runs[Key(task, pruner, sampler, n_workers, seed)]
            for task, n_workers, seed in self.cases
        ]

    def regrets(self, pruner: str, sampler: str) -> NDArray[np.float64]:
        """Return the best regrets, shape ``(n_cases, 3)``."""
        return np.array([run.best for run in self.of(pruner, sampler)])

    def text(self) -> str:
        """Return the figures as a table in Markdown."""
        columns = [
            "pruner", "sampler", "mean rank at 1/4", "at 1/2", "at all", "regret at 1/4", "at 1/2",
            "at all", "against none", "trials", "random after the 30th", "CPU a trial",
        ]  # fmt: skip
        lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
        for pruner in self.pruners:
            regrets = np.array([self.regrets(pruner, sampler) for sampler in self.samplers])
            ranks = rankdata(regrets, axis=0).mean(axis=1)
            for sampler, mine, rank in zip(self.samplers, regrets, ranks, strict=True):
                ours = regrets[self.samplers.index(OURS)] if OURS in self.samplers else mine
                runs = self.of(pruner, sampler)
                cells = [
                    pruner,
                    sampler,
                    *(
                        f"{one:.2f}" + (f" ({_compared(a, b)})" if sampler != OURS else "")
                        for one, a, b in zip(rank, ours.T, mine.T, strict=True)
                    ),
                    *(f"{one:.3f}" for one in np.minimum(mine, 1.0).mean(axis=0)),
                    ""
                    if pruner == "none" or "none" not in self.pruners
                    else _compared(mine[:, -1], self.regrets("none", sampler)[:, -1]),
                    f"{np.mean([run.n_trials for run in runs]):.0f}",
                    f"{np.mean([run.random for run in runs]):.1%}" if sampler == OURS else "",
                    f"{np.mean([run.cpu for run in runs]) * 1e3:.1f} ms",
                ]
                lines.append(f"| {' | '.join(cells)} |")
        lines += ["", f"In brackets: in how many cases {OURS} was better : worse."]
        return "\n".join(lines)


def _compared(one: NDArray[np.float64], other: NDArray[np.float64]) -> str:
    return f"{int((one < other).sum())} : {int((one > other).sum())}"


def main() -> None:
    flags = _flags()
    flags.kept.mkdir(parents=True, exist_ok=True)
    digits = flags.kept / "digits.npy"
    keys = [
        Key(*names, n_workers, seed)
        for seed, n_workers in product(range(flags.seeds), flags.workers)
        for names in product(flags.tasks, flags.pruners, flags.samplers)
    ]
    with ProcessPoolExecutor(flags.processes) as pool:
        fidelity_digits.trained(digits, N_EPOCHS, pool)
        futures = [pool.submit(search, key, flags.epochs, digits) for key in keys]
        report = Report([future.result() for future in futures])
    print(report.text())
    if flags.results:
        caption = CAPTION.format(
            workers=" and ".join(map(str, flags.workers)), seeds=flags.seeds, epochs=flags.epochs
        )
        (flags.results / "fidelity.md").write_text(f"{caption}\n\n{report.text()}\n")


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many (%(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8], help="(1 and 8)")
    parser.add_argument(
        "--epochs", type=int, default=40 * N_EPOCHS, help="of all trials together (%(default)s)"
    )
    parser.add_argument("--tasks", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--pruners", nargs="+", choices=PRUNERS, default=[*PRUNERS])
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=[*SAMPLERS])
    parser.add_argument("--processes", type=int, help="(one for each core)")
    parser.add_argument("--kept", type=Path, default=Path("build"), help="for the digits' curves")
    parser.add_argument("--results", type=Path, help="where the table goes, too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
