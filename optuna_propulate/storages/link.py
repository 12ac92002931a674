"""The link between a rank and the writer: calling it, and telling it without waiting."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError

from optuna_propulate.storages.protocol import NONCE_BYTES
from optuna_propulate.storages.protocol import FrameReader
from optuna_propulate.storages.protocol import error_of
from optuna_propulate.storages.protocol import frame
from optuna_propulate.storages.protocol import keep_alive
from optuna_propulate.storages.protocol import proof
from optuna_propulate.storages.protocol import receive_exactly


if TYPE_CHECKING:
    from collections.abc import Callable

_logger = optuna.logging.get_logger("optuna." + __name__)

_START_TIMEOUT = 120.0  # in seconds: Python on a busy parallel file system starts slowly
_MOST_LOSSES = 5
_RETRY_PAUSE = 0.2  # in seconds


class Link:
    """Holds a rank's connection to the writer, and a thread that listens to it.

    Args:
        address: The writer's path, or its host and port.
        token: What the writer wants to be known.
        heard: Called by the thread with each message that answers no call.
        tick: Called by the thread every ``interval`` seconds, and after each ``wake``.
        revive: Called by the thread, again and again, when the writer is gone; may start it.
        unanswered: Called then; returns the frames that are to be sent again.
        interval: In seconds.
        timeout: How long a call may take, and a writer may be gone, in seconds.

    Raises:
        StorageInternalError: If the writer cannot be reached.
    """

    def __init__(
        self,
        address: str | list[Any],
        token: str,
        heard: Callable[[list[Any]], None],
        tick: Callable[[], None],
        revive: Callable[[], None],
        unanswered: Callable[[], list[bytes]],
        interval: float,
        timeout: float,
    ) -> None:
        self._heard, self._tick = heard, tick
        self._revive, self._unanswered = revive, unanswered
        self._address, self._token = address, token
        self._interval, self._timeout = interval, timeout
        self._connection = _connect(address, token, timeout)
        self._sending = threading.Lock()
        self._sequence = 0
        self._is_down = False
        self._n_losses = 0  # since the last acknowledgement
        self._calls: dict[int, tuple[Future[Any], bytes]] = {}
        self._broken: str | None = None
        self._awake, self._waking = socket.socketpair()
        self._waking.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="storage-link", daemon=True)
        self._thread.start()

    @property
    def broken(self) -> str | None:
        """Why the writer cannot be reached any more; ``None`` if it can."""
        return self._broken

    def call(self, method: str, *arguments: Any) -> Any:
        """Let the writer do something, and wait for its result.

        Raises:
            KeyError: And whatever else the writer answers with.
            StorageInternalError: If it does not answer.
        """
        future: Future[Any] = Future()
        with self._sending:
            self._sequence += 1
            sequence = self._sequence
            content = frame(["call", sequence, method, list(arguments)])
            self._calls[sequence] = future, content
            self._send(content)
        try:
            return future.result(self._timeout)
        except FutureTimeoutError:
            self._calls.pop(sequence, None)
            raise StorageInternalError(
                f"The process that writes to the database has not answered within "
                f"{self._timeout:g} s."
            ) from None

    def tell(
        self,
        make: Callable[[int], list[Any] | None],
        keep: Callable[[int, bytes], None],
    ) -> None:
        """Send a message that is put together once its turn has come.

        Args:
            make: Called with a sequence number; returns the message, or ``None`` for none.
                Messages are sent in the order of these calls. Not called while the writer is gone.
            keep: Called with the sequence number and the frame before it is sent.
        """
        with self._sending:
            self._sequence += 1
            message = None if self._is_down else make(self._sequence)
            if message is not None:
                content = frame(message)
                keep(self._sequence, content)
                self._send(content)

    def answer(self, message: list[Any]) -> None:
        """Send a message without a sequence number."""
        with self._sending:
            self._send(frame(message))

    def wake(self) -> None:
        """Let the thread tick now."""
        with contextlib.suppress(BlockingIOError, OSError):
            self._waking.send(b"\0")

    def close(self) -> None:
        """Close the connection; what was sent is written all the same."""
        self._fail("It has been closed.")
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(self._interval + 5.0)
        for end in (self._connection, self._awake, self._waking):
            end.close()

    def forget(self) -> None:
        """Let go of the descriptors in a forked child, to whom the connection does not belong."""
        self._broken = "It belongs to the process that this one was forked from."
        self._sending = threading.Lock()  # a thread that this process has not may hold the other
        for end in (self._connection, self._awake, self._waking):
            with contextlib.suppress(OSError):
                end.close()

    def _send(self, content: bytes) -> None:
        """Send, unless the writer is gone: the thread will see to it."""
        if self._broken is not None:
            raise StorageInternalError(self._broken)
        if not self._is_down:
            try:
                self._connection.sendall(content)
            except OSError:
                self._is_down = True

    def _fail(self, reason: str) -> None:
        self._broken = self._broken or reason
        while self._calls:
            _, (future, _) = self._calls.popitem()
            future.set_exception(StorageInternalError(self._broken))

    def _run(self) -> None:
        while self._broken is None:
            try:
                self._listen()
            except OSError as error:
                self._reconnect(error)
            except StorageInternalError as error:
                self._fail(str(error))
            except Exception as error:  # whatever it is, nobody may wait for this thread for ever
                self._fail(f"The link to the process that writes has failed: {error!r}")
        self._heard(["broken", self._broken])

    def _listen(self) -> None:
        reader = FrameReader()
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection, selectors.EVENT_READ)
            selector.register(self._awake, selectors.EVENT_READ)
            due = time.monotonic() + self._interval
            while self._broken is None:
                pause = max(0.0, due - time.monotonic())
                ready = {key.fileobj for key, _ in selector.select(pause)}
                if self._connection in ready:
                    for message in reader.read(self._connection):
                        self._hear(message)
                if self._awake in ready:
                    self._awake.recv(4096)
                if self._awake in ready or time.monotonic() >= due:
                    due = time.monotonic() + self._interval
                    self._tick()

    def _reconnect(self, error: OSError) -> None:
        """Reach the writer's successor, and send again what was not answered."""
        with self._sending:
            self._is_down = True
        if self._broken is not None:
            return
        self._n_losses += 1
        if self._n_losses > _MOST_LOSSES:
            self._fail("The process that writes to the database ends again and again.")
        deadline = time.monotonic() + self._timeout
        reason: Exception = error
        while self._broken is None and time.monotonic() < deadline:
            try:
                self._revive()
                connection = _connect(self._address, self._token, self._timeout)
            except Exception as failure:  # e.g. the database cannot be opened just now
                reason = failure
                time.sleep(_RETRY_PAUSE)
                continue
            with self._sending:
                self._connection.close()
                self._connection = connection
                self._is_down = False
                for content in self._unanswered():
                    self._send(content)
                for _, content in list(self._calls.values()):
                    self._send(content)
            return
        self._fail(f"The process that writes to the database is gone: {reason}")

    def _hear(self, message: list[Any]) -> None:
        kind = message[0]
        if kind == "ack":
            self._n_losses = 0
        if kind not in ("result", "error"):
            self._heard(message)
            return
        future, _ = self._calls.pop(message[1], (None, None))
        if future is None:
            return  # its caller has given up
        if kind == "result":
            future.set_result(message[2])
        else:
            future.set_exception(error_of(message[2], message[3]))


def _connect(address: str | list[Any], token: str, timeout: float) -> socket.socket:
    """Return a connection whose sending takes no longer than ``timeout`` seconds."""
    try:
        if isinstance(address, str):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(_START_TIMEOUT)
            connection.connect(address)
        else:
            connection = socket.create_connection(tuple(address), timeout=_START_TIMEOUT)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            keep_alive(connection)
        connection.sendall(proof(token, receive_exactly(connection, NONCE_BYTES)))
    except OSError as error:
        raise StorageInternalError(
            f"The process that writes to the database cannot be reached at {address} from "
            f"{os.uname().nodename}: {error}"
        ) from error
    connection.settimeout(timeout)
    return connection
