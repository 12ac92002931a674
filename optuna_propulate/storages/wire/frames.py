"""What ranks and the writer say to each other: frames of JSON, and trials as plain lists.

A frame is its length in four bytes, most significant first, and as many bytes of JSON. Nothing
that is received is evaluated or unpickled. Messages are lists that begin with their kind::

    rank to writer
        ["trials", sequence, study_id, base, counter, distributions, changes]   answered by "ack";
                                          without a base, they are of trials that have rows
        ["call", sequence, method, arguments]                     answered by "result" or "error"
        ["received", sequence]            answered by "result" at once: what came before is there
        ["numbers", study_id, numbers]                            answers "claim"
        ["guest"]                         the sender is a child process of a rank
    writer to rank
        ["ack", sequence]                 what came with it is committed
        ["result", sequence, value]
        ["error", sequence, class, text]
        ["claim", study_id, n]            claim n numbers for trials that others added
        ["waiting", study_id, {id: number}]    trials that anybody may take up
        ["taken", study_id, id]           one of these is taken
        ["best", study_id, trial]         there is a better one, whoever found it
        ["trouble", text]                 the database cannot be written, or can again
        ["spilled", path]                 where what the database does not take is kept
        ["refused", study_id, number, text]    the trial that the database does not take, and
                                          never will; without a number, all of the study
        ["told", study_id, distributions, changes]    what a child process has told
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING
from typing import Any

from optuna.exceptions import DuplicatedStudyError
from optuna.exceptions import StorageInternalError


if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator


_LENGTH = struct.Struct(">I")


_CHUNK = 1 << 18


LARGEST_FRAME = 1 << 30


def frame(message: list[Any]) -> bytes:
    """Return a message as a frame."""
    content = json.dumps(message, separators=(",", ":")).encode()
    if len(content) > LARGEST_FRAME:
        raise ValueError(f"A message of {len(content)} bytes is too large for the writer.")
    return _LENGTH.pack(len(content)) + content


def content_of(content: bytes) -> list[Any]:
    """Return the message that ``frame`` made a frame of."""
    return list(json.loads(content[_LENGTH.size :]))


class FrameReader:
    """Holds what has come in over a socket and is no whole frame yet."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def read(self, connection: socket.socket) -> Iterator[list[Any]]:
        """Read what is there; yield the messages that are complete.

        Raises:
            ConnectionError: If the other side has closed the connection, or sent no frame.
        """
        received = connection.recv(_CHUNK)
        if not received:
            raise ConnectionError("The other side has closed the connection.")
        self._buffer += received
        position = 0
        while len(self._buffer) - position >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, position)
            if length > LARGEST_FRAME:
                raise ConnectionError("The other side does not speak this protocol.")
            end = position + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            content = self._buffer[position + _LENGTH.size : end]
            position = end
            try:
                yield json.loads(content)
            except ValueError as error:
                raise ConnectionError("The other side does not speak this protocol.") from error
        del self._buffer[:position]


def error_of(kind: str, text: str) -> Exception:
    """Return the exception that the writer answered with, by the name of its class."""
    known = (KeyError, ValueError, RuntimeError, DuplicatedStudyError, StorageInternalError)
    return next((error for error in known if error.__name__ == kind), StorageInternalError)(text)
