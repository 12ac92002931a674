"""The writer that this process has started: a process of its own, or a thread of this one."""

from __future__ import annotations

import os
import uuid
from abc import ABC
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import optuna

from optuna_propulate.storages.sql.open import working_folder
from optuna_propulate.storages.wire.frames import error_of
from optuna_propulate.storages.wire.handshake import new_token
from optuna_propulate.storages.writer.folder import hold
from optuna_propulate.storages.writer.folder import make_folder
from optuna_propulate.storages.writer.folder import remove


if TYPE_CHECKING:
    from collections.abc import Mapping

_logger = optuna.logging.get_logger("optuna." + __name__)


class StartedWriter(ABC):
    """Holds the writer that this process has started.

    Args:
        url: The database's URL.
        engine_kwargs: As for ``sqlalchemy.create_engine``; values that JSON can hold.
        refresh_interval: How often it looks for trials of others, in seconds.
        commit_timeout: For how long it only tries again when the database cannot be written,
            before it keeps what it was told in a file, in seconds.
        retry: How often a trial that a killed job has left running is run again.
        n_workers: How many ranks share it.
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
        n_workers: int = 1,
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
            "n_workers": n_workers,
            "port": 0 if beyond else None,
            "token": self.token,
            "job": self.job,
            "starter": os.getpid(),
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
        if not self.is_alive:
            _logger.warning("What writes to the database has ended; it is restarted.")
            self._settings["port"] = self.addresses[1][1] if len(self.addresses) > 1 else None
            self._settings["is_known"] = True  # the database may be away just now
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._start()

    def _start(self) -> list[Any]:
        said = self._launch(self._settings)
        if "error" in said:
            self._let_go()
            self.wait(None)  # it ends by itself, having said so
            kind, text = said["error"]
            raise error_of(kind, text)
        if said["note"]:
            _logger.warning(said["note"])
        self._settings["file"] = said["file"]
        return list(said["addresses"])

    @abstractmethod
    def _launch(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Start it, and return what it says once it listens, or could not open the database."""

    @property
    @abstractmethod
    def is_alive(self) -> bool:
        """Whether it has not ended."""

    def release(self) -> None:
        """Tell the writer that it may end once every rank has left it.

        A forked child lets go of it, too, as the writer does not wait for the child to end.
        """
        self._let_go()
        os.close(self._lock)

    @abstractmethod
    def _let_go(self) -> None:
        """Close the lifeline."""

    @abstractmethod
    def wait(self, timeout: float | None) -> bool:
        """Wait until the writer has ended, for ever without a timeout; return whether it has."""
