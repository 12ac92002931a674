"""The outbox: what a rank has changed and the writer has not committed."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError

from optuna_propulate.storages.link import Link


if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna_propulate.storages.live import LiveTrial

_logger = optuna.logging.get_logger(__name__)

BACKLOG_BYTES = 64 << 20
"""How much may be told and not committed, before whoever starts a trial has to wait."""

_TOLD_AT_ONCE = 1000  # trials: from here on, the interval is not waited for


class Outbox:
    """Holds the trials with untold changes, and what is told and not committed.

    Args:
        address: The writer's address.
        token: What the writer wants to be known.
        lock: Guards the trials, too.
        heard: Called by a thread with what the writer says to all ranks.
        committed: Called by a thread with a study and trials of it that have ended and are
            committed.
        flush_interval: In seconds.
        timeout: How long to wait for the writer, in seconds.
    """

    def __init__(
        self,
        address: str | list[Any],
        token: str,
        lock: threading.RLock,
        heard: Callable[[list[Any]], None],
        committed: Callable[[int, list[LiveTrial]], None],
        flush_interval: float,
        timeout: float,
    ) -> None:
        self._progress = threading.Condition(lock)
        self._heard, self._committed = heard, committed
        self._timeout = timeout
        self._untold: dict[int, dict[LiveTrial, None]] = {}
        self._told: dict[int, tuple[int, list[LiveTrial]]] = {}
        self._n_bytes: dict[int, int] = {}
        self._backlog = 0
        self._warned: set[str] = set()
        self.link = Link(address, token, self._hear, self.tell, flush_interval, timeout)

    def note(self, study_id: int, trial: LiveTrial) -> None:
        """Note that a trial has changed; the lock is held."""
        untold = self._untold.get(study_id)
        if untold is None:
            untold = self._untold[study_id] = {}
        untold[trial] = None
        if len(untold) == _TOLD_AT_ONCE:
            self.link.wake()

    def tell(self) -> None:
        """Tell the writer all changes, without waiting for it."""
        for study_id in list(self._untold):
            sequence, n_bytes = self.link.tell("trials", lambda n: self._take(study_id, n))  # noqa: B023
            if n_bytes:
                with self._progress:
                    if sequence in self._told:
                        self._n_bytes[sequence] = n_bytes
                        self._backlog += n_bytes

    def commit(self) -> bool:
        """Tell the writer all changes, and wait until they are committed.

        Returns:
            Whether they were within the timeout.

        Raises:
            StorageInternalError: If the writer has gone.
        """
        self.tell()
        deadline = time.monotonic() + self._timeout
        with self._progress:
            mine = set(self._told)
            while mine & self._told.keys():
                self._check()
                if not self._progress.wait(max(0.0, deadline - time.monotonic())):
                    return False
        return True

    def wait_for_room(self) -> None:
        """Wait while too much is told and not committed.

        Raises:
            StorageInternalError: If the writer has gone.
        """
        self._check()
        if self._backlog < BACKLOG_BYTES:
            return
        self._warn(
            f"The database does not keep up: {BACKLOG_BYTES >> 20} MiB are waiting to be "
            "written. New trials wait for it."
        )
        with self._progress:
            while self._backlog >= BACKLOG_BYTES:
                self._check()
                self._progress.wait(1.0)

    def close(self) -> None:
        """Tell what is left, and leave the writer, which commits it."""
        if self.link.broken is None:
            try:
                self.commit()
            except StorageInternalError as error:
                _logger.error(f"The last trials may be lost: {error}")
        self.link.close()

    def _check(self) -> None:
        if self.link.broken is not None:
            raise StorageInternalError(self.link.broken)

    def _take(self, study_id: int, sequence: int) -> list[Any] | None:
        """Return a message's content; called by the link when it is this message's turn."""
        with self._progress:
            trials = self._untold.pop(study_id, None)
            if not trials:
                return None
            distributions: dict[str, int] = {}
            changes = [trial.take_change(distributions) for trial in trials]
            ended = [trial for trial in trials if trial.trial.state.is_finished()]
            self._told[sequence] = (study_id, ended)
            return [study_id, list(distributions), changes]

    def _hear(self, message: list[Any]) -> None:
        kind = message[0]
        if kind == "ack":
            with self._progress:
                study_id, ended = self._told.pop(message[1])
                self._backlog -= self._n_bytes.pop(message[1], 0)
                self._committed(study_id, ended)
                self._progress.notify_all()
        elif kind == "broken":
            with self._progress:
                self._progress.notify_all()
        elif kind == "trouble":
            if message[1]:
                self._warn(f"The database cannot be written, and is tried again: {message[1]}")
            else:
                _logger.info("The database can be written again.")
        elif kind == "refused":
            _logger.error(f"The database does not take {message[1]}")
        else:
            self._heard(message)

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            _logger.warning(text)
