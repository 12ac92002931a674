"""A rank's connection, as the writer holds it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING
from typing import Any

from optuna_propulate.storages.wire.frames import FrameReader
from optuna_propulate.storages.wire.frames import frame
from optuna_propulate.storages.wire.handshake import NONCE_BYTES
from optuna_propulate.storages.wire.handshake import is_proof


if TYPE_CHECKING:
    import socket

_PROOF_BYTES = 32


class Client:
    """Holds one rank's connection, and what is on its way to that rank."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.since = time.monotonic()
        self.is_trusted = False
        self.is_guest = False
        self.studies: set[int] = set()  # in which it has begun to add trials
        self.nonce = os.urandom(NONCE_BYTES)
        self.outgoing = bytearray(self.nonce)
        self.is_full = True  # whether it is watched until it takes more
        self._frames = FrameReader()
        self._proof = b""
        connection.setblocking(False)

    def send(self, message: list[Any]) -> None:
        """Let a message go out as soon as the rank takes it."""
        self.outgoing += frame(message)

    def receive(self, token: str) -> list[list[Any]]:
        """Return the messages that have come in.

        Raises:
            ConnectionError: If the rank has gone, or does not know the token.
        """
        if self.is_trusted:
            return list(self._frames.read(self.connection))
        received = self.connection.recv(_PROOF_BYTES - len(self._proof))
        if not received:
            raise ConnectionError("The other side has closed the connection.")
        self._proof += received
        if len(self._proof) == _PROOF_BYTES:
            if not is_proof(token, self.nonce, self._proof):
                raise ConnectionError("The other side does not know the token.")
            self.is_trusted = True
        return []

    def flush(self) -> None:
        """Send what the rank takes now; never waits.

        A rank that is gone takes nothing, but what it has told is still to be received.
        """
        if self.outgoing:
            try:
                n_sent = self.connection.send(self.outgoing)
            except BlockingIOError:
                return
            except OSError:
                n_sent = len(self.outgoing)
            del self.outgoing[:n_sent]
