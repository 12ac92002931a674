"""The connection between a rank and the writer: calling it, and telling it without waiting."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any
from typing import Protocol

from optuna.exceptions import StorageInternalError

from optuna_propulate.storages.wire.frames import FrameReader
from optuna_propulate.storages.wire.frames import error_of
from optuna_propulate.storages.wire.frames import frame
from optuna_propulate.storages.wire.handshake import NONCE_BYTES
from optuna_propulate.storages.wire.handshake import keep_alive
from optuna_propulate.storages.wire.handshake import proof
from optuna_propulate.storages.wire.handshake import receive_exactly


_START_TIMEOUT = 120.0  # in seconds: Python on a busy parallel file system starts slowly
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0  # in seconds, between two tries to reach the writer


class UnansweredError(StorageInternalError):
    """The writer has not answered in time."""


class Listener(Protocol):
    """What a connection's thread calls."""

    def hear(self, message: list[Any]) -> None:
        """Take in a message that answers no call."""
        ...

    def tick(self) -> None:
        """Do what is due: called every ``interval`` seconds, and after each ``wake``."""
        ...

    def revive(self) -> None:
        """Start the writer again, perhaps: called again and again while it is gone."""
        ...


class WriterConnection:
    """Holds a rank's connection to the writer, and a thread that listens to it.

    Args:
        address: The writer's path, or its host and port.
        token: What the writer wants to be known.
        listener: Is called by the thread.
        interval: In seconds.
        timeout: How long a call may take, in seconds.
        greeting: The first message on every connection; ``None`` for none.

    Raises:
        StorageInternalError: If the writer cannot be reached.
    """

    def __init__(
        self,
        address: str | list[Any],
        token: str,
        listener: Listener,
        interval: float,
        timeout: float,
        greeting: list[Any] | None = None,
    ) -> None:
        self._listener = listener
        self._address, self._token = address, token
        self._interval, self._timeout = interval, timeout
        self._greeting = b"" if greeting is None else frame(greeting)
        self._connection = self._connected()
        self._outgoing = bytearray()  # what the writer has not taken yet
        self._sending = threading.Lock()
        self._sequence = 0
        self._is_down = False
        self._closing = threading.Event()
        self._calls: dict[int, tuple[Future[Any], bytes]] = {}
        self._told: dict[int, bytes] = {}  # what was not acknowledged, by sequence number
        self._backlog = 0  # bytes of that
        self._broken: str | None = None
        self._awake, self._waking = socket.socketpair()
        self._waking.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="writer-connection", daemon=True)
        self._thread.start()

    @property
    def broken(self) -> str | None:
        """Why the writer cannot be reached any more; ``None`` if it can."""
        return self._broken

    @property
    def is_down(self) -> bool:
        """Whether the writer is gone just now."""
        return self._is_down or self._broken is not None

    def call(self, method: str, *arguments: Any, timeout: float | None = None) -> Any:
        """Let the writer do something, and wait for its result.

        Args:
            method: What to do.
            arguments: Its arguments.
            timeout: How long to wait, in seconds; ``None`` for the connection's own.

        Raises:
            KeyError: And whatever else the writer answers with.
            StorageInternalError: If it does not answer.
        """
        return self._ask(["call", None, method, list(arguments)], timeout)

    def receipt(self, timeout: float | None = None) -> None:
        """Wait until the writer has in its memory what was told before.

        What it said to all ranks before it answered has been heard by then.

        Raises:
            StorageInternalError: If it does not answer.
        """
        self._ask(["received", None], timeout)

    def _ask(self, message: list[Any], timeout: float | None) -> Any:
        timeout = self._timeout if timeout is None else timeout
        future: Future[Any] = Future()
        with self._sending:
            self._sequence += 1
            sequence = message[1] = self._sequence
            content = frame(message)
            self._calls[sequence] = future, content
            self._send(content)
        try:
            return future.result(timeout)
        except FutureTimeoutError:
            self._calls.pop(sequence, None)
            raise UnansweredError(
                f"The process that writes to the database has not answered within {timeout:g} s."
            ) from None

    @property
    def backlog(self) -> int:
        """How many bytes were told and are not acknowledged."""
        return self._backlog

    def post(self, message: list[Any]) -> int:
        """Send a message that the writer is to acknowledge, again and again until it does.

        Args:
            message: Its second item becomes the sequence number.

        Returns:
            The sequence number: listeners hear ``["ack", number]``.
        """
        with self._sending:
            self._sequence += 1
            sequence = message[1] = self._sequence
            content = frame(message)
            self._told[sequence] = content
            self._backlog += len(content)
            if self._broken is None:
                self._send(content)
        return sequence

    def unacknowledged(self) -> list[bytes]:
        """Return the frames that were told and not acknowledged, in their order."""
        with self._sending:
            return list(self._told.values())

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
        self._closing.set()
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
        """Send what the writer takes now; the thread sends the rest, and sees to a lost writer.

        Nobody waits for a writer that waits for its database.
        """
        if self._broken is not None:
            raise StorageInternalError(self._broken)
        if self._is_down:
            return
        self._outgoing += content
        self._flush()
        if self._outgoing:
            self.wake()

    def _flush(self) -> None:
        """Send what the writer takes now; the lock is held."""
        try:
            while self._outgoing:
                del self._outgoing[: self._connection.send(self._outgoing)]
        except BlockingIOError:
            return
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
            except OSError:
                self._reconnect()
            except StorageInternalError as error:
                self._fail(str(error))
            except Exception as error:  # whatever it is, nobody may wait for this thread for ever
                self._fail(f"The connection to the process that writes has failed: {error!r}")
        self._listener.hear(["broken", self._broken])

    def _listen(self) -> None:
        reader = FrameReader()
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection, selectors.EVENT_READ)
            selector.register(self._awake, selectors.EVENT_READ)
            due = time.monotonic() + self._interval
            while self._broken is None:
                wanted = selectors.EVENT_WRITE if self._outgoing else 0
                selector.modify(self._connection, selectors.EVENT_READ | wanted)
                pause = max(0.0, due - time.monotonic())
                ready = {key.fileobj: events for key, events in selector.select(pause)}
                if ready.get(self._connection, 0) & selectors.EVENT_READ:
                    for message in reader.read(self._connection):
                        self._hear(message)
                if self._outgoing:
                    with self._sending:
                        self._flush()
                is_woken = self._awake in ready and bool(self._awake.recv(4096))
                if self._is_down:
                    raise ConnectionError("The writer takes nothing any more.")
                if is_woken or time.monotonic() >= due:
                    due = time.monotonic() + self._interval
                    self._listener.tick()

    def _reconnect(self) -> None:
        """Reach the writer's successor, however long that takes; send what was not answered."""
        with self._sending:
            self._is_down = True
        pause = _FIRST_PAUSE
        while self._broken is None:
            try:
                self._listener.revive()
                connection = self._connected()
            except Exception:  # e.g. no more processes can be started just now
                self._closing.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            with self._sending:
                if self._broken is not None:  # it was closed meanwhile
                    connection.close()
                    return
                self._connection.close()
                self._connection = connection
                self._outgoing.clear()  # it is among what was not answered
                self._is_down = False
                for content in self._told.values():
                    self._send(content)
                for _, content in list(self._calls.values()):
                    self._send(content)
            return

    def _hear(self, message: list[Any]) -> None:
        kind = message[0]
        if kind not in ("result", "error"):
            if kind == "ack":
                with self._sending:
                    self._backlog -= len(self._told.pop(message[1], b""))
            self._listener.hear(message)
            return
        future, _ = self._calls.pop(message[1], (None, None))
        if future is None:
            return  # its caller has given up
        if kind == "result":
            future.set_result(message[2])
        else:
            future.set_exception(error_of(message[2], message[3]))

    def _connected(self) -> socket.socket:
        """Return a new connection, on which the writer has been greeted."""
        connection = _connect(self._address, self._token)
        connection.sendall(self._greeting)
        connection.setblocking(False)
        return connection


def _connect(address: str | list[Any], token: str) -> socket.socket:
    """Return a connection on which this process has shown that it knows the token."""
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
    return connection


def can_connect(address: str | list[Any], token: str) -> bool:
    """Tell whether there is a writer at the address that knows the token."""
    try:
        connection = _connect(address, token)
        connection.close()
    except StorageInternalError:
        return False
    return True
