"""SQLite: one file, which many processes share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from optuna_propulate.storages.sql.dialects.base import LOCK_WAIT
from optuna_propulate.storages.sql.dialects.base import Dialect
from optuna_propulate.storages.sql.dialects.base import on_begin
from optuna_propulate.storages.sql.file_systems import file_system_of
from optuna_propulate.storages.sql.file_systems import is_network
from optuna_propulate.storages.sql.sqlite_file import sqlite_file
from optuna_propulate.storages.sql.sqlite_file import watch_file


if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence

    from sqlalchemy import Engine
    from sqlalchemy import Table
    from sqlalchemy.engine import URL

LOCK_TIMEOUT = 60.0  # in seconds; the default of 5 is short for many ranks on one file


class SQLite(Dialect):
    """Locks the whole database when a transaction begins that writes."""

    names = ("sqlite",)

    def engine_arguments(self, url: URL, given: Mapping[str, Any]) -> dict[str, Any]:
        connect_args = {"timeout": LOCK_TIMEOUT, **given.get("connect_args", {})}
        return {**given, "connect_args": connect_args}

    def prepare(self, engine: Engine, *, writing: bool) -> None:
        if not writing:
            watch_file(engine)
            return

        # SQLAlchemy's documented way around the driver, which would begin at the first write only.
        @sa.event.listens_for(engine, "connect")
        def _leave_transactions_alone(connection: Any, record: Any) -> None:
            connection.isolation_level = None
            (patience,) = connection.execute("PRAGMA busy_timeout").fetchone()
            connection.execute(f"PRAGMA busy_timeout = {min(patience, int(1000 * LOCK_WAIT))}")

        on_begin(engine, "BEGIN IMMEDIATE")

    def upsert(self, target: Table, columns: Sequence[str]) -> Any:
        adding = sqlite.insert(target)
        return adding.on_conflict_do_update(
            index_elements=list(columns[:2]), set_={c: adding.excluded[c] for c in columns[2:]}
        )


def choose_journal(engine: Engine) -> str | None:
    """Set SQLite's journal: write-ahead where the file system is local, else the rollback journal.

    Returns:
        Why it is the rollback journal; ``None`` if it is not, and for other databases.
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
