"""PostgreSQL, with or without a pooler such as pgbouncer before it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from optuna_propulate.storages.sql.dialects.base import CONNECT_TIMEOUT
from optuna_propulate.storages.sql.dialects.base import IDLE
from optuna_propulate.storages.sql.dialects.base import LOCK_WAIT
from optuna_propulate.storages.sql.dialects.base import Dialect
from optuna_propulate.storages.sql.dialects.base import on_begin
from optuna_propulate.storages.sql.dialects.base import quoted


if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection
    from sqlalchemy import Engine
    from sqlalchemy import Table
    from sqlalchemy.engine import URL

_ALIVE = {
    "keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 2,
    "tcp_user_timeout": 15_000,  # in milliseconds: also where something was sent that way
}  # fmt: skip
"""Lets the client notice within 15 s that the server's machine is gone; in seconds."""


class PostgreSQL(Dialect):
    """Takes new rows by ``COPY``, if psycopg 3 is the driver."""

    names = ("postgresql",)
    extra = "postgresql"

    def with_driver(self, url: URL) -> URL:
        if url.drivername != "postgresql":
            return url
        try:
            import psycopg  # noqa: F401
        except ImportError:
            return url
        return url.set(drivername="postgresql+psycopg")

    def connect_args(self, url: URL) -> dict[str, Any]:
        if url.drivername not in ("postgresql", "postgresql+psycopg2", "postgresql+psycopg"):
            return {}  # a driver with options of its own
        arguments = {"connect_timeout": CONNECT_TIMEOUT, **_ALIVE}
        if url.drivername == "postgresql+psycopg":
            # prepared statements collide behind a pooler
            return {**arguments, "prepare_threshold": None}
        return arguments

    def prepare(self, engine: Engine, *, writing: bool) -> None:
        if writing:
            on_begin(
                engine,
                f"SET LOCAL lock_timeout = '{LOCK_WAIT:g}s'; "
                f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE:g}s'",
            )

    def upsert(self, target: Table, columns: Sequence[str]) -> Any:
        adding = postgresql.insert(target)
        return adding.on_conflict_do_update(
            index_elements=list(columns[:2]), set_={c: adding.excluded[c] for c in columns[2:]}
        )

    def insert(
        self,
        connection: Connection,
        target: Table,
        columns: Sequence[str],
        rows: Sequence[tuple[Any, ...]],
    ) -> None:
        if connection.dialect.driver != "psycopg":
            super().insert(connection, target, columns, rows)
            return
        statement = f"COPY {target.name} ({', '.join(quoted(columns, connection))}) FROM STDIN"
        cursor: Any = connection.connection.cursor()
        errors: Any = connection.dialect.loaded_dbapi.Error
        try:
            with cursor.copy(statement) as copy:
                for row in rows:
                    copy.write_row(row)
        except errors as error:  # as SQLAlchemy, whom the driver's cursor has passed by, would
            raise sa.exc.DBAPIError.instance(statement, None, error, errors) from error
        finally:
            cursor.close()

    def insert_returning_ids(
        self,
        connection: Connection,
        target: Table,
        columns: Sequence[str],
        rows: Sequence[tuple[Any, ...]],
    ) -> list[int]:
        if connection.dialect.driver != "psycopg":
            return super().insert_returning_ids(connection, target, columns, rows)
        (key,) = target.primary_key.columns
        query = sa.text(
            f"SELECT nextval(pg_get_serial_sequence('{target.name}', '{key.name}')) "
            "FROM generate_series(1, :n)"
        )
        ids = sorted(connection.scalars(query, {"n": len(rows)}))
        numbered = [(identity, *row) for identity, row in zip(ids, rows, strict=True)]
        self.insert(connection, target, [key.name, *columns], numbered)
        return ids
