"""A job: the MPI ranks that share a study. They agree, share a budget, and end together."""

from __future__ import annotations

import os
import pickle
import socket
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING
from typing import Any
from typing import TypeVar

from optuna_propulate.exchange.counters import SharedCounters
from optuna_propulate.exchange.joining import join
from optuna_propulate.exchange.launcher import poll


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence
    from types import TracebackType

    from mpi4py import MPI

T = TypeVar("T")

_UNLIMITED = 2**61
_CLOSED = 2**62
_STARTED, _FINISHED, _SIGNAL = 0, 1, 2  # the counters of a budget
_PROGRESS_PAUSE = 0.005  # in seconds
_TOLD_EVERY = 0.1  # in seconds, how many trials have finished


class Job:
    """Holds a duplicate of the communicator whose ranks share a study.

    Args:
        comm: The communicator; every rank of it builds a job.
        timeout: How long none of the other ranks may do so, in seconds.

    Raises:
        TimeoutError: If some rank does not in time.
    """

    def __init__(self, comm: MPI.Intracomm, timeout: float) -> None:
        join(comm, comm.Ibarrier().Test, timeout, "called create_study or load_study")
        self.comm = comm.Dup()
        self.rank, self.size = comm.rank, comm.size

    def meet(self) -> None:
        """Wait for every rank, without spinning a core; trials under way bound the wait."""
        poll(self.comm.Ibarrier().Test)

    def attempt(self, step: Callable[[], T]) -> T:
        """Take a step on every rank; if it fails on one, it fails on all of them.

        Args:
            step: What each rank does.

        Returns:
            What ``step`` returned on this rank.

        Raises:
            Exception: What ``step`` raised here, else what it raised on the lowest rank.
        """
        result, error = _outcome(step)
        self.meet()
        errors = self.comm.allgather(_portable(error))
        if error is not None:
            raise error
        for elsewhere in errors:
            if elsewhere is not None:
                raise elsewhere
        return result  # type: ignore[return-value]

    def from_root(self, step: Callable[[], T]) -> T:
        """Take a step on rank 0 only; all ranks return its result or raise its error."""
        result: Any = self.attempt(step if self.rank == 0 else _nothing)
        return self.comm.bcast(result)  # type: ignore[no-any-return]

    def share_from_root(self, step: Callable[[], Sequence[T]]) -> T:
        """Take a step on rank 0 only; each rank returns its own part of the result.

        Args:
            step: Returns a part for each rank.
        """
        result: Any = self.attempt(step if self.rank == 0 else _nothing)
        return self.comm.scatter(result)  # type: ignore[no-any-return]

    def agree(self, **values: object) -> None:
        """Check that every rank was given the same values.

        Raises:
            ValueError: On every rank, if one differs; it names the value and the ranks.
        """
        self.meet()
        everywhere = self.comm.allgather(values)
        for name in values:
            given = [there[name] for there in everywhere]
            if any(value != given[0] for value in given):
                other = next(rank for rank, value in enumerate(given) if value != given[0])
                raise ValueError(
                    f"{name} must be the same on every MPI rank, but got {given[0]!r} on rank 0 "
                    f"and {given[other]!r} on rank {other}."
                )

    def abort(self, error: BaseException) -> None:
        """Print the error with this rank, and end every rank of the job at once."""
        abort(self.comm, error)


class Budget:
    """Holds the number of trials that a job may still start, on rank 0.

    Any rank and thread claims from it by a one-sided operation. Collective: every rank builds it
    and frees it.

    Args:
        job: Whose ranks share the budget.
        n_trials: How many trials all ranks together start; ``None`` for no limit.
    """

    def __init__(self, job: Job, n_trials: int | None) -> None:
        self._limit = _UNLIMITED if n_trials is None else n_trials
        job.meet()  # what follows is collective and would spin
        self._counters = SharedCounters(job.comm, 3)
        self._lock = threading.Lock()
        self._untold, self._told_at = 0, 0.0

    def claim(self) -> bool:
        """Claim one trial; return whether there was one left."""
        return self._counters.add(_STARTED, 1) < self._limit

    def close(self) -> None:
        """Leave nothing to claim, on any rank."""
        self._counters.put(_STARTED, _CLOSED)

    def interrupt(self, number: int) -> None:
        """Leave nothing to claim, as a signal with this number was received."""
        self._counters.put(_SIGNAL, number)
        self.close()

    def interrupted_by(self) -> int:
        """Return the number of the signal that some rank received; 0 for none."""
        return self._counters.get(_SIGNAL)

    def note_finished(self) -> None:
        """Count a trial that finished; of many in a short time, rank 0 hears together."""
        with self._lock:
            self._untold += 1
            is_due = time.monotonic() >= self._told_at + _TOLD_EVERY
        if is_due:
            self.tell_finished()

    def tell_finished(self) -> None:
        """Let rank 0 know of all trials that have finished here."""
        with self._lock:
            n, self._untold, self._told_at = self._untold, 0, time.monotonic()
        if n:
            self._counters.add(_FINISHED, n)

    def n_finished(self) -> int:
        """Return how many trials have finished on all ranks."""
        return self._counters.get(_FINISHED)

    def free(self) -> None:
        """Give the counters back; collective."""
        self._counters.free()


class Progress:
    """Runs a thread that enters MPI at a bounded pause while rank 0 is busy with its objective.

    Without it, on a network without RDMA, another rank's claim would wait for rank 0 to enter
    MPI by itself.

    Args:
        comm: A communicator without messages of its own.
        tick: Called after each pause.
    """

    def __init__(self, comm: MPI.Intracomm, tick: Callable[[], None]) -> None:
        self._comm, self._tick = comm, tick
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mpi-progress", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_PROGRESS_PAUSE):
            self._comm.Iprobe()
            self._tick()


def threads_allowed() -> bool:
    """Tell whether MPI may be called from several threads at once."""
    from mpi4py import MPI

    return bool(MPI.Query_thread() == MPI.THREAD_MULTIPLE)


def abort(comm: MPI.Intracomm, error: BaseException) -> None:
    """Print the error with its rank, and end every rank of the communicator at once."""
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    print(
        f"MPI rank {comm.rank} of {comm.size} on {socket.gethostname()} failed, which ends the "
        f"job:\n{trace}",
        file=sys.stderr,
        flush=True,
    )
    comm.Abort(1)


def abort_on_uncaught(comm: MPI.Intracomm) -> None:
    """End every rank when an exception ends this one; else the others would wait for it forever.

    Replaces ``sys.excepthook``, which the interpreter calls for uncaught exceptions only. A child
    process of an objective ends alone.
    """
    process, before = os.getpid(), sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if os.getpid() == process:
            abort(comm, error)
        else:
            before(kind, error, trace)

    sys.excepthook = hook


def _nothing() -> None:
    """Leave the step to rank 0."""


def _outcome(step: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return step(), None
    except Exception as error:  # raised again on every rank by the caller
        return None, error


def _portable(error: Exception | None) -> Exception | None:
    """Return the error, or one that says the same if it cannot travel."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever an exception class of the user's may raise here
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
