"""Opening Optuna's own storages, with errors that show no password."""

from __future__ import annotations

import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import create_engine
from sqlalchemy.engine import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.exc import IntegrityError
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.exc import SQLAlchemyError

from optuna_propulate.storages.sql.dialects import dialect_of
from optuna_propulate.storages.sql.sqlite_file import sqlite_file


if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping

_logger = optuna.logging.get_logger("optuna." + __name__)

_PATIENCE = 3.0  # in seconds

_N_TRIES, _PAUSE = 5, 0.3  # the pause in seconds
_MADE_BY_OTHERS = ("already exist", "unique constraint", "duplicate")
"""What databases say of a table, or of its version's row, that somebody else has just made."""

_SQLITE = b"SQLite format 3\0"
_SECRETS = ("password", "passwd", "sslpassword")


class UnusableURLError(StorageInternalError):
    """What a URL names is no database, or needs a folder or a driver that is not there."""


def shown(url: str) -> str:
    """Return a storage URL fit for messages: its password is masked.

    Args:
        url: An SQLAlchemy URL.

    Raises:
        ValueError: If it is none.
    """
    parsed = parse_url(url)
    query = {
        key: "***" if key.lower() in _SECRETS else value for key, value in parsed.query.items()
    }
    text = parsed.set(query=query).render_as_string(hide_password=True)
    return text.replace("%3Amemory%3A", ":memory:")


def open_rdb(url: str, engine_kwargs: Mapping[str, Any] | None = None) -> RDBStorage:
    """Open a database and create Optuna's tables if they are not there.

    Args:
        url: An SQLAlchemy URL, e.g. ``sqlite:///study.db``.
        engine_kwargs: As for ``sqlalchemy.create_engine``.

    Raises:
        ValueError: If ``url`` cannot be parsed, or is of a database that is not supported.
        UnusableURLError: If what it names is no database, or needs a folder or a driver.
        StorageInternalError: If the database cannot be opened for another reason.
    """
    given = parse_url(url)
    dialect = dialect_of(given.get_backend_name())
    parsed = dialect.with_driver(given)
    try:
        return _opened_together(parsed, dialect.engine_arguments(parsed, engine_kwargs or {}))
    except (SQLAlchemyError, StorageInternalError, ImportError) as error:
        unusable = _unusable(parsed, error)
        reason = unusable or str(getattr(error, "orig", None) or error)
        secrets = [parsed.password, *(parsed.query.get(key) for key in _SECRETS)]
        for secret in filter(None, secrets):
            reason = reason.replace(str(secret), "***")
        # "from None", as the chained error may show the password
        kind = UnusableURLError if unusable else StorageInternalError
        raise kind(f"The storage {shown(url)} cannot be opened: {reason}") from None


@contextmanager
def announced(url: str) -> Iterator[None]:
    """Say what is waited for if the block takes long: a database may be locked, or away."""
    waiting = (
        f"Still opening {shown(url)}: it is locked or does not answer, or this machine is busy."
    )
    timer = threading.Timer(_PATIENCE, _logger.warning, [waiting])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def check_exists(url: str) -> None:
    """Check that a database which is a file is there: opening one that is not makes it.

    Raises:
        FileNotFoundError: If it is not.
        ValueError: If ``url`` cannot be parsed.
    """
    path = sqlite_file(parse_url(url))
    if path is not None and not path.exists():
        raise FileNotFoundError(f"There is no file {working_folder() / path}.")


def check_usable(url: str) -> None:
    """Check, without opening it, that what a URL names may be a database.

    Raises:
        UnusableURLError: If it is none, or needs a folder or a driver that is not there.
        ValueError: If ``url`` cannot be parsed, or is of a database that is not supported.
    """
    given = parse_url(url)
    parsed = dialect_of(given.get_backend_name()).with_driver(given)
    error: Exception | None = None
    try:
        create_engine(parsed).dispose()  # loads the driver
    except (ImportError, ArgumentError) as failure:
        error = failure
    reason = _unusable(parsed, error)
    if reason:
        raise UnusableURLError(f"The storage {shown(url)} cannot be opened: {reason}")


def _is_sqlite(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE)) in (_SQLITE, b"")
    except OSError:  # why it cannot be read is said where it is opened
        return True


def _unusable(url: URL, error: Exception | None) -> str:
    """Return what is wrong with a URL, and what to do; empty if it is the database."""
    path = sqlite_file(url)
    if path is not None and not path.parent.exists():
        return f"there is no folder {(working_folder() / path).parent}"
    if path is not None and path.is_file() and not _is_sqlite(path):
        return f"{working_folder() / path} is no database of SQLite"
    if isinstance(error, ArgumentError):
        return str(error)  # there is no such dialect
    if isinstance(error, ImportError):
        extra = dialect_of(url.get_backend_name()).extra
        return (
            f"the driver {url.get_driver_name()} is not installed; pip install "
            f"'optuna-propulate[{extra}]' brings one for a URL that names none"
        )
    return ""


def _opened_together(url: URL, arguments: dict[str, Any]) -> RDBStorage:
    """Open a database, perhaps at the very moment when others do so, too, and make its tables."""
    for _ in range(_N_TRIES):
        try:
            return RDBStorage(url.render_as_string(hide_password=False), engine_kwargs=arguments)
        except (OperationalError, ProgrammingError, IntegrityError) as error:
            if not any(word in str(error).lower() for word in _MADE_BY_OTHERS):
                raise
            time.sleep(_PAUSE)
    return RDBStorage(url.render_as_string(hide_password=False), engine_kwargs=arguments)


def absolute_url(url: str) -> str:
    """Return a URL that means the same database whatever becomes of the working folder.

    Raises:
        ValueError: If ``url`` cannot be parsed.
    """
    parsed = parse_url(url)
    path = sqlite_file(parsed)
    if path is None or (path.is_absolute() and ".." not in path.parts):
        return url
    prefix = "file:" if (parsed.database or "").startswith("file:") else ""
    there = parsed.set(database=f"{prefix}{(working_folder() / path).resolve()}")
    return there.render_as_string(hide_password=False)


def working_folder() -> Path:
    """Return the working folder, or the one for temporary files if it has been deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path(tempfile.gettempdir())


def parse_url(url: str) -> URL:
    """Return an SQLAlchemy URL; ``ValueError`` without the URL in it if it is none."""
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError(
            "The storage URL cannot be parsed (not shown, as it may hold a password); "
            "expected something like sqlite:///study.db or postgresql://user@host/database."
        ) from None
