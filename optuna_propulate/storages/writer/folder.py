"""The folder of a job's writer: nobody else may enter it, and none outlives its job for long."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path


_PREFIX = "optuna-propulate-"
_LOCK = "lock"
_LONGEST_FOLDER = 90  # bytes: macOS allows 103 for a socket, Linux 107


def make_folder() -> str:
    """Make a folder that nobody else may enter, with a path that a Unix socket can have.

    Folders of jobs that were killed on this machine are removed.
    """
    for place in {tempfile.gettempdir(), "/tmp"}:
        remove_dead(Path(place))
    folder = tempfile.mkdtemp(prefix=_PREFIX)
    if len(os.fsencode(folder)) > _LONGEST_FOLDER:
        os.rmdir(folder)
        folder = tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp")
    return folder


def hold(folder: Path) -> int:
    """Show that a folder is in use, until the descriptor that is returned is closed.

    The process that starts the writer holds it, and so does the writer, which may end before or
    after. It is made anew if it is gone.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def remove(folder: Path) -> None:
    """Remove a folder and all that is in it."""
    shutil.rmtree(folder, ignore_errors=True)


def remove_dead(place: Path) -> None:
    """Remove the folders of jobs of this user that nobody holds any more."""
    for folder in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if folder.stat().st_uid != os.getuid():
                continue
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(folder)
            finally:
                os.close(descriptor)
