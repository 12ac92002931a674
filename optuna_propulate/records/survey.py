"""What a study records of its islands and workers, counted."""

from __future__ import annotations

import math
from collections import Counter
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Any
from typing import TypeVar

from optuna.study import StudyDirection

from optuna_propulate.records.attributes import island_of
from optuna_propulate.records.attributes import worker_of
from optuna_propulate.records.conversion import complete
from optuna_propulate.records.conversion import rank_of
from optuna_propulate.records.migrations import migrations_of
from optuna_propulate.records.migrations import residences


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Mapping
    from collections.abc import Sequence

    from optuna.trial import FrozenTrial


_Item = TypeVar("_Item")
_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """What one worker did on one island.

    Args:
        island: The island.
        worker: The worker.
        n_finished: How many trials it finished there, failed and pruned ones too.
        n_complete: How many of these are complete.
        best: The best of these; ``None`` if there is none.
    """

    island: int
    worker: int
    n_finished: int
    n_complete: int
    best: FrozenTrial | None


@dataclass(frozen=True, slots=True)
class IslandRecord:
    """What a study records of one island.

    Args:
        island: The island.
        n_bred: How many of the trials evaluated there are complete.
        residents: The individuals that live there: bred there and not gone for good, or come for
            good.
        best: The best of them; ``None`` if nobody does.
        workers: Those that finished a trial there, in order.
    """

    island: int
    n_bred: int
    residents: tuple[FrozenTrial, ...]
    best: FrozenTrial | None
    workers: tuple[WorkerRecord, ...]

    @property
    def n_active(self) -> int:
        """How many individuals live there."""
        return len(self.residents)


def survey(
    trials: Sequence[FrozenTrial], direction: StudyDirection
) -> tuple[list[IslandRecord], Counter[tuple[int, int]]]:
    """Return the islands in order, and how many migrants went from which island to which.

    Args:
        trials: All trials of a study of one objective; those that name no island belong to none.
        direction: The study's direction.
    """
    individuals, living = complete(trials), residences(trials)
    keys = {trial.number: rank_of(trial, direction) for trial in individuals}
    bred = Counter(map(island_of, individuals))
    active = _grouped(individuals, lambda trial: living.get(trial.number, island_of(trial)))
    workers = _grouped(_workers(trials, keys), lambda worker: worker.island)
    travelled = Counter((record.origin, record.target) for record in migrations_of(trials))
    visited = {island for route in travelled for island in route}
    known = visited.union(active, map(island_of, trials))
    islands = [
        IslandRecord(
            island=island,
            n_bred=bred[island],
            residents=tuple(active[island]),
            best=_best(active[island], keys),
            workers=tuple(workers[island]),
        )
        for island in sorted(island for island in known if island is not None)
    ]
    return islands, travelled


def goodness(values: Sequence[float | None], direction: StudyDirection) -> list[float | None]:
    """Return how good each value is, from 0 for the worst to 1 for the best of them.

    Args:
        values: Objective values; one that is missing or not finite is ``None`` in the result.
        direction: The study's direction.
    """
    numbers = finite(values)
    worst, best = max(numbers, default=0.0), min(numbers, default=0.0)
    if direction == StudyDirection.MAXIMIZE:
        worst, best = best, worst
    return [
        None
        if value is None or not math.isfinite(value)
        else (value - worst) / (best - worst)
        if worst != best
        else 1.0
        for value in values
    ]


def _workers(trials: Sequence[FrozenTrial], keys: Mapping[int, Any]) -> list[WorkerRecord]:
    finished = _grouped(
        (trial for trial in trials if trial.state.is_finished()),
        lambda trial: (island_of(trial), worker_of(trial)),
    )
    records = [
        WorkerRecord(
            island=island,
            worker=worker,
            n_finished=len(done),
            n_complete=sum(trial.number in keys for trial in done),
            best=_best(done, keys),
        )
        for (island, worker), done in finished.items()
        if island is not None and worker is not None
    ]
    return sorted(records, key=lambda record: record.worker)


def _best(trials: Iterable[FrozenTrial], keys: Mapping[int, Any]) -> FrozenTrial | None:
    individuals = (trial for trial in trials if trial.number in keys)
    return min(individuals, key=lambda trial: keys[trial.number], default=None)


def _grouped(
    items: Iterable[_Item], key: Callable[[_Item], _Key]
) -> defaultdict[_Key, list[_Item]]:
    groups: defaultdict[_Key, list[_Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


def finite(values: Iterable[float | None]) -> list[float]:
    """Return the values that are there and finite."""
    return [value for value in values if value is not None and math.isfinite(value)]
