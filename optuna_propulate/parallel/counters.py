"""Counters: numbers that the threads of a process, or all ranks of a job, count up together."""

from __future__ import annotations

import atexit
import os
import threading
from collections import defaultdict
from typing import TYPE_CHECKING
from typing import Protocol

import numpy as np

from optuna_propulate.parallel.launch import poll


if TYPE_CHECKING:
    from mpi4py import MPI


class Counters(Protocol):
    """Holds numbered counters that start at 0."""

    def add(self, counter: int, amount: int) -> int:
        """Add to a counter; return what it was before. Never waits for another worker."""
        ...

    def put(self, counter: int, value: int) -> None:
        """Set a counter."""
        ...

    def lower(self, counter: int, value: int) -> int:
        """Set a counter to a value that is less than it; return what it was before."""
        ...

    def get(self, counter: int) -> int:
        """Return what a counter is."""
        ...

    def free(self) -> None:
        """Give the counters back; collective."""
        ...


class LocalCounters:
    """Holds counters for the threads of one process."""

    def __init__(self) -> None:
        self._values: defaultdict[int, int] = defaultdict(int)
        self._lock = threading.Lock()

    def add(self, counter: int, amount: int) -> int:
        """Add to a counter; return what it was before."""
        with self._lock:
            before = self._values[counter]
            self._values[counter] = before + amount
        return before

    def put(self, counter: int, value: int) -> None:
        """Set a counter."""
        with self._lock:
            self._values[counter] = value

    def lower(self, counter: int, value: int) -> int:
        """Set a counter to a value that is less than it; return what it was before."""
        with self._lock:
            before = self._values[counter]
            self._values[counter] = min(before, value)
        return before

    def get(self, counter: int) -> int:
        """Return what a counter is."""
        return self.add(counter, 0)

    def free(self) -> None:
        """Do nothing: they are memory of this process."""


class SharedCounters:
    """Holds counters on rank 0, changed by one-sided operations from any rank and thread.

    Collective: every rank builds it, and may free it.

    Args:
        comm: The ranks.
        n: How many counters there are.
    """

    def __init__(self, comm: MPI.Intracomm, n: int) -> None:
        from mpi4py import MPI

        self._sum, self._replace, self._no_op = MPI.SUM, MPI.REPLACE, MPI.NO_OP
        self._min = MPI.MIN
        self._comm, self._n = comm, n
        width = np.dtype(np.int64).itemsize
        self._window = MPI.Win.Allocate(n * width if comm.rank == 0 else 0, width, comm=comm)
        self._window.Lock_all()
        self._lock = threading.Lock()  # guards the window, and the two buffers
        self._given, self._found = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
        if comm.rank == 0:
            for counter in range(n):
                self.put(counter, 0)
        comm.Barrier()

    def add(self, counter: int, amount: int) -> int:
        """Add to a counter; return what it was before.

        Raises:
            ValueError: If there are fewer counters.
        """
        if counter >= self._n:
            raise ValueError(f"One job can write at most {self._n} studies through one storage.")
        return self._fetch(counter, amount, self._sum)

    def put(self, counter: int, value: int) -> None:
        """Set a counter."""
        self._fetch(counter, value, self._replace)

    def lower(self, counter: int, value: int) -> int:
        """Set a counter to a value that is less than it; return what it was before."""
        return self._fetch(counter, value, self._min)

    def get(self, counter: int) -> int:
        """Return what a counter is."""
        return self._fetch(counter, 0, self._no_op)

    def free(self) -> None:
        """Give the counters back; collective. Waits for the other ranks, without spinning."""
        poll(self._comm.Ibarrier().Test)
        self._window.Unlock_all()
        self._window.Free()

    def free_at_exit(self) -> None:
        """Give the counters back when the process ends; collective, as MPI's own end is."""
        atexit.register(self._leave, os.getpid())

    def _leave(self, process: int) -> None:
        from mpi4py import MPI

        if os.getpid() == process and not MPI.Is_finalized():
            self.free()

    def _fetch(self, counter: int, value: int, operation: MPI.Op) -> int:
        with self._lock:
            self._given[0] = value
            self._window.Fetch_and_op(self._given, self._found, 0, counter, operation)
            self._window.Flush(0)
            return int(self._found[0])
