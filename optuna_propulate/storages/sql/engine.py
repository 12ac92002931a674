"""Database connections for the bulk statements of reading and writing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from optuna_propulate.storages.sql.dialects import dialect_of


if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sqlalchemy import Engine


def connect_engine(
    url: str, engine_kwargs: Mapping[str, Any] | None, *, writing: bool = False
) -> Engine:
    """Return an engine for the bulk statements of reading or of writing.

    Args:
        url: An SQLAlchemy URL.
        engine_kwargs: As for ``sqlalchemy.create_engine``.
        writing: Whether its transactions write; on SQLite, each then locks the database when it
            begins.
    """
    given = make_url(url)
    dialect = dialect_of(given.get_backend_name())
    parsed = dialect.with_driver(given)
    engine = sa.create_engine(parsed, **dialect.engine_arguments(parsed, engine_kwargs or {}))
    dialect.prepare(engine, writing=writing)
    return engine
