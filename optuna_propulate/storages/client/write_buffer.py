"""The buffer: what a rank has changed and the writer has not committed."""

from __future__ import annotations

import threading
import time
import weakref
from typing import TYPE_CHECKING
from typing import Any
from typing import Protocol

import optuna
from optuna.exceptions import StorageInternalError

from optuna_propulate.storages.client.connection import WriterConnection
from optuna_propulate.storages.wire.frames import content_of


if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna_propulate.storages.client.live import LiveTrial
    from optuna_propulate.storages.client.study import StudyView
    from optuna_propulate.storages.client.writer_handle import WriterHandle

_logger = optuna.logging.get_logger("optuna." + __name__)

BACKLOG_BYTES = 64 << 20
"""How much may be told and not committed, before whoever starts a trial has to wait."""

_TOLD_AT_ONCE = 1000  # trials: from here on, the interval is not waited for
_MESSAGE_BYTES = 32 << 20  # about as much goes into one message, and never less than a trial
_RECEIPT_TIMEOUT = 15.0  # in seconds: longer than the writer waits for a database that is locked


class TrialStore(Protocol):
    """Whose trials a buffer holds; its methods are called by the connection's thread."""

    @property
    def lock(self) -> threading.RLock:
        """Guards the trials."""
        ...

    @property
    def begun(self) -> list[StudyView]:
        """The studies that this process adds trials to."""
        ...

    def hear(self, message: list[Any]) -> None:
        """Take in what the writer says to all ranks."""
        ...

    def forget_committed(self, study: StudyView, ended: list[LiveTrial]) -> None:
        """Let go of trials that have ended and are committed; the lock is held."""
        ...


class WriteBuffer:
    """Holds the trials with untold changes, and what is told and not committed.

    Args:
        handle: The writer.
        store: Whose trials these are.
        flush_interval: In seconds.
        timeout: How long to wait for the writer, in seconds.
        is_guest: Whether this process is a child of the rank whose trials it changes.
    """

    def __init__(
        self,
        handle: WriterHandle,
        store: TrialStore,
        flush_interval: float,
        timeout: float,
        *,
        is_guest: bool = False,
    ) -> None:
        self._handle = weakref.ref(handle)  # which belongs to the storages, and ends with the last
        self._store = store
        self._progress = threading.Condition(store.lock)
        self._timeout = timeout
        self._untold: dict[StudyView, dict[LiveTrial, None]] = {}
        self._told: dict[int, tuple[StudyView, list[LiveTrial]]] = {}
        self._warned: set[str] = set()
        self._is_away = False  # as the writer says of the database
        self._is_announced = False  # whether the next writer is told of the studies
        self._is_late = False  # whether a commit was waited for in vain, and none has come since
        self._is_given_up = False  # likewise, by somebody patient
        self.is_hurried = False  # whether nobody is to wait for the database any more
        self.connection = WriterConnection(
            handle.address,
            handle.token,
            self,
            flush_interval,
            timeout,
            ["guest"] if is_guest else None,
        )

    @property
    def is_away(self) -> bool:
        """Whether the database, or the writer, is known to be away just now."""
        return self._is_away or self.connection.is_down

    def note(self, study: StudyView, trial: LiveTrial) -> None:
        """Note that a trial has changed; the lock is held."""
        untold = self._untold.get(study)
        if untold is None:
            untold = self._untold[study] = {}
        untold[trial] = None
        if len(untold) == _TOLD_AT_ONCE or trial.size > _MESSAGE_BYTES:
            self.connection.wake()

    def send(self) -> None:
        """Tell the writer all changes, without waiting for it."""
        for study in list(self._untold):
            while study in self._untold and not self.connection.is_down:
                with self._progress:
                    message, ended = self._take(study)
                    if message:
                        self._told[self.connection.post(message)] = study, ended

    def deliver(self) -> None:
        """Tell the writer all changes, and wait until they are in its memory.

        Raises:
            StorageInternalError: If they are not within the timeout.
        """
        deadline = time.monotonic() + self._timeout
        while self._untold:
            self._check()
            self.send()
            with self._progress:
                if self._untold and time.monotonic() >= deadline:
                    raise StorageInternalError("The process that writes to the database is gone.")
                if self._untold:
                    self._progress.wait(0.05)
        self.connection.receipt()

    def commit(self, *, is_patient: bool = True) -> bool:
        """Tell the writer all changes, and wait until they are committed.

        Within one outage that is waited for once: later calls return as soon as all is told.

        Args:
            is_patient: Whether to wait also after somebody who is not patient has, in vain.

        Returns:
            Whether they were within the timeout.

        Raises:
            StorageInternalError: If the connection has been closed.
        """
        deadline = time.monotonic() + self._timeout
        with self._progress:
            mine = {trial for trials in self._untold.values() for trial in trials}
        while True:
            self.send()
            with self._progress:
                self._check()
                untold = any(mine & trials.keys() for trials in self._untold.values())
                if not untold:
                    break
                if self._is_in_vain(deadline, is_patient):
                    return False
                self._progress.wait(0.1)  # the writer is gone, and perhaps comes back
        with self._progress:
            told = set(self._told)
            while told & self._told.keys():
                self._check()
                if self._is_in_vain(deadline, is_patient):
                    return False
                self._progress.wait(max(0.0, deadline - time.monotonic()))
        return True

    def hurry(self) -> None:
        """Let nobody wait for a commit from now on."""
        self.is_hurried = True
        with self._progress:
            self._progress.notify_all()

    def wait_for_room(self) -> None:
        """Wait while too much is told and not committed, at most for the timeout.

        Raises:
            StorageInternalError: If the connection has been closed.
        """
        self._check()
        if self.connection.backlog < BACKLOG_BYTES:
            return
        self.warn(
            f"The database does not keep up: {BACKLOG_BYTES >> 20} MiB are waiting to be "
            f"written. Each new trial waits for it, for {self._timeout:g} s at most."
        )
        deadline = time.monotonic() + self._timeout
        with self._progress:
            while self.connection.backlog >= BACKLOG_BYTES and time.monotonic() < deadline:
                self._check()
                self._progress.wait(min(1.0, max(0.0, deadline - time.monotonic())))

    def uncommitted(self) -> Iterator[list[Any]]:
        """Yield all messages that may not be committed, told or not."""
        with self._progress:
            for content in self.connection.unacknowledged():
                yield content_of(content)
            for study in list(self._untold):
                while message := self._take(study)[0]:
                    yield message

    def has_received_all(self) -> bool:
        """Tell whether the writer has in its memory all that was told, and nothing is untold."""
        if self.connection.is_down or self._untold:
            return False
        try:
            self.connection.receipt(min(self._timeout, _RECEIPT_TIMEOUT))
        except StorageInternalError:
            return False
        return True

    def _be_back(self) -> None:
        """Note that the database can be written again, if it could not."""
        if self._is_away:
            self._is_away = False
            self._warned.clear()
            _logger.warning("The database can be written again.")

    def warn(self, text: str) -> None:
        """Warn, once in an outage."""
        if text not in self._warned:
            self._warned.add(text)
            _logger.warning(text)

    def forget(self, lock: threading.RLock) -> None:
        """Let go of the connection in a forked child; what the parent has to tell is its own."""
        self._progress = threading.Condition(lock)
        self.connection.forget()

    def _is_in_vain(self, deadline: float, is_patient: bool) -> bool:
        """Tell whether a commit is not waited for any more; the lock is held."""
        if self.is_hurried or self._is_given_up or (self._is_late and not is_patient):
            return True
        if time.monotonic() < deadline:
            return False
        self._is_late, self._is_given_up = True, is_patient
        return True

    def _check(self) -> None:
        if self.connection.broken is not None:
            raise StorageInternalError(self.connection.broken)

    def _take(self, study: StudyView) -> tuple[list[Any], list[LiveTrial]]:
        """Return untold changes as a message, and the trials among them that have ended.

        The lock is held; the message is empty if there are none.
        """
        untold = self._untold.pop(study, None)
        if not untold:
            return [], []
        trials: list[LiveTrial] = []
        size = 0
        while untold and (not trials or size < _MESSAGE_BYTES):
            trial = next(iter(untold))
            del untold[trial]
            trials.append(trial)
            size += trial.size
        if untold:
            self._untold[study] = untold
        distributions: dict[str, int] = {}
        changes = [trial.take_change(distributions) for trial in trials]
        ended = [trial for trial in trials if trial.trial.state.is_finished()]
        message = [
            "trials", None, study.study_id, study.base, study.counter,
            list(distributions), changes,
        ]  # fmt: skip
        return message, ended

    def tick(self) -> None:
        """Tell the writer all changes: called by the connection's thread."""
        self.send()

    def revive(self) -> None:
        """Start the writer again, if this process has started it: likewise.

        The next one is told of which studies it is, or other jobs would take this one for dead.
        """
        handle = self._handle()
        if handle is not None:
            handle.revive()
        if self._is_announced:
            return
        self._is_announced = True
        with self._progress:
            for study in self._store.begun:
                whose = study.study_id, study.base, study.counter
                message: list[Any] = ["trials", None, *whose, [], []]
                self._told[self.connection.post(message)] = study, []

    def hear(self, message: list[Any]) -> None:
        """Take in what the writer says: likewise."""
        kind = message[0]
        if kind == "ack":
            with self._progress:
                study, ended = self._told.pop(message[1], (None, []))
                self._is_late = self._is_given_up = self._is_announced = False
                if study is not None:
                    self._store.forget_committed(study, ended)
                self._progress.notify_all()
            self._be_back()  # another writer than the one that spoke of trouble, perhaps
        elif kind == "broken":
            with self._progress:
                self._progress.notify_all()
        elif kind == "trouble":
            if message[1]:
                self._is_away = True
                self.warn(f"The database cannot be written, and is tried again: {message[1]}")
            else:
                self._be_back()
        elif kind == "spilled":
            self.warn(
                f"What cannot be written goes to {message[1]} as well; should the job end before "
                "the database is back, `optuna-propulate import` puts it in."
            )
        elif kind == "refused":
            _, study_id, number, reason = message
            whose = f"study {study_id}" if number is None else f"trial {number}"
            _logger.error(f"The database does not take {whose}: {reason}")
        else:
            self._store.hear(message)
