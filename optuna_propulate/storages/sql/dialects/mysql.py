"""MySQL and MariaDB."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from optuna_propulate.storages.sql.dialects.base import IDLE
from optuna_propulate.storages.sql.dialects.base import LOCK_WAIT
from optuna_propulate.storages.sql.dialects.base import Dialect


if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine
    from sqlalchemy import Table
    from sqlalchemy.engine import URL


_TOLD = ("mysql", "mysql+pymysql", "mariadb", "mariadb+pymysql")
"""The drivers that are told how long to wait."""

SILENCE = 30  # in seconds: a server that says nothing for longer is taken to be gone


class MySQL(Dialect):
    """Tells MariaDB from MySQL by what the server says."""

    names = ("mysql", "mariadb")
    extra = "mysql"

    def with_driver(self, url: URL) -> URL:
        if url.drivername not in self.names or find_spec("MySQLdb") is not None:
            return url
        return url.set(drivername=f"{url.drivername}+pymysql")

    def connect_args(self, url: URL) -> dict[str, Any]:
        if url.drivername not in _TOLD:
            return {}
        return {**super().connect_args(url), "read_timeout": SILENCE, "write_timeout": SILENCE}

    def prepare(self, engine: Engine, *, writing: bool) -> None:
        if not writing:
            return

        @sa.event.listens_for(engine, "begin")
        def _limit(connection: Any) -> None:
            settings = f"SET innodb_lock_wait_timeout = {LOCK_WAIT:g}"
            if connection.dialect.is_mariadb:
                settings += f", idle_transaction_timeout = {IDLE:g}"  # also before it writes
            connection.exec_driver_sql(settings)

    def upsert(self, target: Table, columns: Sequence[str]) -> Any:
        replacing = mysql.insert(target)
        return replacing.on_duplicate_key_update({c: replacing.inserted[c] for c in columns[2:]})
