"""Joining: ranks wait for each other, for as long as more of them come, and say who did not."""

from __future__ import annotations

import time
import zlib
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from optuna_propulate.parallel.launch import poll


if TYPE_CHECKING:
    from collections.abc import Callable

    from mpi4py import MPI

_FIRST_TAG, _N_TAGS = 32000, 700  # MPI guarantees the tags 0..32767
_LISTEN = 5.0  # in seconds: how long the ranks that are here may take to answer
_MOST_NAMED = 10


def join(comm: MPI.Intracomm, done: Callable[[], bool], timeout: float, call: str) -> None:
    """Wait until every rank is in the same call; collective.

    Ranks come one after the other where many are started on few cores, or from a slow file
    system. So the timeout counts from the last one that came. Who has come is asked only once the
    timeout is over for this rank; before, none sends a message of its own.

    Args:
        comm: The ranks.
        done: Tells whether all are in the call, by a collective operation that has begun here.
        timeout: How long nobody may come, in seconds.
        call: What every rank has to do, for the message: ``"called create_study"``.

    Raises:
        TimeoutError: If nobody came for so long; it names the ranks that are missing. Also on a
            rank that comes after the others have given up.
    """
    roll = _Roll(comm, zlib.crc32(call.encode()) % _N_TAGS + _FIRST_TAG)

    def is_done() -> bool:
        roll.answer()
        return done()

    def wait_until(deadline: float) -> bool:
        return poll(is_done, max(0.0, deadline - time.monotonic()))

    if not wait_until(roll.last_came + timeout):
        roll.call()
        is_over = wait_until(time.monotonic() + min(timeout, _LISTEN))
        while not is_over:
            deadline = roll.last_came + timeout
            if time.monotonic() >= deadline:
                raise TimeoutError(
                    f"Not all of the {comm.size} MPI ranks {call} (rank {comm.rank} did): for "
                    f"{timeout:g} s nobody came; missing: {_shown(roll.missing)}."
                )
            is_over = wait_until(deadline)
    if not roll.close(timeout):
        raise TimeoutError(
            f"Rank {comm.rank} of {comm.size} came too late: the others have given up, as not all "
            f"MPI ranks {call}."
        )


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
        for rank in range(self._comm.size):
            self._greet(rank)

    def answer(self) -> None:
        """Hear who is here, and tell them that this rank is, too."""
        for rank in self._hear():
            self._greet(rank)

    def close(self, timeout: float) -> bool:
        """Leave no message in the communicator; collective, once all are here.

        Every rank learns how many messages it was sent, and receives those that it has not yet.

        Returns:
            Whether all ranks did so within the timeout, in seconds.
        """
        sent, n_sent_here = np.zeros(self._comm.size, np.int64), np.zeros(1, np.int64)
        sent[list(self._told)] = 1
        if not poll(self._comm.Ireduce_scatter_block(sent, n_sent_here).Test, timeout):
            return False

        def is_empty() -> bool:
            self._hear()
            are_sent = [request.Test() for request, _ in self._told.values()]
            return self._n_heard >= n_sent_here[0] and all(are_sent)

        return poll(is_empty, timeout)

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

    def _greet(self, rank: int) -> None:
        if rank != self._comm.rank and rank not in self._told:
            seconds = np.array([time.monotonic() - self._came_at[self._comm.rank]])
            self._told[rank] = self._comm.Isend(seconds, rank, self._tag), seconds


def _shown(ranks: list[int]) -> str:
    named = ", ".join(map(str, ranks[:_MOST_NAMED]))
    if not ranks:
        return "none of them"
    if len(ranks) > _MOST_NAMED:
        return f"{len(ranks)} of them ({named}, ...)"
    return f"rank {named}" if len(ranks) == 1 else f"the ranks {named}"
