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
        ["best", study_id, trial]         there is a better one, of whoever
        ["trouble", text]                 the database cannot be written, or can again
        ["spilled", path]                 where what the database does not take is kept
        ["refused", study_id, number, text]    the trial that the database does not take, and
                                          never will; without a number, all of the study
        ["told", study_id, distributions, changes]    what a child process has told
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import socket
import struct
import time
from dataclasses import dataclass
from dataclasses import field
from datetime import datetime
from datetime import timedelta
from datetime import timezone
from functools import lru_cache
from typing import TYPE_CHECKING
from typing import Any

from optuna.distributions import CategoricalDistribution
from optuna.distributions import distribution_to_json
from optuna.distributions import json_to_distribution
from optuna.exceptions import DuplicatedStudyError
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial
from optuna.trial import TrialState


if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.distributions import BaseDistribution

_LENGTH = struct.Struct(">I")
_CHUNK = 1 << 18
LARGEST_FRAME = 1 << 30
NONCE_BYTES = 32


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


@dataclass(slots=True)
class Change:
    """What is new about a trial since the writer was told of it last.

    Args:
        number: The trial's number.
        identity: The database's id of the trial, where it is known: the row is there already.
        state: The name of its state.
        start: When it started, as ``utc`` gives it.
        complete: When it ended.
        params: Name, internal value and distribution as JSON; in a message, the distribution's
            index in its list of them.
        values: The objective values, if these are new.
        user: User attributes, each value as JSON.
        system: System attributes, each value as JSON.
        steps: Reported steps and values.
    """

    number: int
    identity: int | None
    state: str
    start: str | None
    complete: str | None
    params: list[tuple[str, float, Any]] = field(default_factory=list)
    values: list[float] | None = None
    user: dict[str, str] = field(default_factory=dict)
    system: dict[str, str] = field(default_factory=dict)
    steps: list[tuple[int, float]] = field(default_factory=list)

    def pack(self) -> list[Any]:
        """Return a plain list, without its empty end."""
        packed = [
            self.number, self.identity, self.state, self.start, self.complete,
            self.params, self.values, self.user, self.system, self.steps,
        ]  # fmt: skip
        while not packed[-1] and len(packed) > 5:
            packed.pop()
        return packed


def unpack_change(packed: list[Any], distributions: list[str]) -> Change:
    """Return the change that ``Change.pack`` made a list of, with distributions as JSON."""
    change = Change(*packed)
    change.params = [(name, value, distributions[place]) for name, value, place in change.params]
    return change


def utc(local: datetime | None) -> str | None:
    """Return a naive local time as the naive UTC that Optuna stores, in ISO format."""
    if local is None:
        return None
    return (local - _clock.offset(local)).isoformat(sep=" ", timespec="microseconds")


class _Clock:
    """Remembers by how much local time is ahead of UTC; it changes at full quarters of an hour."""

    def __init__(self) -> None:
        self._known = (datetime.min, datetime.min, timedelta(), time.tzname)
        self._known_in_utc = (datetime.min, datetime.min, timedelta(), False, time.tzname)

    def offset(self, local: datetime) -> timedelta:
        """Return by how much a naive local time is ahead of UTC."""
        begin, end, offset, zone = self._known
        if begin <= local < end and not local.fold and zone is time.tzname:  # new after tzset
            return offset
        offset = local - local.astimezone(timezone.utc).replace(tzinfo=None)
        if not local.fold:
            begin = _quarter(local)
            self._known = (begin, begin + timedelta(minutes=15), offset, time.tzname)
        return offset

    def local(self, universal: datetime) -> datetime:
        """Return the naive local time of a naive UTC time."""
        begin, end, offset, is_second, zone = self._known_in_utc
        if not begin <= universal < end or zone is not time.tzname:
            begin = _quarter(universal)
            aware = begin.replace(tzinfo=timezone.utc)
            naive = aware.astimezone().replace(tzinfo=None)
            offset = naive - begin
            is_second = naive.astimezone(timezone.utc) != aware  # of two, as clocks were put back
            end = begin + timedelta(minutes=15)
            self._known_in_utc = (begin, end, offset, is_second, time.tzname)
        naive = universal + offset
        return naive.replace(fold=1) if is_second else naive


def _quarter(instant: datetime) -> datetime:
    """Return the last full quarter of an hour."""
    return instant.replace(minute=instant.minute // 15 * 15, second=0, microsecond=0)


_clock = _Clock()


def local(universal: datetime | None) -> datetime | None:
    """Return the naive local time of a naive UTC time."""
    return None if universal is None else _clock.local(universal)


def pack_trial(trial: FrozenTrial) -> list[Any]:
    """Return a whole trial as a plain list."""
    return [
        trial._trial_id,
        trial.number,
        trial.state.name,
        utc(trial.datetime_start),
        utc(trial.datetime_complete),
        [
            [
                name,
                distribution.to_internal_repr(trial.params[name]),
                distribution_json(distribution),
            ]
            for name, distribution in trial.distributions.items()
        ],
        trial.values,
        trial.user_attrs,
        trial.system_attrs,
        list(trial.intermediate_values.items()),
    ]


def unpack_trial(packed: list[Any]) -> FrozenTrial:
    """Return the trial that ``pack_trial`` made a list of."""
    identity, number, state, start, complete, params, values, user, system, steps = packed
    distributions = {name: distribution_of(text) for name, _, text in params}
    return FrozenTrial(
        number=number,
        state=TrialState[state],
        value=None,
        values=values,
        datetime_start=start and local(datetime.fromisoformat(start)),
        datetime_complete=complete and local(datetime.fromisoformat(complete)),
        params={name: distributions[name].to_external_repr(value) for name, value, _ in params},
        distributions=distributions,
        user_attrs=user,
        system_attrs=system,
        intermediate_values={int(step): value for step, value in steps},
        trial_id=identity,
    )


def distribution_json(distribution: BaseDistribution) -> str:
    """Return a distribution as Optuna's JSON."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution_to_json(distribution)  # equal ones may differ: 1 == True == 1.0
    return _numerical_json(distribution)


@lru_cache(maxsize=4096)
def distribution_of(text: str) -> BaseDistribution:
    """Return the distribution that Optuna's JSON tells of."""
    return json_to_distribution(text)


@lru_cache(maxsize=4096)
def _numerical_json(distribution: BaseDistribution) -> str:
    return distribution_to_json(distribution)
