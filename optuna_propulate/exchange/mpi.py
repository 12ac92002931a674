"""The exchange over MPI: non-blocking messages on a communicator of our own."""

from __future__ import annotations

import os
import pickle
import threading
from collections import defaultdict
from collections import deque
from functools import partial
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from optuna_propulate.exchange.launcher import poll


if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence

    from mpi4py import MPI

    from optuna_propulate.individual import Individual

_N_TAGS = 32768  # MPI guarantees the tags 0..32767


class MpiTransport:
    """Holds a duplicate of a communicator, what is on its way out, and what has come in.

    The duplication starts here and completes when every rank has built its transport; the first
    use waits for that.

    Args:
        comm: Whose ranks are the workers; every one of them builds a transport.
        timeout: How long the first use waits for the other ranks, in seconds.
    """

    def __init__(self, comm: MPI.Intracomm, timeout: float) -> None:
        self.rank, self.size = comm.rank, comm.size
        self._timeout = timeout
        self._comm, self._duplication = comm.Idup()
        self._connected = self._failed = False
        self._process = os.getpid()
        self._outgoing: deque[tuple[MPI.Request, bytes]] = deque()
        self._inboxes: defaultdict[int, list[Individual]] = defaultdict(list)
        self._counts = np.zeros(2, dtype=np.int64)  # messages sent, messages received
        self._lock = threading.RLock()

    def connect(self) -> None:
        """Wait until every rank has built its transport.

        Raises:
            TimeoutError: If some rank has not within the timeout.
        """
        if self._connected:
            return
        with self._lock:
            if self._failed or not poll(self._duplication.Test, self._timeout):
                self._failed = True
                raise TimeoutError(
                    f"Not all of the {self.size} MPI ranks built their PropulateSampler within "
                    f"{self._timeout:g} s (rank {self.rank} did). Build it on every rank, or pass "
                    "the communicator of those that do as comm=..."
                )
            self._connected = True

    def send(self, individuals: Sequence[Individual], workers: Iterable[int], tag: int) -> None:
        """Send a message to each of the workers, without waiting for any of them."""
        self.connect()
        message = pickle.dumps(individuals, protocol=pickle.HIGHEST_PROTOCOL)
        with self._lock:
            while self._outgoing and self._outgoing[0][0].Test():
                self._outgoing.popleft()
            for worker in workers:
                request = self._comm.Isend([message, self._byte], worker, tag)
                self._outgoing.append((request, message))
                self._counts[0] += 1

    def receive(self, tag: int) -> list[Individual]:
        """Return the individuals that have come in under the tag since the last call."""
        self.connect()
        with self._lock:
            self._receive_all()
            return self._inboxes.pop(tag, [])

    def settle(self) -> None:
        """Wait until every rank has called this and every message has arrived.

        The ranks sum up what they sent and received, again and again, while they receive; the
        end is when both sums agree, and are those of the round before.

        Reference:
            Mattern, Algorithms for distributed termination detection, 1987 (the four-counter
            method).
        """
        self.connect()
        before: list[int] = []
        while True:
            totals = np.zeros_like(self._counts)
            request = self._comm.Iallreduce(self._counts.copy(), totals)
            poll(partial(self._received_all_and, request))
            sent, received = totals.tolist()
            if sent == received and before == [sent, received]:
                break
            before = [sent, received]
        poll(lambda: all(request.Test() for request, _ in self._outgoing))
        self._outgoing.clear()

    def leave(self) -> None:
        """Settle at the end of the process, since MPI's finalisation waits for all ranks anyway.

        Does nothing in a forked child, after a failed ``connect`` or once MPI is finalised.
        """
        from mpi4py import MPI

        if self._failed or os.getpid() != self._process or MPI.Is_finalized():
            return
        if self._connected or poll(self._duplication.Test, self._timeout):
            self._connected = True
            self.settle()

    @property
    def _byte(self) -> MPI.Datatype:
        from mpi4py import MPI

        return MPI.BYTE

    def _received_all_and(self, request: MPI.Request) -> bool:
        with self._lock:
            self._receive_all()
        return request.Test()

    def _receive_all(self) -> None:
        from mpi4py import MPI

        status = MPI.Status()
        while (message := self._comm.Improbe(status=status)) is not None:
            content = bytearray(status.Get_count(MPI.BYTE))
            message.Recv([content, MPI.BYTE])
            self._counts[1] += 1
            self._inboxes[status.Get_tag()].extend(pickle.loads(content))


class MpiExchange:
    """Carries individuals of one study over a transport that several studies may share.

    Args:
        transport: The transport.
        channel: The study's position in the order in which this job's studies were first used,
            the same on every rank.
    """

    def __init__(self, transport: MpiTransport, channel: int) -> None:
        self._transport = transport
        self._tag = channel % _N_TAGS

    def send(self, individuals: Sequence[Individual], workers: Iterable[int]) -> None:
        """Send copies of the individuals to each of the workers; never waits for them."""
        self._transport.send(individuals, workers, self._tag)

    def receive(self) -> list[Individual]:
        """Return what has arrived since the last call; never waits."""
        return self._transport.receive(self._tag)

    def settle(self) -> None:
        """Wait until every worker has called this and all that was sent has arrived."""
        self._transport.settle()

    def __reduce__(self) -> Any:
        raise TypeError("An exchange over MPI cannot be pickled.")
