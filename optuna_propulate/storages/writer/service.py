"""The writer: what alone in a job writes trials into the database.

It is started by rank 0, knows no MPI, and ends when everybody it serves has gone. As a process
of its own, which it is by default, no signal ends it before, so what the ranks have told is
committed even if all of them are killed.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Any

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from optuna_propulate.storages.wire.changes import Change
from optuna_propulate.storages.wire.changes import unpack_change
from optuna_propulate.storages.wire.handshake import keep_alive
from optuna_propulate.storages.writer.client import Client
from optuna_propulate.storages.writer.database import Database
from optuna_propulate.storages.writer.database import RefusedError
from optuna_propulate.storages.writer.jobs import StudyLockedError
from optuna_propulate.storages.writer.jobs import UndecidedError
from optuna_propulate.storages.writer.unfit import reason_of


if TYPE_CHECKING:
    from optuna_propulate.storages.writer.spill import Spill

_LONGEST_RETRY = 5.0  # in seconds, between two tries to reach the database
_LONGEST_SLEEP = 1.0  # in seconds: other jobs, and strangers that say nothing, are looked at then
_UNDECIDED_PAUSE = 0.2  # in seconds, before it is looked again whether another job is alive
_PROOF_TIMEOUT = 10.0  # in seconds, in which whoever connects has to prove that it is a rank
_MOST_STRANGERS = 128  # who connect and have not done so

_AWAY = (SQLAlchemyError, StorageInternalError, StudyLockedError, UndecidedError)
"""What is raised where the database cannot be written just now."""


@dataclass(slots=True)
class Told:
    """What a rank has told of trials.

    Args:
        client: The rank.
        sequence: The number of the message.
        study: The study's id, the number of the job's first trial in it or ``None``, and its
            counter.
        changes: The changes.
        is_spilled: Whether they are kept in a file.
    """

    client: Client
    sequence: int
    study: tuple[int, int | None, int]
    changes: list[Change]
    is_spilled: bool = False


class Writer:
    """Holds the connections of a job's ranks, and what they have told and is not written yet.

    Args:
        database: What it writes to.
        listeners: Where ranks connect.
        token: What they have to know.
        refresh_interval: How often it looks for what others have added, in seconds.
        commit_timeout: For how long it only tries again, before it writes to a file, in seconds.
        lifeline: A file descriptor that ends when rank 0's process does.
        spill: Where what the database does not take is kept.
    """

    def __init__(
        self,
        database: Database,
        listeners: list[socket.socket],
        token: str,
        refresh_interval: float,
        commit_timeout: float,
        lifeline: int,
        spill: Spill,
    ) -> None:
        self._database = database
        self._token = token
        self._refresh_interval = refresh_interval
        self._selector = selectors.DefaultSelector()
        self._clients: dict[int, Client] = {}
        self._told: list[Told] = []
        self._claims: Client | None = None  # who was asked to claim numbers last
        self._lifeline: int | None = lifeline
        self._polled = time.monotonic()
        self._pause = self._since = self._retry_at = 0.0
        self._is_away = False  # whether the ranks have been told that the database is
        self._commit_timeout = commit_timeout
        self._spill = spill
        self._undecided: list[tuple[Client, list[Any]]] = []
        self._listeners = listeners
        self._is_full = False  # whether there are no descriptors for more connections
        for listener in listeners:
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, listener)
        self._selector.register(lifeline, selectors.EVENT_READ, None)

    def run(self) -> None:
        """Serve until every rank and the process that started this one have gone."""
        while self._is_wanted():
            calls, self._undecided = self._undecided, []
            for key, events in self._selector.select(self._timeout(calls)):
                if key.data is None:
                    self._selector.unregister(key.fd)
                    self._lifeline = None
                elif isinstance(key.data, Client):
                    calls += self._serve(key.data, events)
                else:
                    self._admit(key.data)
            self._send_all()  # what was said while reading need not wait for the database
            self._write()
            for client, message in calls:
                self._answer(client, message)
            if not self._told and not self._undecided:
                self._say_trouble("")
            self._poll()
            self._broadcast(self._database.urgent)
            self._database.urgent.clear()
            self._dismiss_strangers()
            self._send_all()
        with suppress(*_AWAY):
            self._database.poll()  # numbers claimed last may still wait for their trials

    def close(self) -> None:
        """Close all connections, so that who is still there notices."""
        for client in self._clients.values():
            client.connection.close()
        for listener in self._listeners:
            listener.close()
        self._selector.close()

    def _is_wanted(self) -> bool:
        if self._lifeline is not None or self._told:
            return True
        return any(client.is_trusted for client in self._clients.values())

    def _timeout(self, undecided: list[Any]) -> float:
        now = time.monotonic()
        waits = [self._polled + self._refresh_interval - now, _LONGEST_SLEEP]
        if self._told:
            waits.append(self._retry_at - now)
        if undecided:
            waits.append(_UNDECIDED_PAUSE)
        return max(0.0, min(waits))

    def _admit(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:  # it has gone again
            return
        except OSError:  # there are too many
            self._listen_again(later=True)
            return
        if connection.family != socket.AF_UNIX:
            keep_alive(connection)
        client = Client(connection)
        self._clients[connection.fileno()] = client
        self._selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE, client)
        strangers = [client for client in self._clients.values() if not client.is_trusted]
        if len(strangers) > _MOST_STRANGERS:
            self._dismiss(min(strangers, key=lambda stranger: stranger.since))

    def _dismiss_strangers(self) -> None:
        """End connections that have not proved in time that they are a rank's."""
        latest = time.monotonic() - _PROOF_TIMEOUT
        for client in list(self._clients.values()):
            if not client.is_trusted and client.since < latest:
                self._dismiss(client)
        self._listen_again(later=False)

    def _listen_again(self, *, later: bool) -> None:
        """Listen again, or only after a pause, as there are no descriptors for more."""
        if later == self._is_full:
            return
        self._is_full = later
        for listener in self._listeners:
            if later:
                self._selector.unregister(listener)
            else:
                self._selector.register(listener, selectors.EVENT_READ, listener)

    def _serve(self, client: Client, events: int) -> list[tuple[Client, list[Any]]]:
        """Send to a rank and hear it; return what it calls for."""
        calls = []
        try:
            if events & selectors.EVENT_WRITE:
                client.flush()
            if events & selectors.EVENT_READ:
                for message in client.receive(self._token):
                    kind = message[0]
                    if kind == "trials":
                        self._hear(client, message)
                    elif kind == "numbers":
                        self._database.claimed(message[1], message[2])
                    elif kind == "closed":
                        self._database.closed(message[1], message[2])
                        self._polled = -float("inf")
                    elif kind == "claim":
                        calls.append((client, ["call", None, "claim", message[1:]]))
                    elif kind == "received":
                        client.send(["result", message[1], None])
                    elif kind == "guest":
                        client.is_guest = True
                    elif kind == "call":
                        calls.append((client, message))
                    else:
                        raise ConnectionError("The other side does not speak this protocol.")
        except BlockingIOError:
            pass
        except (OSError, ValueError, TypeError, LookupError):  # it has gone, or tells no sense
            self._dismiss(client)
        return calls

    def _hear(self, client: Client, message: list[Any]) -> None:
        """Keep what a rank tells of trials; what a child process tells goes to the ranks, too."""
        _, sequence, study_id, base, counter, distributions, packed = message
        changes = [unpack_change(one, distributions) for one in packed]
        self._told.append(Told(client, sequence, (study_id, base, counter), changes))
        if client.is_guest:
            for other in self._clients.values():
                if other.is_trusted and other is not client:
                    other.send(["told", study_id, distributions, packed])
        elif base is not None:
            client.studies.add(study_id)

    def _dismiss(self, client: Client) -> None:
        if client.connection.fileno() < 0:
            return  # it was dismissed before
        self._selector.unregister(client.connection)
        del self._clients[client.connection.fileno()]
        client.connection.close()
        if client is self._claims:
            self._database.forget_claims()

    def _send_all(self) -> None:
        for client in self._clients.values():
            if not client.outgoing and not client.is_full:
                continue
            client.flush()
            client.is_full = bool(client.outgoing)
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.is_full else 0)
            self._selector.modify(client.connection, events, client)

    def _broadcast(self, messages: list[list[Any]]) -> None:
        for message in messages:
            clients = [client for client in self._clients.values() if client.is_trusted]
            if message[0] in ("claim", "close"):
                clients = [client for client in clients if message[1] in client.studies][:1]
                self._claims = clients[0] if clients else None
                if not clients:
                    self._database.forget_claims()
            for client in clients:
                client.send(message)

    def _write(self) -> None:
        """Write what was told, in one transaction for each study, and acknowledge it."""
        if not self._told or time.monotonic() < self._retry_at:
            return
        by_study: dict[tuple[int, int | None, int], list[Told]] = {}
        for told in self._told:
            by_study.setdefault(told.study, []).append(told)
        try:
            for study, messages in by_study.items():
                changes = [change for told in messages for change in told.changes]
                news, unfit = self._database.write(*study, changes)
                self._keep_unfit(study[0], [change for change, _ in unfit])
                self._broadcast(news)
                for told in messages:
                    told.client.send(["ack", told.sequence])
                self._told = [told for told in self._told if told.study != study]
        except Exception as error:  # whatever it is, what was told is kept, and tried again
            self._put_off(error)
            return
        self._say_trouble("")
        self._pause = self._since = 0.0

    def _say_trouble(self, reason: str) -> None:
        """Tell all ranks once that the database is away, or, with ``""``, that it is back."""
        if bool(reason) != self._is_away:
            self._is_away = bool(reason)
            self._broadcast([["trouble", reason]])

    def _keep_unfit(self, study_id: int, changes: list[Change]) -> None:
        """Write trials that the database will never take to a file."""
        if changes:
            try:
                self._spill.add(self._database.name_of(study_id), changes)
            except OSError as failure:
                reason = f"a trial is not fit to be written, nor can {self._spill.path}: {failure}"
                self._broadcast([["trouble", reason]])
                return
            self._broadcast([["spilled", str(self._spill.path)]])

    def _spill_told(self) -> None:
        """Write what the database does not take to a file; it is tried all the same."""
        unspilled = [told for told in self._told if not told.is_spilled]
        for told in unspilled:
            self._spill.add(self._database.name_of(told.study[0]), told.changes)
            told.is_spilled = True
        if unspilled:
            self._broadcast([["spilled", str(self._spill.path)]])

    def _put_off(self, error: Exception) -> None:
        now = time.monotonic()
        self._since = self._since or now
        reason = reason_of(error)
        self._say_trouble(reason)
        self._pause = min(max(2 * self._pause, 0.1), _LONGEST_RETRY)
        self._retry_at = now + self._pause
        if now - self._since > self._commit_timeout:
            try:
                self._spill_told()
            except OSError as failure:  # the disk is full, perhaps
                self._broadcast([["trouble", f"{reason}; nor can {self._spill.path}: {failure}"]])
        if not self._clients and self._lifeline is None and self._pause == _LONGEST_RETRY:
            with suppress(OSError):
                self._spill_told()
            sys.exit(f"The database does not take the last trials ({reason}): {self._spill.path}")

    def _answer(self, client: Client, message: list[Any]) -> None:
        _, sequence, method, arguments = message
        if any(_is_alike(other, message) for _, other in self._undecided):
            self._undecided.append((client, message))  # another rank has just asked in vain
            return
        try:
            value, news = self._database.call(method, arguments)
        except UndecidedError as undecided:
            self._undecided.append((client, message))
            if str(undecided):
                self._say_trouble(str(undecided))
            return
        except RefusedError as refusal:
            client.send(["error", sequence, refusal.kind, str(refusal)])
            return
        if method == "begin":
            client.studies.add(arguments[0])
        client.send(["result", sequence, value])
        self._broadcast(news)

    def _poll(self) -> None:
        """Look for what others have added to the studies being written, and show that it lives."""
        with suppress(*_AWAY):
            self._database.beat()
        if time.monotonic() < self._polled + self._refresh_interval or self._told:
            return
        with suppress(*_AWAY):  # the next transaction says so
            self._broadcast(self._database.poll())
        self._polled = time.monotonic()


def _is_alike(call: list[Any], other: list[Any]) -> bool:
    """Tell whether two calls wait for the same: of those for numbers, if of the same study."""
    if call[2] == other[2] == "claim":
        return bool(call[3][0] == other[3][0])
    return call[2:] == other[2:]
