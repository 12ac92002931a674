"""What jobs leave in Optuna's tables about themselves, read: their marks, and whose a trial is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from typing import Any

import sqlalchemy as sa

from optuna_propulate.storages.sql.write import MARK
from optuna_propulate.storages.sql.write import MOVED
from optuna_propulate.storages.sql.write import OWNER
from optuna_propulate.storages.sql.write import mark_key
from optuna_propulate.storages.sql.write import slices
from optuna_propulate.storages.sql.write import table


if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection


def read_mark(connection: Connection, study_id: int, job: str) -> dict[str, Any] | None:
    """Return what the last transaction of a job left in a study; ``None`` if there is nothing."""
    attributes = table("StudySystemAttributeModel")
    query = sa.select(attributes.c.value_json).where(
        attributes.c.study_id == study_id, attributes.c.key == mark_key(job)
    )
    text = connection.scalar(query)
    return None if text is None else dict(json.loads(text))


def read_marks(connection: Connection, study_id: int) -> dict[str, dict[str, Any]]:
    """Return the marks that jobs have left in a study, by job; not those copied from another."""
    attributes = table("StudySystemAttributeModel")
    query = (
        sa.select(attributes.c.value_json)
        .where(attributes.c.study_id == study_id, attributes.c.key.startswith(MARK))
        .order_by(attributes.c.key)
    )
    marks = [json.loads(text) for text in connection.scalars(query)]
    return {mark.get("job", ""): mark for mark in marks if mark.get("study_id") == study_id}


def owners_of(connection: Connection, identities: Sequence[int]) -> dict[int, str | None]:
    """Return who runs those of these trials that are not their job's alone, by id."""
    attributes = table("TrialSystemAttributeModel")
    owners: dict[int, str | None] = {}
    for some in slices(identities):
        query = sa.select(attributes.c.trial_id, attributes.c.value_json).where(
            attributes.c.trial_id.in_(some), attributes.c.key == OWNER
        )
        rows = connection.execute(query)
        owners.update((row.trial_id, json.loads(row.value_json)) for row in rows)
    return owners


def bare_trials(connection: Connection, identities: Sequence[int]) -> list[int]:
    """Return those of these trials that nothing was written about, but who has claimed them."""
    found: list[int] = []
    for some in slices(sorted(identities)):
        known: set[int] = set()
        for model in ("TrialParamModel", "TrialUserAttributeModel", "TrialIntermediateValueModel"):
            rows = table(model)
            query = sa.select(rows.c.trial_id).where(rows.c.trial_id.in_(some)).distinct()
            known.update(connection.scalars(query))
        rows = table("TrialSystemAttributeModel")
        query = sa.select(rows.c.trial_id).where(rows.c.trial_id.in_(some), rows.c.key != OWNER)
        known.update(connection.scalars(query))
        found += [identity for identity in some if identity not in known]
    return found


def moved_trials(connection: Connection, study_id: int, job: str) -> dict[int, int]:
    """Return the ids of a job's trials that had other numbers before, by these."""
    trials, attributes = table("TrialModel"), table("TrialSystemAttributeModel")
    query = (
        sa.select(attributes.c.value_json, trials.c.trial_id)
        .join(trials, trials.c.trial_id == attributes.c.trial_id)
        .where(trials.c.study_id == study_id, attributes.c.key == MOVED)
    )
    ids = {int(text): identity for text, identity in connection.execute(query)}
    owners = owners_of(connection, list(ids.values()))
    return {number: identity for number, identity in ids.items() if owners.get(identity) == job}
