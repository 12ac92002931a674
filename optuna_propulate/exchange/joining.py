"""Joining: ranks wait for each other, for as long as more of them come, and say who did not."""

from __future__ import annotations

import time
import zlib
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from optuna_propulate.exchange.launcher import poll


if TYPE_CHECKING:
    from collections.abc import Callable

    from mpi4py import MPI

_FIRST_TAG, _N_TAGS = 32000, 700  # MPI guarantees the tags 0..32767
_LISTEN = 5.0  # in seconds, to the ranks that answer
_MOST_NAMED = 10


def join(comm: MPI.Intracomm, done: Callable[[], bool], timeout: float, call: str) -> None:
    """Wait until every rank has made the same call.

    Ranks come one after the other where many are started on few cores, or from a slow file
    system. So the timeout counts from the last one that came. Who has come is asked only once the
    timeout is over; before, no message is sent.

    Args:
        comm: The ranks.
        done: Tells whether all have made the call, by a collective operation that has begun here.
        timeout: How long nobody may come, in seconds.
        call: What every rank has to do, for the message: ``"called create_study"``.

    Raises:
        TimeoutError: If nobody came for so long; it names the ranks that are missing.
    """
    roll = _Roll(comm, zlib.crc32(call.encode()) % _N_TAGS + _FIRST_TAG)

    def is_done() -> bool:
        roll.answer()
        return done()

    deadline = time.monotonic() + timeout
    while not poll(is_done, deadline - time.monotonic()):
        if not roll.was_called:
            roll.call()
            deadline = time.monotonic() + min(timeout, _LISTEN)
        elif time.monotonic() < roll.last_came + timeout:
            deadline = roll.last_came + timeout
        else:
            raise TimeoutError(
                f"Not all of the {comm.size} MPI ranks {call} (rank {comm.rank} did): for "
                f"{timeout:g} s nobody came, and {_shown(roll.missing)} missing."
            )
    roll.close()


class _Roll:
    """Holds who has come, as far as they have said so, each to each.

    Args:
        comm: The ranks.
        tag: Of their messages: for how long the sender has been here, in seconds.
    """

    def __init__(self, comm: MPI.Intracomm, tag: int) -> None:
        self._comm, self._tag = comm, tag
        self._came_at = {comm.rank: time.monotonic()}
        self._told: dict[int, tuple[Any, Any]] = {}  # requests, and what they send
        self._n_heard = 0
        self.was_called = False

    @property
    def last_came(self) -> float:
        """When the last rank came, on the clock ``time.monotonic``."""
        return max(self._came_at.values())

    @property
    def missing(self) -> list[int]:
        """The ranks that nothing was heard of."""
        return [rank for rank in range(self._comm.size) if rank not in self._came_at]

    def call(self) -> None:
        """Tell all ranks that this one is here; those that are answer."""
        self.was_called = True
        for rank in range(self._comm.size):
            self._tell(rank)

    def answer(self) -> None:
        """Hear who is here, and tell them that this rank is, too."""
        for rank in self._hear():
            self._tell(rank)

    def close(self) -> None:
        """Leave no message in the communicator; collective, once all are here."""
        sent, n_heard = np.zeros(self._comm.size, np.int64), np.zeros(1, np.int64)
        sent[list(self._told)] = 1
        poll(self._comm.Ireduce_scatter_block(sent, n_heard).Test)
        while self._n_heard < n_heard[0]:
            self._hear()
        for request, _ in self._told.values():
            poll(request.Test)

    def _hear(self) -> list[int]:
        """Receive what has come in; return who sent it."""
        from mpi4py import MPI

        status, seconds, heard = MPI.Status(), np.zeros(1), []
        while self._comm.Iprobe(tag=self._tag, status=status):
            rank = status.Get_source()
            self._comm.Recv(seconds, rank, self._tag)
            self._came_at.setdefault(rank, time.monotonic() - float(seconds[0]))
            heard.append(rank)
        self._n_heard += len(heard)
        return heard

    def _tell(self, rank: int) -> None:
        if rank != self._comm.rank and rank not in self._told:
            seconds = np.array([time.monotonic() - self._came_at[self._comm.rank]])
            self._told[rank] = self._comm.Isend(seconds, rank, self._tag), seconds


def _shown(ranks: list[int]) -> str:
    named = ", ".join(map(str, ranks[:_MOST_NAMED]))
    if len(ranks) > _MOST_NAMED:
        return f"{len(ranks)} of them ({named}, ...) are"
    return f"rank {named} is" if len(ranks) == 1 else f"the ranks {named} are"
