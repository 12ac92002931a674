"""The writer's process, as the one that starts it sees it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError

from optuna_propulate.storages.sql.open import working_folder
from optuna_propulate.storages.wire.frames import error_of
from optuna_propulate.storages.wire.handshake import new_token
from optuna_propulate.storages.writer.folder import hold
from optuna_propulate.storages.writer.folder import make_folder
from optuna_propulate.storages.writer.folder import remove


if TYPE_CHECKING:
    from collections.abc import Mapping

_logger = optuna.logging.get_logger("optuna." + __name__)

_START = (  # not "-m", which would look for modules in the working folder first
    "import sys; sys.path[:] = sys.argv[1:]; "
    "from optuna_propulate.storages.writer.service import main; main()"
)


class WriterProcess:
    """Holds the writer that this process has started.

    Args:
        url: The database's URL; it goes to the writer over a pipe, as a command line can be read
            by anybody.
        engine_kwargs: As for ``sqlalchemy.create_engine``; values that JSON can hold.
        refresh_interval: How often it looks for trials of others, in seconds.
        commit_timeout: For how long it only tries again when the database cannot be written,
            before it keeps what it was told in a file, in seconds.
        retry: How often a trial that a killed job has left running is run again.
        beyond: Whether ranks on other nodes connect to it.

    Attributes:
        addresses: Where it listens: a path, and host and port if other nodes connect.
        token: What a rank has to know.
        job: Tells the job from all others; the same for a writer that is started again.
        spill_folder: Where what the database does not take is kept.

    Raises:
        Exception: What opening the database raised there.
    """

    def __init__(
        self,
        url: str,
        engine_kwargs: Mapping[str, Any] | None,
        refresh_interval: float,
        commit_timeout: float = 60.0,
        retry: int = 0,
        *,
        beyond: bool = False,
    ) -> None:
        self.token, self.job = new_token(), uuid.uuid4().hex
        self.spill_folder = working_folder()
        self._folder = Path(make_folder())
        self._lock = hold(self._folder)
        self._settings: dict[str, Any] = {
            "url": url,
            "engine_kwargs": dict(engine_kwargs or {}),
            "refresh_interval": refresh_interval,
            "commit_timeout": commit_timeout,
            "retry": retry,
            "port": 0 if beyond else None,
            "token": self.token,
            "job": self.job,
            "folder": str(self._folder),
            "spill_folder": str(self.spill_folder),
            "is_known": False,
            "file": None,
        }
        try:
            self.addresses = self._start()
        except BaseException:
            remove(self._folder)
            os.close(self._lock)
            raise

    def revive(self) -> None:
        """Start the writer again, at the same addresses, if it has ended.

        Raises:
            Exception: What opening the database raised there.
        """
        if self._process.poll() is not None:
            _logger.warning("The process that writes to the database has ended; it is restarted.")
            self._settings["port"] = self.addresses[1][1] if len(self.addresses) > 1 else None
            self._settings["is_known"] = True  # the database may be away just now
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._start()

    def _start(self) -> list[Any]:
        first_line = json.dumps(self._settings).encode() + b"\n"
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, *_absolute(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",  # the working folder may be deleted
            start_new_session=True,  # what interrupts the job must not interrupt what it has told
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(first_line)
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        self._process.stdout.close()
        if not answer:
            raise StorageInternalError(
                f"The process that writes to the database ended with {self._process.wait()}."
            )
        said = json.loads(answer)
        if "error" in said:
            self._process.wait()
            kind, text = said["error"]
            raise error_of(kind, text)
        if said["note"]:
            _logger.warning(said["note"])
        self._settings["file"] = said["file"]
        return list(said["addresses"])

    def release(self) -> None:
        """Tell the writer that it may end once every rank has left it."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def wait(self, timeout: float) -> bool:
        """Wait until the writer has ended; return whether it has."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True


def _absolute(path: list[str]) -> list[str]:
    """Return where modules are looked for, independent of the working folder."""
    here = working_folder()
    return [str(here / entry) for entry in path]
