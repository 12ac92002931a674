"""Runs of the quality benchmark, and the file that keeps those that are done."""

from __future__ import annotations

import json
from dataclasses import asdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np


if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence
    from pathlib import Path

Key = tuple[str, str, int, int, int]
"""Task, sampler, how many workers, seed, how many trials."""

BUDGETS = (25, 50, 100, 200, 500, 1000)
"""After how many trials samplers are compared."""


@dataclass(frozen=True)
class Record:
    """One run of one sampler.

    Args:
        task: The task's name.
        sampler: The sampler's name.
        n_workers: How many trials were under way at a time.
        seed: The seed of task, durations and sampler.
        n_trials: How many trials it had.
        curve: The true loss of the best trial so far, after each of ``checkpoints``.
        cpu: What a trial took, in seconds of the processor; 0 if that is not known.
    """

    task: str
    sampler: str
    n_workers: int
    seed: int
    n_trials: int
    curve: list[float]
    cpu: float = 0.0

    @property
    def key(self) -> Key:
        """What tells runs apart."""
        return (self.task, self.sampler, self.n_workers, self.seed, self.n_trials)

    def at(self, n_trials: int) -> float:
        """The true loss of the best of the first trials, as many as a budget has."""
        return self.curve[checkpoints(self.n_trials).index(n_trials)]

    @property
    def final(self) -> float:
        """The true loss of the best trial of the run."""
        return self.curve[-1]


def checkpoints(n_trials: int) -> list[int]:
    """Return the numbers of finished trials after which a run is looked at."""
    looks = {round(n) for n in np.geomspace(5, n_trials, 30)}
    return sorted(looks | {n for n in BUDGETS if n < n_trials})


def curve(losses: Sequence[tuple[float, float]]) -> list[float]:
    """Return the true loss of the best trial so far at each checkpoint.

    Args:
        losses: Of each trial the loss that the sampler saw, and the true one.
    """
    seen = np.array([loss for loss, _ in losses])
    best = np.minimum.accumulate(seen)
    leader = np.maximum.accumulate(np.where(seen == best, np.arange(len(seen)), 0))
    first = np.maximum.accumulate(np.where(np.diff(best, prepend=np.inf) < 0, leader, 0))
    return [float(losses[first[n - 1]][1]) for n in checkpoints(len(losses))]


def read(path: Path) -> dict[Key, Record]:
    """Return the runs that a file keeps; none if there is no such file."""
    if not path.exists():
        return {}
    records = [Record(**json.loads(line)) for line in path.read_text().splitlines()]
    return {record.key: record for record in records}


def append(path: Path, records: Iterable[Record]) -> None:
    """Add runs to a file."""
    with path.open("a") as file:
        for record in records:
            file.write(json.dumps(asdict(record)) + "\n")
