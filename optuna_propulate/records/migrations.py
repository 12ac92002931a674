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
from typing import TYPE_CHECKING
from typing import Any

from optuna_propulate.records.attributes import MIGRATIONS
from optuna_propulate.records.attributes import island_of
from optuna_propulate.records.attributes import migrations_after
from optuna_propulate.storages.outlines import outlined_trials


if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence

    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from optuna_propulate.evolution.individual import Individual


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
    migrants: Sequence[tuple[Individual, int, int]], *, leaves_home: bool
) -> dict[str, Any]:
    """Return the system attribute for a trial after which individuals left; empty for none.

    Args:
        migrants: Each individual, the island that it goes to, and the worker that owns it there.
        leaves_home: Whether they left for good, or are copies.
    """
    if not migrants:
        return {}
    return {
        MIGRATIONS: {
            "policy": "migration" if leaves_home else "pollination",
            "time": time.time(),
            "migrants": [
                [migrant.number, migrant.worker, island, owner]
                for migrant, island, owner in migrants
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
