"""Tenure: only one writer at a time adds trials to a study, as it alone counts their numbers.

The lock is the database's own, or the operating system's for SQLite (on a file beside the
database whose name ends in ``-writer``), bound to a connection or a file that is open: it ends
with the writer, however that ends, so none is ever left behind.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import sqlalchemy as sa

from optuna_propulate.storages.engine import sqlite_file
from optuna_propulate.storages.reading import read_mark


if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy import Engine

_PATIENCE = 5.0  # in seconds: the writer of a job that has just ended still commits
_PAUSE = 0.1
_KEEPALIVES = {"tcp_keepalives_idle": 5, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 2}
"""Makes PostgreSQL notice within 15 s that the machine of a writer is gone, in seconds."""

_CLASS = 0x70726F70  # tells these locks from others in the same PostgreSQL server


class TakenError(RuntimeError):
    """Another writer adds trials to the study."""


class Tenure:
    """Holds the right to add trials to studies.

    Args:
        engine: An engine of the database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._file: int | None = None
        self._held: set[int] = set()
        self._lost: set[int] = set()

    def claim(self, study_id: int) -> None:
        """Become the one writer that adds trials to a study.

        Raises:
            TakenError: If there is another, and it does not end within a few seconds.
        """
        deadline = time.monotonic() + _PATIENCE
        while not self._try(study_id):
            if time.monotonic() >= deadline:
                raise TakenError(
                    f"Another job is adding trials to this study{self._holder(study_id)}. Wait "
                    "until it has ended; start all processes under mpirun to share one study; or "
                    "give the study to them as a plain optuna.storages.RDBStorage(url)."
                )
            time.sleep(_PAUSE)
        self._held.add(study_id)

    def renew(self) -> None:
        """Claim all studies again if the connection that held the locks is lost.

        Raises:
            DBAPIError: If the database cannot be reached.
            TakenError: If another writer has claimed one meanwhile; it is tried again next time.
        """
        if self._engine.dialect.name == "sqlite":
            return
        if not self._is_alive():
            self._lost |= self._held
            self._held.clear()
        for study_id in sorted(self._lost):
            self.claim(study_id)
            self._lost.discard(study_id)

    def close(self) -> None:
        """Give up all rights."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._disconnect()

    def _is_alive(self) -> bool:
        if self._connection is None:
            return not self._held
        try:
            self._connection.execute(sa.text("SELECT 1"))
        except sa.exc.SQLAlchemyError:
            self._disconnect()
            return False
        return True

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sa.exc.SQLAlchemyError):
                self._connection.invalidate()
                self._connection.close()
            self._connection = None

    def _holder(self, study_id: int) -> str:
        with self._engine.connect() as connection:
            mark = read_mark(connection, study_id)
        if mark is None:
            return ""
        return " (its writer is process {process} on {host}, since {since} UTC)".format(**mark)

    def _try(self, study_id: int) -> bool:
        name = self._engine.dialect.name
        if name == "postgresql":
            query = sa.text("SELECT pg_try_advisory_lock(:kind, :study)")
            return bool(self._session().scalar(query, {"kind": _CLASS, "study": study_id}))
        if name in ("mysql", "mariadb"):
            query = sa.text("SELECT GET_LOCK(CONCAT('optuna_propulate ', DATABASE(), :study), 0)")
            return bool(self._session().scalar(query, {"study": f" {study_id}"}))
        return self._try_file(study_id)

    def _session(self) -> Connection:
        """Return the connection whose session holds the locks."""
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(
                isolation_level="AUTOCOMMIT"
            )
            if self._engine.dialect.name == "postgresql":
                for setting, value in _KEEPALIVES.items():
                    self._connection.execute(sa.text(f"SET {setting} = {value}"))
        return self._connection

    def _try_file(self, study_id: int) -> bool:
        """Lock a byte of a file beside the database, on whichever machine this is."""
        path = sqlite_file(self._engine.url)
        if path is None or study_id in self._held:
            return True
        if self._file is None:
            beside = path.resolve().with_name(f"{path.name}-writer")
            self._file = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, study_id)
        except (BlockingIOError, PermissionError):
            return False
        return True
