"""What the throughput benchmark compares, and what a run of it tells."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from dataclasses import field
from itertools import pairwise
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from benchmarks.throughput.databases import History
from benchmarks.throughput.databases import read_history
from benchmarks.throughput.databases import wrong_rows


OURS, RANDOM, NSGA = "optuna-propulate", "RandomSampler", "NSGAIISampler"
PROPULATE, BULK, BULK_CORE = "propulate", "bulk, driver", "bulk, Core"
MEMORY, JOURNAL, GRPC = "memory", "journal file", "gRPC, PostgreSQL"

N_LAST = 1000
"""How many trials at a run's end are looked at by themselves, if it has 20 times as many."""

STUDY = "throughput"
"""The name of every study."""


@dataclass(frozen=True)
class Contender:
    """What is measured: a sampler on a storage, for a problem, by so many processes."""

    sampler: str
    storage: str
    n_parameters: int
    n_processes: int
    n_trials: int

    def __str__(self) -> str:
        return (
            f"{self.sampler:17}{self.storage:17}{self.n_parameters:6}{self.n_processes:6}"
            f"{self.n_trials:8}"
        )


@dataclass(frozen=True)
class Run:
    """What was measured in one run.

    Attributes:
        n_trials: How many trials it had.
        seconds: How long it took; ``None`` if it went on from another run's checkpoint.
        curve: Microseconds a trial in equal portions of the run, a hundred or ten of them.
        last: Microseconds a trial of the last ``N_LAST`` trials.
        end: Seconds from the last trial's end to the return: the last flush and the settling.
        peaks: The peak memory of each process, in KiB.
        elsewhere: The share of the machine that other processes took, in [0, 1].
        problems: What is wrong with what the run left.
    """

    n_trials: int
    seconds: float | None = None
    curve: list[float] = field(default_factory=list)
    last: float | None = None
    end: float | None = None
    peaks: list[int] = field(default_factory=list)
    elsewhere: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Trials a second of the whole run."""
        return self.n_trials / self.seconds if self.seconds else math.nan

    @property
    def tenths(self) -> list[float]:
        """Microseconds a trial by tenths of the run."""
        return [statistics.mean(portion) for portion in self._portions(10)]

    def fifth(self, place: int) -> list[float]:
        """Return the part of the curve that is this fifth of the run, from 1 to 5."""
        return self._portions(5)[place - 1]

    def _portions(self, n: int) -> list[list[float]]:
        size = len(self.curve) // n
        return [self.curve[place * size : (place + 1) * size] for place in range(n)]


def evaluated(
    contender: Contender,
    where: dict[str, Any],
    reports: list[dict[str, Any]],
    elsewhere: float,
) -> Run:
    """Return what the reports and the database tell."""
    seconds = max(r["end"] for r in reports) - min(r["start"] for r in reports)
    peaks, n = [r["peak"] for r in reports], contender.n_trials
    history = _history(where, reports)
    n_done, ended_at = len(history.ends), max(r["ended_at"] for r in reports)
    problems: list[str] = []
    if contender.sampler == OURS and where:
        problems = wrong_rows(where["url"], n, contender.n_parameters)
    elif n_done != n and contender.sampler != PROPULATE:  # which may go on from a checkpoint
        problems = [f"{n_done} complete trials instead of {n}"]
    if contender.sampler in (BULK, BULK_CORE):
        return Run(n, seconds, peaks=peaks, elsewhere=elsewhere, problems=problems)
    is_whole = n_done >= n // contender.n_processes * contender.n_processes
    return Run(
        n,
        seconds if is_whole else None,
        _curve(history, 100 if n >= 2000 else 10) if is_whole else [],
        _last(history) if n >= 20 * N_LAST else None,
        ended_at - history.ends[-1],
        peaks,
        elsewhere,
        problems,
    )


def _history(where: dict[str, Any], reports: list[dict[str, Any]]) -> History:
    if "url" in where:
        return read_history(where["url"])
    if "journal" in where:
        storage = JournalStorage(JournalFileBackend(where["journal"]))
        trials = optuna.load_study(study_name=STUDY, storage=storage).trials
        ends = [t.datetime_complete.timestamp() for t in trials if t.datetime_complete]
    else:
        ends = [end for report in reports for end in report["ends"]]
    return History(min(report["began_at"] for report in reports), ends)


def _curve(history: History, n_portions: int) -> list[float]:
    """Return microseconds a trial in equal portions of the run."""
    times = [history.start, *history.ends]
    n = len(history.ends)
    if n < n_portions:
        return []
    bounds = [n * place // n_portions for place in range(n_portions + 1)]
    return [
        1e6 * (times[after] - times[before]) / (after - before)
        for before, after in pairwise(bounds)
    ]


def _last(history: History) -> float:
    """Return microseconds a trial of the last ones; all of a run that went on from there."""
    times = [history.start, *history.ends][-N_LAST - 1 :]
    return 1e6 * (times[-1] - times[0]) / (len(times) - 1)
