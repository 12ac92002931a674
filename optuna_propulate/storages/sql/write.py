"""Optuna's tables, written in bulk."""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import TYPE_CHECKING
from typing import Any
from typing import cast

import sqlalchemy as sa
from optuna.trial import TrialState

from optuna_propulate._optuna_compat import rdb_models
from optuna_propulate.storages.sql.dialects import dialect_of
from optuna_propulate.storages.sql.dialects.base import execute_many
from optuna_propulate.storages.wire.times import utc


if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence

    from sqlalchemy import Connection
    from sqlalchemy import Table

MARK = "propulate:writer"
"""How a study's system attributes begin in which jobs leave their marks; see ``StudyWriter``."""

OWNER = "propulate:owner"
"""The system attribute of a trial that says which of several jobs runs it, or that none does."""

MOVED = "propulate:moved"
"""The system attribute of a trial that had another number before: see ``StudyWriter.rejoined``."""

_AT_ONCE = 500
"""How many ids are listed in one statement: SQLite allows 999 variables in old versions."""


def mark_key(job: str) -> str:
    """Return the study's system attribute in which a job leaves its mark."""
    return f"{MARK}:{job}"


def table(model: str) -> Table:
    """Return one of Optuna's tables by the name of its model."""
    return cast("Table", getattr(rdb_models(), model).__table__)


class BulkWriter:
    """Writes into Optuna's tables over one connection, within the transaction that it is in.

    Rows go to the driver as they are, past SQLAlchemy's processing of each value: enumerations as
    names, times as ISO strings, in UTC.

    Args:
        connection: The connection.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._dialect = dialect_of(connection.dialect.name)

    def lock_study(self, study_id: int) -> bool:
        """Lock the study's row as Optuna does to add a trial; return whether there is one.

        On SQLite the transaction itself has locked the database.
        """
        studies = table("StudyModel")
        query = sa.select(studies.c.study_id).where(studies.c.study_id == study_id)
        return self._connection.execute(query.with_for_update()).first() is not None

    def insert_trials(
        self, study_id: int, rows: Sequence[tuple[int, str, str | None, str | None]]
    ) -> list[int]:
        """Insert trials; return their ids, which the database's own sequence gives, ascending.

        Args:
            study_id: The study.
            rows: Number, name of the state, start and end of each, in the order of the numbers.
        """
        if not rows:
            return []
        return self._dialect.insert_returning_ids(
            self._connection,
            table("TrialModel"),
            ["study_id", "number", "state", "datetime_start", "datetime_complete"],
            [(study_id, *row) for row in rows],
        )

    def update_trials(
        self,
        rows: Sequence[tuple[str, str | None, str | None, int]],
        *,
        also_failed: bool = False,
    ) -> None:
        """Set state, start and end of trials by id, unless they have ended already.

        Args:
            rows: Name of the state, start, end and id of each.
            also_failed: Whether failed ones are set all the same.
        """
        states = "'RUNNING', 'WAITING', 'FAIL'" if also_failed else "'RUNNING', 'WAITING'"
        execute_many(
            self._connection,
            "UPDATE trials SET state = {}, datetime_start = {}, datetime_complete = {} "
            f"WHERE trial_id = {{}} AND state IN ({states})",
            ("state", "start", "complete", "id"),
            rows,
        )

    def renumber(self, numbers: dict[int, int]) -> None:
        """Set the numbers of trials by id."""
        rows = [(number, identity) for identity, number in numbers.items()]
        statement = "UPDATE trials SET number = {} WHERE trial_id = {}"
        execute_many(self._connection, statement, ("number", "id"), rows)

    def delete_trials(self, identities: Sequence[int]) -> None:
        """Delete trials that nothing was written about, but who has claimed them."""
        for some in slices(identities):
            for rows in map(table, ("TrialSystemAttributeModel", "TrialModel")):
                self._connection.execute(rows.delete().where(rows.c.trial_id.in_(some)))

    def claim_waiting(self, identity: int, start: str) -> bool:
        """Set a waiting trial to running; return whether it was waiting."""
        trials = table("TrialModel")
        statement = (
            trials.update()
            .where(trials.c.trial_id == identity, trials.c.state == TrialState.WAITING)
            .values(state=TrialState.RUNNING, datetime_start=datetime.fromisoformat(start))
        )
        return self._connection.execute(statement).rowcount == 1

    def probe(self, study_id: int) -> None:
        """Write something that changes nothing."""
        rows = table("StudySystemAttributeModel")
        this = rows.c.study_id == study_id, rows.c.key.startswith(MARK)
        self._connection.execute(rows.update().where(*this).values(key=rows.c.key))

    def mark(self, study_id: int, job: str, value: dict[str, Any]) -> None:
        """Set a job's mark in a study: it tells a successor and other jobs where this one was."""
        columns = ["study_id", "key", "value_json"]
        rows = [(study_id, mark_key(job), json.dumps(value))]
        self._write("StudySystemAttributeModel", columns, rows, new=False)

    def unmark(self, study_id: int, job: str) -> None:
        """Remove a job's mark."""
        rows = table("StudySystemAttributeModel")
        keys = (mark_key(job), MARK)  # before 0.2, the key was that of all jobs
        this = rows.c.study_id == study_id, rows.c.key.in_(keys)
        self._connection.execute(rows.delete().where(*this))

    def wait(self, identities: Sequence[int]) -> None:
        """Let anybody take up trials that nothing was written about."""
        self.update_trials([("WAITING", None, None, identity) for identity in identities])
        self.own(identities, None)

    def own(self, identities: Sequence[int], job: str | None, *, new: bool = False) -> None:
        """Note which job runs trials, or that anybody may; unless new, that may be known."""
        text = json.dumps(job)
        self.system_attributes([(identity, OWNER, text) for identity in identities], new=new)

    def fail(self, identities: Sequence[int], when: datetime) -> None:
        """Set trials to failed, whatever they were, as of a local time."""
        trials = table("TrialModel")
        complete = datetime.fromisoformat(utc(when) or "")
        for some in slices(identities):
            statement = trials.update().where(trials.c.trial_id.in_(some))
            values = {"state": TrialState.FAIL, "datetime_complete": complete}
            self._connection.execute(statement.values(values))

    def params(self, rows: Sequence[tuple[int, str, float, str]], *, new: bool) -> None:
        """Write parameters: trial's id, name, internal value, distribution."""
        columns = ["trial_id", "param_name", "param_value", "distribution_json"]
        self._write("TrialParamModel", columns, rows, new=new)

    def user_attributes(self, rows: Sequence[tuple[int, str, str]], *, new: bool) -> None:
        """Write user attributes: trial's id, key, JSON."""
        self._write("TrialUserAttributeModel", ["trial_id", "key", "value_json"], rows, new=new)

    def system_attributes(self, rows: Sequence[tuple[int, str, str]], *, new: bool) -> None:
        """Write system attributes: trial's id, key, JSON."""
        self._write("TrialSystemAttributeModel", ["trial_id", "key", "value_json"], rows, new=new)

    def values(self, rows: Sequence[tuple[int, int, float]], *, new: bool) -> None:
        """Write objective values: trial's id, number of the objective, value."""
        columns = ["trial_id", "objective", "value", "value_type"]
        stored = [(identity, place, *_stored(value)) for identity, place, value in rows]
        self._write("TrialValueModel", columns, stored, new=new)

    def steps(self, rows: Sequence[tuple[int, int, float]], *, new: bool) -> None:
        """Write reported values: trial's id, step, value."""
        columns = ["trial_id", "step", "intermediate_value", "intermediate_value_type"]
        stored = [(identity, step, *_stored(value)) for identity, step, value in rows]
        self._write("TrialIntermediateValueModel", columns, stored, new=new)

    def _write(
        self, model: str, columns: list[str], rows: Sequence[tuple[Any, ...]], *, new: bool
    ) -> None:
        """Insert rows; what is there already by its first two columns is replaced, unless new."""
        if not rows:
            return
        target = table(model)
        if new:
            self._dialect.insert(self._connection, target, columns, rows)
        else:
            unique = {row[:2]: row for row in rows}  # the last one counts
            values = [dict(zip(columns, row, strict=True)) for row in unique.values()]
            self._connection.execute(self._dialect.upsert(target, columns), values)


def _stored(value: float) -> tuple[float | None, str]:
    """Return a number as Optuna stores it: what is not finite by its name."""
    if math.isfinite(value):
        return value, "FINITE"
    if math.isnan(value):
        return None, "NAN"
    return None, "INF_POS" if value > 0 else "INF_NEG"


def slices(items: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield ids in portions that fit into one statement."""
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]
