"""The outbox: what a rank has changed and the writer has not committed."""

from __future__ import annotations

import threading
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError

from optuna_propulate.storages.link import Link


if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna_propulate.storages.live import LiveTrial
    from optuna_propulate.storages.office import Office
    from optuna_propulate.storages.study_view import StudyView

_logger = optuna.logging.get_logger("optuna." + __name__)

BACKLOG_BYTES = 64 << 20
"""How much may be told and not committed, before whoever starts a trial has to wait."""

_TOLD_AT_ONCE = 1000  # trials: from here on, the interval is not waited for


class Outbox:
    """Holds the trials with untold changes, and what is told and not committed.

    Args:
        office: The writer.
        lock: Guards the trials, too.
        heard: Called by a thread with what the writer says to all ranks.
        committed: Called by a thread with a study and trials of it that have ended and are
            committed.
        flush_interval: In seconds.
        timeout: How long to wait for the writer, in seconds.
    """

    def __init__(
        self,
        office: Office,
        lock: threading.RLock,
        heard: Callable[[list[Any]], None],
        committed: Callable[[StudyView, list[LiveTrial]], None],
        flush_interval: float,
        timeout: float,
    ) -> None:
        self._progress = threading.Condition(lock)
        self._heard, self._committed = heard, committed
        self._timeout = timeout
        self._untold: dict[StudyView, dict[LiveTrial, None]] = {}
        self._told: dict[int, tuple[StudyView, list[LiveTrial]]] = {}
        self._sent: dict[int, bytes] = {}
        self._backlog = 0
        self._warned: set[str] = set()
        self.link = Link(
            office.address,
            office.token,
            self._hear,
            self.tell,
            partial(_revive, weakref.ref(office)),
            self._unanswered,
            flush_interval,
            timeout,
        )

    def note(self, study: StudyView, trial: LiveTrial) -> None:
        """Note that a trial has changed; the lock is held."""
        untold = self._untold.get(study)
        if untold is None:
            untold = self._untold[study] = {}
        untold[trial] = None
        if len(untold) == _TOLD_AT_ONCE:
            self.link.wake()

    def tell(self) -> None:
        """Tell the writer all changes, without waiting for it."""
        for study in list(self._untold):
            self.link.tell(partial(self._take, study), self._keep)

    def commit(self) -> bool:
        """Tell the writer all changes, and wait until they are committed.

        Returns:
            Whether they were within the timeout.

        Raises:
            StorageInternalError: If the writer has gone.
        """
        deadline = time.monotonic() + self._timeout
        with self._progress:
            mine = {trial for trials in self._untold.values() for trial in trials}
        while True:
            self.tell()
            with self._progress:
                self._check()
                untold = any(mine & trials.keys() for trials in self._untold.values())
                if not untold:
                    break
                self._progress.wait(0.1)  # the writer is gone, and perhaps comes back
            if time.monotonic() >= deadline:
                return False
        with self._progress:
            told = set(self._told)
            while told & self._told.keys():
                self._check()
                if not self._progress.wait(max(0.0, deadline - time.monotonic())):
                    return False
        return True

    def wait_for_room(self) -> None:
        """Wait while too much is told and not committed, at most for the timeout.

        Raises:
            StorageInternalError: If the writer has gone.
        """
        self._check()
        if self._backlog < BACKLOG_BYTES:
            return
        self._warn(
            f"The database does not keep up: {BACKLOG_BYTES >> 20} MiB are waiting to be "
            f"written. Each new trial waits for it, for {self._timeout:g} s at most."
        )
        deadline = time.monotonic() + self._timeout
        with self._progress:
            while self._backlog >= BACKLOG_BYTES and time.monotonic() < deadline:
                self._check()
                self._progress.wait(min(1.0, max(0.0, deadline - time.monotonic())))

    def close(self) -> None:
        """Tell what is left, and leave the writer, which commits it."""
        if self.link.broken is None:
            try:
                if not self.commit():
                    _logger.error(
                        "The last trials are not committed yet; the process that writes goes on "
                        "trying, and keeps them in a file."
                    )
            except StorageInternalError as error:
                _logger.error(f"The last trials may be lost: {error}")
        self.link.close()

    def forget(self, lock: threading.RLock) -> None:
        """Let go of the connection in a forked child."""
        self._progress = threading.Condition(lock)
        self.link.forget()

    def _check(self) -> None:
        if self.link.broken is not None:
            raise StorageInternalError(self.link.broken)

    def _take(self, study: StudyView, sequence: int) -> list[Any] | None:
        """Return a message's content; called by the link when it is this message's turn."""
        with self._progress:
            trials = self._untold.pop(study, None)
            if not trials:
                return None
            distributions: dict[str, int] = {}
            changes = [trial.take_change(distributions) for trial in trials]
            ended = [trial for trial in trials if trial.trial.state.is_finished()]
            self._told[sequence] = (study, ended)
            return [
                "trials", sequence, study.study_id, study.first_number, study.counter,
                list(distributions), changes,
            ]  # fmt: skip

    def _keep(self, sequence: int, content: bytes) -> None:
        with self._progress:
            self._sent[sequence] = content
            self._backlog += len(content)

    def _unanswered(self) -> list[bytes]:
        with self._progress:
            return [self._sent[sequence] for sequence in sorted(self._sent)]

    def _hear(self, message: list[Any]) -> None:
        kind = message[0]
        if kind == "ack":
            with self._progress:
                study, ended = self._told.pop(message[1], (None, []))
                self._backlog -= len(self._sent.pop(message[1], b""))
                if study is not None:
                    self._committed(study, ended)
                self._progress.notify_all()
        elif kind == "broken":
            with self._progress:
                self._progress.notify_all()
        elif kind == "trouble":
            if message[1]:
                self._warn(f"The database cannot be written, and is tried again: {message[1]}")
            else:
                self._warned.clear()
                _logger.warning("The database can be written again.")
        elif kind == "spilled":
            self._warn(
                f"What cannot be written goes to {message[1]} as well; should the job end before "
                "the database is back, `optuna-propulate import` puts it in."
            )
        elif kind == "refused":
            _logger.error(f"The database does not take {message[1]}")
        else:
            self._heard(message)

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            _logger.warning(text)


def _revive(office: weakref.ref[Office]) -> None:
    """Revive the writer; the office belongs to the storages, and ends with the last of them."""
    there = office()
    if there is not None:
        there.revive()
