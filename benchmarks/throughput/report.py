"""The throughput benchmark's tables, and the ratios by which it is judged."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.throughput.contenders import BULK
from benchmarks.throughput.contenders import BULK_CORE
from benchmarks.throughput.contenders import GRPC
from benchmarks.throughput.contenders import JOURNAL
from benchmarks.throughput.contenders import MEMORY
from benchmarks.throughput.contenders import N_LAST
from benchmarks.throughput.contenders import NSGA
from benchmarks.throughput.contenders import OURS
from benchmarks.throughput.contenders import PROPULATE
from benchmarks.throughput.contenders import RANDOM
from benchmarks.throughput.databases import POSTGRESQL
from benchmarks.throughput.databases import SQLITE


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Mapping
    from collections.abc import Sequence

    from benchmarks.throughput.contenders import Contender
    from benchmarks.throughput.contenders import Run

Round = dict["Contender", "Run"]


@dataclass(frozen=True)
class Figure:
    """A figure that has a target, taken in each round from the runs of that round.

    Args:
        name: What it is.
        target: What is asked for, and what is aimed at, in words.
        needs: The names of the contenders.
        of: The figure; called with a run of each of these.
    """

    name: str
    target: str
    needs: tuple[str, ...]
    of: Callable[..., float]

    def values(self, rounds: Sequence[Round], named: Mapping[str, Contender]) -> list[float]:
        """Return the figure in each round that has all the runs."""
        if not set(self.needs) <= named.keys():
            return []
        found = []
        for measured in rounds:
            runs = [measured.get(named[name]) for name in self.needs]
            if all(run and not run.problems for run in runs):
                found.append(self.of(*runs))
        return [value for value in found if not math.isnan(value)]


def _faster(ours: Run, other: Run) -> float:
    return ours.rate / other.rate


def _last(ours: Run, other: Run) -> float:
    return other.last / ours.last if ours.last and other.last else math.nan


def _last_committed(ours: Run, other: Run) -> float:
    if not (ours.last and other.last and ours.end):
        return math.nan
    return other.last / (ours.last + 1e6 * ours.end / N_LAST)


def _overhead(ours: Run, other: Run) -> float:
    return 1e6 / ours.rate - 1e6 / other.rate


def _growth(many: Run) -> float:
    return statistics.median(many.fifth(5)) / statistics.median(many.fifth(2))


def _mean_growth(many: Run) -> float:
    return statistics.mean(many.fifth(5)) / statistics.mean(many.fifth(2))


def _swelling(few: Run, many: Run) -> float:
    return max(after / before for before, after in zip(few.peaks, many.peaks, strict=True))


FIGURES = (
    Figure(
        "ours / RandomSampler, both on PostgreSQL, 2 processes", "at least 25, aim 60",
        ("ours, PostgreSQL", "random, PostgreSQL"), _faster,
    ),
    Figure(
        "ours / RandomSampler, both on SQLite, 2 processes", "at least 60, aim 100",
        ("ours, SQLite", "random, SQLite"), _faster,
    ),
    Figure(
        "ours on SQLite / bulk insert by SQLAlchemy Core", "at least 0.25, aim 0.5",
        ("ours, SQLite", "core, SQLite"), _faster,
    ),
    Figure(
        "ours on SQLite / bulk insert by the bare driver", "none",
        ("ours, SQLite", "bulk, SQLite"), _faster,
    ),
    Figure(
        "ours on PostgreSQL / bulk insert by COPY", "none",
        ("ours, PostgreSQL", "bulk, PostgreSQL"), _faster,
    ),
    Figure(
        "ours on SQLite / propulate without, whole short run", "at least 2, aim 5",
        ("ours, short", "propulate, short"), _faster,
    ),
    Figure(
        f"ours on SQLite / propulate without, last {N_LAST:,} of the long run",
        "at least 15, aim 40", ("ours, SQLite", "propulate, long"), _last,
    ),
    Figure(
        "... with our last flush and settling counted in", "none",
        ("ours, SQLite", "propulate, long"), _last_committed,
    ),
    Figure(
        "sampler alone, in memory: µs a trial above RandomSampler", "below 80, aim 40",
        ("ours, memory", "random, memory"), _overhead,
    ),
    Figure(
        "µs a trial, last fifth / second fifth (medians of windows)", "below 1.2, aim 1.0",
        ("many",), _growth,
    ),
    Figure("... means", "none", ("many",), _mean_growth),
    Figure(
        "peak memory of a rank, whole / tenth of the trials", "below 1.2, aim 1.0",
        ("few", "many"), _swelling,
    ),
)  # fmt: skip


def by_contender(rounds: Sequence[Round]) -> dict[Contender, list[Run]]:
    """Return the runs of each contender, in the order of the rounds."""
    found: dict[Contender, list[Run]] = {}
    for measured in rounds:
        for contender, run in measured.items():
            found.setdefault(contender, []).append(run)
    return found


def print_runs(rounds: Sequence[Round]) -> None:
    """Print a row for each contender: medians over its runs."""
    print(
        f"{'sampler':17}{'storage':17}{'params':>6}{'procs':>6}{'trials':>8}{'runs':>5}"
        f"{'trials/s':>10}{'min - max':>17}{'end, s':>8}{'others':>8}"
        "   µs a trial, by tenths of the run"
    )
    measured = by_contender(rounds)
    for contender in sorted(measured, key=_order):
        runs = [run for run in measured[contender] if not run.problems]
        rates = [run.rate for run in runs if run.seconds]
        if not rates:
            print(f"{contender}{'':5}    failed")
            continue
        spread = f"{_short(min(rates))} - {_short(max(rates))}"
        ends = [run.end for run in runs if run.end is not None and run.seconds]
        end = f"{statistics.median(ends):.2f}" if ends else "-"
        others = statistics.median(run.elsewhere for run in runs)
        print(
            f"{contender}{len(rates):5}{_short(statistics.median(rates)):>10}{spread:>17}"
            f"{end:>8}{others:8.0%}   {_tenths(runs)}"
        )


def print_memory(rounds: Sequence[Round]) -> None:
    """Print the peak memory of each rank, in MiB."""
    for contender, runs in by_contender(rounds).items():
        for run in runs:
            peaks = " ".join(f"{peak / 1024:.1f}" for peak in run.peaks)
            print(f"peak memory of the ranks after {contender.n_trials:,} trials, MiB: {peaks}")


def print_figures(rounds: Sequence[Round], named: Mapping[str, Contender]) -> None:
    """Print the figures that have targets: medians over the rounds."""
    print(f"{'figure, median over the rounds':72}{'':>8}{'min - max':>17}  target")
    for figure in FIGURES:
        values = figure.values(rounds, named)
        if values:
            spread = f"{_short(min(values))} - {_short(max(values))}"
            middle = _short(statistics.median(values))
            print(f"{figure.name:72}{middle:>8}{spread:>17}  {figure.target}")
        elif set(figure.needs) <= named.keys():
            print(f"{figure.name:72}{'-':>8}{'':17}  {figure.target}")


def print_problems(rounds: Iterable[Round]) -> None:
    """Print what went wrong."""
    for contender, runs in by_contender(list(rounds)).items():
        for run in runs:
            for problem in run.problems:
                print(f"PROBLEM: {' '.join(str(contender).split())}: {problem}")


def _order(contender: Contender) -> tuple[int, ...]:
    return (
        contender.n_parameters,
        (SQLITE, POSTGRESQL, JOURNAL, GRPC, "none", MEMORY).index(contender.storage),
        (OURS, RANDOM, NSGA, PROPULATE, BULK_CORE, BULK).index(contender.sampler),
        contender.n_processes,
        contender.n_trials,
    )


def _tenths(runs: Sequence[Run]) -> str:
    curves = [run.tenths for run in runs if run.curve]
    medians = [statistics.median(portion) for portion in zip(*curves, strict=True)]
    return " ".join(f"{_short(median):>6}" for median in medians) or "-"


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
