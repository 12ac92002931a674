"""The exchange over MPI: non-blocking messages on a communicator of our own."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import defaultdict
from collections import deque
from functools import partial
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from optuna_propulate.exchange.base import Workers
from optuna_propulate.exchange.codec import decode
from optuna_propulate.exchange.codec import encode
from optuna_propulate.parallel.launch import poll


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Mapping
    from collections.abc import Sequence

    from mpi4py import MPI

    from optuna_propulate.exchange.base import Message
    from optuna_propulate.exchange.base import Migrants
    from optuna_propulate.exchange.base import News


_N_TAGS = 32768  # MPI guarantees the tags 0..32767


class MpiTransport:
    """Holds a duplicate of a communicator, what is on its way out, and what has come in.

    The duplication starts here and completes when every rank has built its transport; the first
    use waits for that.

    Args:
        comm: Whose ranks are the workers; every one of them builds a transport.
        timeout: How long the first use waits for the other ranks, in seconds.
        settings: What has to be the same on every rank, by its name.
    """

    def __init__(
        self, comm: MPI.Intracomm, timeout: float, settings: Mapping[str, str] | None = None
    ) -> None:
        self.rank, self.size = comm.rank, comm.size
        self._given, self._timeout = comm, timeout
        self._comm, self._duplication = comm.Idup()
        self._settings = settings or {}
        self._digests = np.array([_digest(value) for value in self._settings.values()], np.int64)
        self._all_digests = np.zeros((self.size, len(self._digests)), np.int64)
        self._comparison = comm.Iallgather(self._digests, self._all_digests)
        self._connected = False
        self._failure: Exception | None = None  # why it never will be
        self._process = os.getpid()
        self._outgoing: deque[tuple[MPI.Request, bytes]] = deque()
        self._inboxes: defaultdict[int, list[Message]] = defaultdict(list)
        self._counts = np.zeros(2, dtype=np.int64)  # messages sent, messages received
        self._lock = threading.RLock()

    def connect(self) -> None:
        """Wait until every rank has built its transport.

        Raises:
            TimeoutError: If some rank has not within the timeout.
            ValueError: On every rank, if a setting differs on some of them.
        """
        if self._connected:
            return
        with self._lock:
            if self._failure is not None:
                raise self._failure
            try:
                self._complete_all()
                self._compare()
            except (TimeoutError, ValueError) as error:
                self._failure = error
                raise
            self._connected = True

    def has_ranks_of(self, comm: MPI.Intracomm) -> bool:
        """Tell whether a communicator has the same ranks in the same order."""
        from mpi4py import MPI

        return MPI.Comm.Compare(self._given, comm) in (MPI.IDENT, MPI.CONGRUENT)

    def send(self, message: Message, workers: Iterable[int], tag: int) -> None:
        """Send a message to each of the workers, without waiting for any of them."""
        self.connect()
        content = encode(message)
        with self._lock:
            for worker in workers:
                request = self._comm.Isend([content, self._byte], worker, tag)
                self._outgoing.append((request, content))
                self._counts[0] += 1
                self._free(2)

    def receive(self, tag: int) -> list[Message]:
        """Return the messages that have come in under the tag since the last call."""
        self.connect()
        with self._lock:
            self._receive_all()
            return self._inboxes.pop(tag, [])

    def drain(self, take_in: Callable[[], None]) -> None:
        """Wait until every rank has called this and every message has been taken in.

        The ranks sum up what they sent and received, again and again, while they receive; the
        end is when both sums agree, and are those of the round before.

        Args:
            take_in: Called again and again; receives what has come in, and may send.

        Reference:
            Mattern, Algorithms for distributed termination detection, 1987 (the four-counter
            method).
        """
        self.connect()
        before: list[int] = []
        while True:
            with self._lock:
                self._receive_all()
            take_in()
            totals = np.zeros_like(self._counts)
            request = self._comm.Iallreduce(self._counts.copy(), totals)
            poll(partial(self._received_all_and, request))
            sent, received = totals.tolist()
            if sent == received and before == [sent, received]:
                break
            before = [sent, received]
        poll(self._all_sent)

    def leave(self) -> None:
        """Settle at the end of the process, since MPI's finalisation waits for all ranks anyway.

        Does nothing in a forked child, after a failed ``connect`` or once MPI is finalised.
        """
        from mpi4py import MPI

        if self._failure is not None or os.getpid() != self._process or MPI.Is_finalized():
            return
        if self._connected or poll(self._complete, self._timeout):
            self._connected = True
            self.drain(_ignore)

    @property
    def _byte(self) -> MPI.Datatype:
        from mpi4py import MPI

        return MPI.BYTE

    def _complete_all(self) -> None:
        # Not by ``join``: the other ranks have built theirs, and may not use them for hours.
        if not poll(self._complete, self._timeout):
            raise TimeoutError(
                f"Not all of the {self.size} MPI ranks built their PropulateSampler within "
                f"{self._timeout:g} s (rank {self.rank} did). Build it on every rank, or pass "
                "the communicator of those that do as comm=..."
            )

    def _complete(self) -> bool:
        return self._duplication.Test() and self._comparison.Test()

    def _compare(self) -> None:
        for (name, value), digests in zip(
            self._settings.items(), self._all_digests.T.tolist(), strict=True
        ):
            if len(set(digests)) > 1:
                alike = [rank for rank in range(self.size) if digests[rank] == digests[self.rank]]
                raise ValueError(
                    f"{name} must be the same on every MPI rank, but {value} was given on the "
                    f"ranks {alike} only."
                )

    def _free(self, n: int) -> None:
        """Let go of up to ``n`` messages that are sent; a slow receiver's do not hold up others.

        Two for each message sent go round the whole queue, so its length follows what is on the
        way, at a constant cost.
        """
        for _ in range(min(n, len(self._outgoing))):
            request, content = self._outgoing.popleft()
            if not request.Test():
                self._outgoing.append((request, content))

    def _all_sent(self) -> bool:
        self._free(len(self._outgoing))
        return not self._outgoing

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
            self._inboxes[status.Get_tag()].append(decode(content))


class MpiExchange(Workers):
    """Carries messages of one study over a transport that several studies may share.

    Args:
        transport: The transport; its ranks are the workers.
        islands: The workers of each island.
        channel: The study's position in the order in which this job's studies were first used,
            the same on every rank.
    """

    def __init__(self, transport: MpiTransport, islands: Sequence[range], channel: int) -> None:
        super().__init__(islands, transport.rank)
        self._transport = transport
        self._tag = channel % _N_TAGS

    def publish(self, news: News) -> None:
        """Tell all peers on this worker's island; never waits for them."""
        self._transport.send(news, self.peers, self._tag)

    def dispatch(self, migrants: Migrants, worker: int) -> None:
        """Send migrants to a worker of another island; never waits for it."""
        self._transport.send(migrants, [worker], self._tag)

    def receive(self) -> list[Message]:
        """Return what has arrived since the last call; never waits."""
        return self._transport.receive(self._tag)

    def drain(self, take_in: Callable[[], None]) -> None:
        """Wait until every worker has called this and all that was sent has been taken in."""
        self._transport.drain(take_in)

    def __reduce__(self) -> Any:
        raise TypeError("An exchange over MPI cannot be pickled.")


def _digest(value: str) -> int:
    """Return 63 bits that tell values apart."""
    return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "big") >> 1


def _ignore() -> None:
    """Take in nothing: the process ends."""
