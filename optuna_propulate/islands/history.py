"""What a study remembers of its islands: who migrated, and who lives where.

The trial after whose evaluation individuals left has the system attribute
``propulate:migrations``, written with it, so that the cost of a migration does not depend on how
many went before::

    {"policy": "migration" or "pollination", "time": seconds since 1970 (UTC),
     "migrants": [[number, worker, island, owner], ...]}

A migrant is the trial with the number, evaluated by the worker; it goes to the island, where the
owner, a worker too, takes it in. It comes from the island of the trial with the attribute, which
is not the one it was evaluated on if it has migrated before.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from datetime import timezone
from functools import partial
from heapq import nsmallest
from typing import TYPE_CHECKING
from typing import Any

from optuna_propulate._optuna_compat import trial_by_number
from optuna_propulate.islands.migration import Migration
from optuna_propulate.storages.outlines import outlined_trials
from optuna_propulate.trials import MIGRATIONS
from optuna_propulate.trials import complete
from optuna_propulate.trials import island_of
from optuna_propulate.trials import migrations_after
from optuna_propulate.trials import rank_key_of


if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence

    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from optuna_propulate.islands.island import Departure
    from optuna_propulate.islands.migration import MigrationPolicy


@dataclass(frozen=True, slots=True)
class MigrationRecord:
    """One individual that travelled, or whose copy did.

    Args:
        number: The trial number of the individual.
        worker: The worker that evaluated it.
        origin: The island that it left.
        target: The island that it went to.
        owner: The worker on ``target`` that it was sent to.
        time: When it left, in UTC, by the clock of the sender.
        policy: ``"migration"`` if it left for good, ``"pollination"`` if it is a copy.
        after: The number of the trial after whose evaluation it left.
    """

    number: int
    worker: int
    origin: int
    target: int
    owner: int
    time: datetime
    policy: str
    after: int


def migrations(study: Study) -> list[MigrationRecord]:
    """Return all migrations of a study, in the order of time.

    Reads every trial of the study once.

    Args:
        study: Any study, whoever loaded it; one without islands has none.
    """
    return migrations_of(outlined_trials(study))


def migrations_of(trials: Iterable[FrozenTrial]) -> list[MigrationRecord]:
    """Return all migrations that the trials record, in the order of time."""
    records = []
    for trial in trials:
        policy, seconds, migrants = migrations_after(trial)
        records += [
            MigrationRecord(
                number=number,
                worker=worker,
                origin=island_of(trial) or 0,
                target=target,
                owner=owner,
                time=datetime.fromtimestamp(seconds, tz=timezone.utc),
                policy=policy,
                after=trial.number,
            )
            for number, worker, target, owner in migrants
        ]
    return sorted(records, key=lambda record: record.time)


def migration_attributes(
    departures: Sequence[Departure], policy: MigrationPolicy
) -> dict[str, Any]:
    """Return the system attribute for a trial after which individuals left; empty for none."""
    if not departures:
        return {}
    return {
        MIGRATIONS: {
            "policy": "migration" if isinstance(policy, Migration) else "pollination",
            "time": time.time(),
            "migrants": [
                [migrant.number, migrant.worker, there.island, there.worker]
                for there in departures
                for migrant in there.individuals
            ],
        }
    }


def residences(trials: Sequence[FrozenTrial]) -> dict[int, int]:
    """Return where those individuals live that left home for good: their island by number.

    Whoever left an island as often as it came lives elsewhere, so the order does not matter, and
    clocks that differ do no harm.
    """
    stays: dict[int, Counter[int]] = {}
    for record in migrations_of(trials):
        if record.policy == "migration":
            stays.setdefault(record.number, Counter()).update([record.target])
            stays[record.number].subtract([record.origin])
    homes = {trial.number: island_of(trial) for trial in trials if trial.number in stays}
    for number, home in homes.items():
        stays[number].update([] if home is None else [home])
    return {number: counts.most_common(1)[0][0] for number, counts in stays.items()}


def summarize(study: Study, top_n: int = 1) -> str:
    """Return the best individuals of each island, how many there are, and who migrated.

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
    return summary_of(study, outlined_trials(study), top_n)


def summary_of(study: Study, trials: Sequence[FrozenTrial], top_n: int) -> str:
    """Return what ``summarize`` does, of trials that have been read."""
    if top_n < 1:
        raise ValueError(f"top_n must be at least 1, but got {top_n}.")
    records = migrations_of(trials)
    living = residences(trials)
    bred: dict[int, list[FrozenTrial]] = {}
    active: dict[int, list[FrozenTrial]] = {}
    homeless = 0
    for trial in complete(trials):
        home = island_of(trial)
        if home is None:
            homeless += 1
            continue
        bred.setdefault(home, []).append(trial)
        active.setdefault(living.get(trial.number, home), []).append(trial)
    migrants_in = Counter(record.target for record in records)
    migrants_out = Counter(record.origin for record in records)
    n_complete = homeless + sum(map(len, bred.values()))
    lines = [f"{study.study_name}: {n_complete} complete of {len(trials)} trials"]
    for island in sorted(bred.keys() | active.keys() | migrants_in.keys()):
        here = active.get(island, [])
        lines.append(
            f"island {island}: {len(here)} individuals active, {len(bred.get(island, []))} bred "
            f"here, {migrants_in[island]} migrants in, {migrants_out[island]} out"
        )
        key = partial(rank_key_of, direction=study.direction)
        for best in nsmallest(top_n, here, key=key):
            shown = best.params or trial_by_number(study, best.number).params
            lines.append(f"  {best.value:.6g}, trial {best.number}: {shown}")
    if homeless:
        lines.append(f"no island: {homeless} individuals of other samplers")
    return "\n".join(lines)
