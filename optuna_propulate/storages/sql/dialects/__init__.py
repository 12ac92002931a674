"""Dialects: what SQLite, PostgreSQL and MySQL each need to be told, one file each."""

from optuna_propulate.storages.sql.dialects.base import Dialect
from optuna_propulate.storages.sql.dialects.mysql import MySQL
from optuna_propulate.storages.sql.dialects.postgresql import PostgreSQL
from optuna_propulate.storages.sql.dialects.sqlite import SQLite


__all__ = ["Dialect", "MySQL", "PostgreSQL", "SQLite", "dialect_of"]

_DIALECTS: tuple[Dialect, ...] = (SQLite(), PostgreSQL(), MySQL())


def dialect_of(name: str) -> Dialect:
    """Return a dialect by the name that comes first in a URL.

    Raises:
        ValueError: If Optuna's tables are not written to such databases.
    """
    for dialect in _DIALECTS:
        if name in dialect.names:
            return dialect
    known = ", ".join(name for dialect in _DIALECTS for name in dialect.names)
    raise ValueError(f"The storage URL must be one of {known}, but got {name}.")
