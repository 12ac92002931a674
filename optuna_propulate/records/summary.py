"""A study's islands in words: their best individuals, and who migrated."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from datetime import timedelta
from functools import partial
from heapq import nsmallest
from typing import TYPE_CHECKING

from optuna_propulate._optuna_compat import trial_by_number
from optuna_propulate.evolution.arguments import check_integer
from optuna_propulate.records.attributes import island_of
from optuna_propulate.records.conversion import complete
from optuna_propulate.records.conversion import rank_of
from optuna_propulate.records.ending import end_of
from optuna_propulate.records.survey import survey
from optuna_propulate.storages.outlines import outlined_trials


if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.study import Study
    from optuna.trial import FrozenTrial

_PAUSE = timedelta(minutes=1)


def summarize(study: Study, top_n: int = 1) -> str:
    """Return how far a study is, each island's best individuals and how many there are.

    An island's individuals are those that live there: bred there and not gone for good, or come
    for good. Copies that pollination brought are counted as migrants in and not as individuals,
    as each takes the place of another. Trials that name no island are counted apart: a sampler
    deals them out among its islands by their numbers.

    Args:
        study: A study of one objective.
        top_n: How many individuals of each island are shown; at least 1.

    Raises:
        StorageInternalError: If the database cannot be read.
        ValueError: If ``top_n`` is below 1.
    """
    check_integer("top_n", top_n, 1)
    trials = outlined_trials(study)
    islands, travelled = survey(trials, study.direction)
    individuals = complete(trials)
    key = partial(rank_of, direction=study.direction)
    states = Counter(trial.state.name.lower() for trial in trials)
    counts = ", ".join(f"{n} {state}" for state, n in sorted(states.items())) or "none yet"
    lines = [f"study {study.study_name}: {len(trials)} trials ({counts})"]
    homeless = sum(island_of(trial) is None for trial in individuals)
    if len(islands) != 1 or homeless:  # else the island's best says it
        lines += [f"best {_shown(study, best)}" for best in nsmallest(1, individuals, key=key)]
    lines += [text for text in (_speed(trials), _end(study)) if text]
    for record in islands:
        island, n_workers = record.island, len(record.workers)
        arrived = sum(n for (_, target), n in travelled.items() if target == island)
        left = sum(n for (origin, _), n in travelled.items() if origin == island)
        lines.append(
            f"island {island}: {record.n_active} individuals active, {record.n_bred} bred here, "
            f"{arrived} migrants in, {left} out ({n_workers} worker{'s' * (n_workers != 1)})"
        )
        for best in nsmallest(top_n, record.residents, key=key):
            lines.append(f"  {_shown(study, best)}")
    if homeless:
        lines.append(f"no island: {homeless} individuals of other samplers")
    return "\n".join(lines)


def _shown(study: Study, trial: FrozenTrial) -> str:
    params = trial.params or trial_by_number(study, trial.number).params
    return f"{trial.value:.6g}, trial {trial.number}: {params}"


def _end(study: Study) -> str:
    reason = end_of(study)
    return f"the last search with a goal ended: {reason}" if reason else ""


def _speed(trials: Sequence[FrozenTrial]) -> str:
    """Return how fast trials ended in the latest run; a study may have been gone on with."""
    runs = runs_of(trials)
    if not runs or (seconds := runs[-1].seconds) < 1.0:
        return ""  # of trials that were added, or too few to tell
    which = f"in the latest of {len(runs)} runs" if len(runs) > 1 else "from start to end"
    return f"{runs[-1].n_ended / seconds:.3g} trials/s {which}"


@dataclass
class Run:
    """A time in which trials were under way.

    Args:
        start: When its first trial started.
        end: When the last of those seen ended.
        n_ended: How many of its trials have ended.
    """

    start: datetime
    end: datetime
    n_ended: int = 0

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return (self.end - self.start).total_seconds()


def runs_of(trials: Sequence[FrozenTrial]) -> list[Run]:
    """Return when trials were under way, the earliest first.

    A new run begins where none had been under way for a minute.
    """
    runs: list[Run] = []
    started = [trial for trial in trials if trial.datetime_start is not None]
    for trial in sorted(started, key=lambda trial: trial.datetime_start or datetime.min):
        start = trial.datetime_start
        assert start is not None
        if not runs or start - runs[-1].end > _PAUSE:
            runs.append(Run(start, start))
        if trial.datetime_complete is not None:
            runs[-1].end = max(runs[-1].end, trial.datetime_complete)
            runs[-1].n_ended += 1
    return runs
