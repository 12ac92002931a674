"""What a dialect is, and what all of them have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import ClassVar

import sqlalchemy as sa


if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence

    from sqlalchemy import Connection
    from sqlalchemy import Engine
    from sqlalchemy import Table
    from sqlalchemy.engine import URL

LOCK_WAIT = 5.0  # in seconds: the writer would rather say that it cannot write, and try again
IDLE = 10.0  # in seconds, within a transaction; nothing of ours thinks for that long
CONNECT_TIMEOUT = 10  # in seconds


class Dialect:
    """Answers what is different from database to database.

    Attributes:
        names: How URLs name such databases.
        extra: The extra of this package that brings a driver.
    """

    names: ClassVar[tuple[str, ...]]
    extra: ClassVar[str] = ""

    def with_driver(self, url: URL) -> URL:
        """Return the URL with the driver that is used where it names none."""
        return url

    def connect_args(self, url: URL) -> dict[str, Any]:
        """Return what the URL's driver is told, unless the user says otherwise."""
        return {"connect_timeout": CONNECT_TIMEOUT}

    def engine_arguments(self, url: URL, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments for ``create_engine``: the user's, and what is needed besides."""
        return {
            "pool_pre_ping": True,  # a server may have been restarted
            **given,
            "connect_args": {**self.connect_args(url), **given.get("connect_args", {})},
        }

    def prepare(self, engine: Engine, *, writing: bool) -> None:
        """Set up an engine that reads, or that writes.

        A transaction that writes must not wait for another's lock for longer than ``LOCK_WAIT``,
        nor stay idle for longer than ``IDLE``: the process that has begun it may be stopped, or
        its machine gone.
        """

    def upsert(self, target: Table, columns: Sequence[str]) -> Any:
        """Return a statement that inserts a row, or replaces the one with its first two columns.

        Args:
            target: The table.
            columns: Its columns.
        """
        raise NotImplementedError

    def insert(
        self,
        connection: Connection,
        target: Table,
        columns: Sequence[str],
        rows: Sequence[tuple[Any, ...]],
    ) -> None:
        """Insert rows in bulk."""
        names = ", ".join(quoted(columns, connection))
        places = ", ".join("{}" for _ in columns)
        statement = f"INSERT INTO {target.name} ({names}) VALUES ({places})"
        execute_many(connection, statement, columns, rows)

    def insert_returning_ids(
        self,
        connection: Connection,
        target: Table,
        columns: Sequence[str],
        rows: Sequence[tuple[Any, ...]],
    ) -> list[int]:
        """Insert one row or more; return their ids, ascending, in the order of the rows.

        Nobody else inserts rows with the same first column meanwhile.
        """
        (key,) = target.primary_key.columns
        first, value = target.c[columns[0]], rows[0][0]
        last = connection.scalar(sa.select(sa.func.max(key))) or 0
        self.insert(connection, target, columns, rows)
        query = sa.select(key).where(key > last, first == value).order_by(key)
        return list(connection.scalars(query))


def on_begin(engine: Engine, statement: str) -> None:
    """Execute a statement whenever a transaction begins."""

    @sa.event.listens_for(engine, "begin")
    def _execute(connection: Any) -> None:
        connection.exec_driver_sql(statement)


def execute_many(
    connection: Connection, template: str, names: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Execute a statement with a place ``{}`` for each of the names, once for each row."""
    if not rows:
        return
    style = connection.dialect.paramstyle
    if style in ("qmark", "format"):
        statement = template.format(*(("?" if style == "qmark" else "%s") for _ in names))
        connection.exec_driver_sql(statement, list(rows))
        return
    statement = template.format(*(f"%({name})s" for name in names))
    connection.exec_driver_sql(statement, [dict(zip(names, row, strict=True)) for row in rows])


def quoted(columns: Sequence[str], connection: Connection) -> list[str]:
    """Return the names of columns as a statement has them."""
    return [connection.dialect.identifier_preparer.quote(column) for column in columns]
