"""Opening Optuna's own storages, with errors that show no password."""

from __future__ import annotations

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.engine import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.exc import SQLAlchemyError


_SQLITE_LOCK_TIMEOUT = 60.0  # in seconds; the default of 5 is short for many ranks on one file


def shown(url: str) -> str:
    """Return a storage URL fit for messages: its password is masked.

    Args:
        url: An SQLAlchemy URL.

    Raises:
        ValueError: If it is none.
    """
    return _parse(url).render_as_string(hide_password=True)


def open_rdb(url: str) -> RDBStorage:
    """Open a database and create Optuna's tables if they are not there.

    Args:
        url: An SQLAlchemy URL, e.g. ``sqlite:///study.db``.

    Raises:
        ValueError: If ``url`` cannot be parsed.
        StorageInternalError: If the database cannot be opened.
    """
    parsed = _parse(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    engine_kwargs = {"connect_args": {"timeout": _SQLITE_LOCK_TIMEOUT}} if sqlite else None
    try:
        return RDBStorage(url, engine_kwargs=engine_kwargs)
    except (SQLAlchemyError, StorageInternalError, ImportError) as error:
        reason = str(getattr(error, "orig", None) or error)
        if parsed.password:
            reason = reason.replace(str(parsed.password), "***")
        # "from None", as the chained error may show the password
        raise StorageInternalError(
            f"The storage {shown(url)} cannot be opened: {reason}"
        ) from None


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError:
        raise ValueError(
            "The storage URL cannot be parsed (not shown, as it may hold a password); "
            "expected something like sqlite:///study.db or postgresql://user@host/database."
        ) from None
