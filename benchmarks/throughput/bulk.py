"""The bare bulk insert that the throughput benchmark takes as the limit.

Rows as a trial of ours has them, made beforehand, go into Optuna's own tables in transactions of
500 trials each: by SQLAlchemy Core's inserts of many rows, or as fast as the bare driver takes
them, which is ``executemany`` on SQLite and ``COPY`` on PostgreSQL.
"""

from __future__ import annotations

import json
import math
import random
import resource
import sqlite3
import sys
import time
from datetime import datetime
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import sqlalchemy as sa
from optuna.trial import TrialState
from sqlalchemy.engine import make_url

from optuna_propulate._optuna_compat import rdb_models


if TYPE_CHECKING:
    from collections.abc import Sequence

Row = tuple[Any, ...]

_BATCH = 500
_COLUMNS = {
    "trials": ("trial_id", "number", "study_id", "state", "datetime_start", "datetime_complete"),
    "trial_params": ("trial_id", "param_name", "param_value", "distribution_json"),
    "trial_values": ("trial_id", "objective", "value", "value_type"),
    "trial_user_attributes": ("trial_id", "key", "value_json"),
    "trial_system_attributes": ("trial_id", "key", "value_json"),
}
_DISTRIBUTION = json.dumps(
    {
        "name": "FloatDistribution",
        "attributes": {"step": None, "low": -5.12, "high": 5.12, "log": False},
    }
)


def make_trial(number: int, n_parameters: int, rng: random.Random) -> dict[str, list[Row]]:
    """Return the rows of a trial by table, each without the trial's id."""
    genes = [rng.uniform(-5.12, 5.12) for _ in range(n_parameters)]
    start = datetime(2025, 1, 1) + timedelta(microseconds=125 * number)
    lineage = {
        "operators": ["UniformCrossover", "PointMutation"],
        "parents": [max(0, number - 10), max(0, number - 5)],
    }
    times = (_text(start), _text(start + timedelta(microseconds=120)))
    return {
        "trials": [(number, 1, "COMPLETE", *times)],
        "trial_params": [(f"x{i}", gene, _DISTRIBUTION) for i, gene in enumerate(genes)],
        "trial_values": [(0, math.fsum(gene * gene for gene in genes), "FINITE")],
        "trial_user_attributes": [
            ("island", "0"),
            ("worker", str(number % 2)),
            ("generation", str(number // 2)),
        ],
        "trial_system_attributes": [("propulate:lineage", json.dumps(lineage))],
    }


def for_core(trial: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """Return the rows of a trial with the objects that SQLAlchemy wants for some columns."""
    (number, study, state, *times) = trial["trials"][0]
    when = (datetime.fromisoformat(time) for time in times)
    (objective, value, kind) = trial["trial_values"][0]
    finite = rdb_models().TrialValueModel.TrialValueType[kind]
    return {
        **trial,
        "trials": [(number, study, TrialState[state], *when)],
        "trial_values": [(objective, value, finite)],
    }


def insert_by_core(engine: sa.Engine, batches: Sequence[list[dict[str, list[Row]]]]) -> None:
    """Insert all trials by SQLAlchemy Core."""
    tables = rdb_models().BaseModel.metadata.tables
    trials = tables["trials"]
    for batch in batches:
        with engine.begin() as connection:
            last = connection.scalar(sa.select(sa.func.max(trials.c.trial_id))) or 0
            ids = range(last + 1, last + 1 + len(batch))
            for table, columns in _COLUMNS.items():
                rows = _rows(table, ids, batch)
                values = [dict(zip(columns, row, strict=True)) for row in rows]
                connection.execute(tables[table].insert(), values)


def insert_sqlite(path: str, batches: Sequence[list[dict[str, list[Row]]]]) -> None:
    """Insert all trials by SQLite's driver."""
    connection = sqlite3.connect(path, isolation_level=None)
    for batch in batches:
        connection.execute("BEGIN IMMEDIATE")
        last = connection.execute("SELECT MAX(trial_id) FROM trials").fetchone()[0] or 0
        ids = range(last + 1, last + 1 + len(batch))
        for table, columns in _COLUMNS.items():
            places = ", ".join("?" for _ in columns)
            statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"
            connection.executemany(statement, _rows(table, ids, batch))
        connection.execute("COMMIT")
    connection.close()


def insert_postgresql(url: str, batches: Sequence[list[dict[str, list[Row]]]]) -> None:
    """Insert all trials, with ids from PostgreSQL's sequence."""
    import psycopg

    with psycopg.connect(url) as connection:
        for batch in batches:
            cursor = connection.cursor()
            cursor.execute(
                "SELECT nextval('trials_trial_id_seq') FROM generate_series(1, %s)", [len(batch)]
            )
            ids = [row[0] for row in cursor.fetchall()]
            for table, columns in _COLUMNS.items():
                with cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
                    for row in _rows(table, ids, batch):
                        copy.write_row(row)
            connection.commit()


def _rows(table: str, ids: Sequence[int], batch: list[dict[str, list[Row]]]) -> list[Row]:
    return [
        (identity, *row)
        for identity, trial in zip(ids, batch, strict=True)
        for row in trial[table]
    ]


def _text(when: datetime) -> str:
    return when.isoformat(sep=" ", timespec="microseconds")


def main() -> None:
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    url, rng = make_url(job["where"]["url"]), random.Random(0)
    engine = sa.create_engine(url)
    if url.drivername == "sqlite":
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")  # as ours, and lasting
    trials = [make_trial(number, job["n_parameters"], rng) for number in range(job["n_trials"])]
    by_core = job["sampler"] == "bulk, Core"
    if by_core:
        trials = [for_core(trial) for trial in trials]
    batches = [trials[i : i + _BATCH] for i in range(0, len(trials), _BATCH)]
    start = time.monotonic()
    if by_core:
        insert_by_core(engine, batches)
    elif url.drivername == "sqlite":
        assert url.database is not None
        insert_sqlite(url.database, batches)
    else:
        plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
        insert_postgresql(plain, batches)
    report = {
        "start": start,
        "end": time.monotonic(),
        "began_at": 0.0,
        "ended_at": 0.0,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }
    (path.parent / "report0.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
