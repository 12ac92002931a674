"""How a rank shows the writer that it belongs to the job."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket


NONCE_BYTES = 32


def new_token() -> str:
    """Return a secret that lets the processes of one job in, and nobody else."""
    return secrets.token_hex(NONCE_BYTES)


def proof(token: str, nonce: bytes) -> bytes:
    """Return what shows that the sender knows the token, without telling it."""
    return hmac.new(bytes.fromhex(token), nonce, hashlib.sha256).digest()


def is_proof(token: str, nonce: bytes, given: bytes) -> bool:
    """Tell whether the sender of a proof knows the token."""
    return hmac.compare_digest(proof(token, nonce), given)


def keep_alive(connection: socket.socket) -> None:
    """Let a connection end within 15 s if the machine at its other end is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 2)):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def receive_exactly(connection: socket.socket, n: int) -> bytes:
    """Return the next ``n`` bytes; waits as long as the socket's timeout allows."""
    received = b""
    while len(received) < n:
        more = connection.recv(n - len(received))
        if not more:
            raise ConnectionError("The other side has closed the connection.")
        received += more
    return received
