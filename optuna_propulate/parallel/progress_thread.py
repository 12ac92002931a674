"""A thread that enters MPI while its rank is busy, so that others' one-sided calls are served."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from contextlib import nullcontext
from typing import TYPE_CHECKING

import optuna

from optuna_propulate.parallel.team import LocalTeam


if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from mpi4py import MPI

    from optuna_propulate.parallel.team import AnyTeam


_logger = optuna.logging.get_logger("optuna." + __name__)

_PROGRESS_PAUSE = 0.005  # in seconds


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


def mpi_progress(team: AnyTeam, tick: Callable[[], None]) -> AbstractContextManager[None]:
    """Return what keeps rank 0 in MPI; nothing on the other ranks, from whom nobody claims."""
    if team.rank != 0 or isinstance(team, LocalTeam):
        return nullcontext()
    if not team.threads_allowed:
        _logger.warning(
            "MPI grants less than MPI_THREAD_MULTIPLE: on a network without RDMA, a rank that "
            "claims a trial waits until rank 0 is between two trials."
        )
        return nullcontext()
    return Progress(team.comm, tick)
