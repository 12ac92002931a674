"""The reader: a process's own connections for reading, which know when the database is away."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING
from typing import Any

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from optuna_propulate.storages.sql.engine import connect_engine
from optuna_propulate.storages.sql.read import uncollected


if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping

    from sqlalchemy import Connection
    from sqlalchemy import Engine

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0  # in seconds, before the next try after a failure


class Reader:
    """Holds an engine that is opened when it is needed.

    Args:
        url: The database's URL.
        engine_kwargs: As for ``sqlalchemy.create_engine``.
    """

    def __init__(self, url: str, engine_kwargs: Mapping[str, Any]) -> None:
        self._url, self._engine_kwargs = url, engine_kwargs
        self._engine: Engine | None = None
        self._pause, self._retry_at = 0.0, 0.0

    @property
    def is_resting(self) -> bool:
        """Whether the database could not be read just now, so that a try is not worth the time."""
        return time.monotonic() < self._retry_at

    @property
    def engine(self) -> Engine:
        """The engine."""
        if self._engine is None:
            self._engine = connect_engine(self._url, self._engine_kwargs)
        return self._engine

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turn errors of the database into one that says that it is away.

        Raises:
            StorageInternalError: If the database cannot be read.
        """
        try:
            with uncollected():
                yield
        except SQLAlchemyError as error:
            self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
            self._retry_at = time.monotonic() + self._pause
            raise StorageInternalError(
                f"The database cannot be read: {getattr(error, 'orig', None) or error}"
            ) from None
        self._pause = self._retry_at = 0.0

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Open a connection for reading.

        Raises:
            StorageInternalError: If the database cannot be read.
        """
        with self.reading(), self.engine.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        if self._engine is not None:
            self._engine.dispose()

    def forget(self) -> None:
        """Let go of the connections in a forked child, to whom they do not belong."""
        if self._engine is not None:
            self._engine.dispose(close=False)
        self._engine = None
