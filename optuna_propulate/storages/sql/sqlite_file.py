"""SQLite's file: where it is, and whether it is still the one that was opened."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import sqlalchemy as sa


if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.engine import URL


def sqlite_file(url: URL) -> Path | None:
    """Return the file of an SQLite database; ``None`` for memory and for other databases."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return None
    if url.database.startswith("file:"):  # a URI with parameters of its own
        name = url.database[len("file:") :]
        return None if ":memory:" in name or "mode=memory" in str(url) else Path(name)
    return Path(url.database)


def watch_file(engine: Engine, known: tuple[int, int] | None = None) -> tuple[int, int] | None:
    """Let whatever the engine does fail once SQLite's file has been deleted or replaced.

    A connection that is open would go on with the file that nobody sees any more, and a new one
    would make an empty file.

    Args:
        engine: The engine.
        known: Device and inode of the file; ``None`` for those that it has now.

    Returns:
        Device and inode; ``None`` if the database is no file.
    """
    path = sqlite_file(engine.url)
    if path is None:
        return None
    known = known or _file_id(path)

    def check(*_: Any) -> None:
        if _file_id(path) != known:
            gone = sqlite3.OperationalError(f"the file {path} has been deleted or replaced")
            raise sa.exc.OperationalError("", None, gone)

    if known is not None:
        sa.event.listen(engine, "do_connect", check)
        sa.event.listen(engine, "checkout", check)
    return known


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_in_memory(url: URL) -> bool:
    """Tell whether the database is SQLite's in the memory of one process."""
    return url.get_backend_name() == "sqlite" and sqlite_file(url) is None
