"""Database connections: which driver, which settings, and how SQLite is made to share a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from optuna_propulate.storages.sql.file_systems import file_system_of
from optuna_propulate.storages.sql.file_systems import is_network
from optuna_propulate.storages.sql.sqlite_file import sqlite_file
from optuna_propulate.storages.sql.sqlite_file import watch_file


if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Engine
    from sqlalchemy.engine import URL


SQLITE_LOCK_TIMEOUT = 60.0  # in seconds; the default of 5 is short for many ranks on one file


_CONNECT_TIMEOUT = 10  # in seconds


_ALIVE = {"keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 2}
"""Lets PostgreSQL's client notice within 15 s that the server's machine is gone, in seconds."""


_CONNECT_ARGS: dict[str, dict[str, Any]] = {
    "postgresql": {"connect_timeout": _CONNECT_TIMEOUT, **_ALIVE},  # psycopg2
    "postgresql+psycopg2": {"connect_timeout": _CONNECT_TIMEOUT, **_ALIVE},
    "postgresql+psycopg": {
        "connect_timeout": _CONNECT_TIMEOUT,
        **_ALIVE,
        "prepare_threshold": None,  # prepared statements collide behind a pooler
    },
    "mysql+pymysql": {"connect_timeout": _CONNECT_TIMEOUT},
    "mysql": {"connect_timeout": _CONNECT_TIMEOUT},
}
"""What each driver is told, unless the user says otherwise."""


_LOCK_WAIT = 5.0  # in seconds: the writer would rather say that it cannot write, and try again


_IDLE = 10.0  # in seconds, within a transaction; nothing of ours thinks for that long


def with_driver(url: URL) -> URL:
    """Return the URL with psycopg 3 if it is PostgreSQL's, names no driver, and that is there."""
    if url.drivername != "postgresql":
        return url
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return url
    return url.set(drivername="postgresql+psycopg")


def engine_arguments(url: URL, engine_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the arguments for ``create_engine``: the user's, and what a database needs."""
    arguments = dict(engine_kwargs or {})
    if url.get_backend_name() == "sqlite":
        connect_args = {"timeout": SQLITE_LOCK_TIMEOUT, **arguments.get("connect_args", {})}
        arguments["connect_args"] = connect_args
    else:
        arguments.setdefault("pool_pre_ping", True)  # a server may have been restarted
        arguments["connect_args"] = {
            **_CONNECT_ARGS.get(url.drivername, {}),
            **arguments.get("connect_args", {}),
        }
    return arguments


def connect_engine(
    url: str, engine_kwargs: Mapping[str, Any] | None, *, writing: bool = False
) -> Engine:
    """Return an engine for the bulk statements of reading or of writing.

    On SQLite, each transaction of a writing engine locks the database when it begins.

    Args:
        url: An SQLAlchemy URL.
        engine_kwargs: As for ``sqlalchemy.create_engine``.
        writing: Whether its transactions write.
    """
    parsed = with_driver(make_url(url))
    arguments = engine_arguments(parsed, engine_kwargs)
    if writing and parsed.get_backend_name() == "sqlite":
        connect_args = arguments["connect_args"]
        connect_args["timeout"] = min(connect_args["timeout"], _LOCK_WAIT)
    engine = sa.create_engine(parsed, **arguments)
    if not writing:
        watch_file(engine)
    if writing:
        _begin_immediately(engine) if engine.dialect.name == "sqlite" else _wait_shortly(engine)
    return engine


def choose_journal(engine: Engine) -> str | None:
    """Set SQLite's journal: write-ahead where the file system is local, else the rollback journal.

    Returns:
        Why it is the rollback journal; ``None`` if it is not.
    """
    path = sqlite_file(engine.url)
    if path is None:
        return None
    mounts = Path("/proc/self/mounts")
    kind = file_system_of(path, mounts.read_text()) if mounts.exists() else ""
    mode = "DELETE" if is_network(kind) else "WAL"
    connection = engine.raw_connection()
    try:
        connection.cursor().execute(f"PRAGMA journal_mode={mode}")
    finally:
        connection.close()
    if mode == "WAL":
        return None
    return (
        f"{path} lies on a network file system ({kind}), where SQLite's WAL mode is not safe; "
        "the rollback journal is used. PostgreSQL is faster and safer for several nodes."
    )


def _wait_shortly(engine: Engine) -> None:
    """Let a transaction fail that waits for another's lock, so that it can be told of.

    One that is idle ends, too: the process that has begun it may be stopped, or its machine gone.
    """
    settings = {
        "postgresql": f"SET LOCAL lock_timeout = '{_LOCK_WAIT:g}s'; "
        f"SET LOCAL idle_in_transaction_session_timeout = '{_IDLE:g}s'",
        "mysql": f"SET innodb_lock_wait_timeout = {_LOCK_WAIT:g}",
        "mariadb": f"SET innodb_lock_wait_timeout = {_LOCK_WAIT:g}, "
        f"idle_write_transaction_timeout = {_IDLE:g}",
    }

    @sa.event.listens_for(engine, "begin")
    def _limit(connection: Any) -> None:
        is_mariadb = getattr(connection.dialect, "is_mariadb", False)
        name = "mariadb" if is_mariadb else connection.dialect.name
        connection.exec_driver_sql(settings[name])


def _begin_immediately(engine: Engine) -> None:
    # SQLAlchemy's documented way around the driver, which would begin at the first write only.
    @sa.event.listens_for(engine, "connect")
    def _leave_transactions_alone(connection: Any, record: Any) -> None:
        connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
