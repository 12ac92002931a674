"""Ending every rank when one of them fails."""

from __future__ import annotations

import os
import socket
import sys
import traceback
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from types import TracebackType

    from mpi4py import MPI


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
