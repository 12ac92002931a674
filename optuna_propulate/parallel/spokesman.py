"""One rank speaks where all ranks have the same to say."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from optuna_propulate.parallel.launch import poll


if TYPE_CHECKING:
    from mpi4py import MPI

PATIENCE = 2.0
"""How long ranks that end wait for one another, in seconds."""

_ENDS, _SPOKEN = 20_783, 20_784  # tags; nothing else of ours is sent on the users' communicator


def is_spoken(comm: MPI.Intracomm) -> bool:
    """Tell whether rank 0, which ends for a reason that it has said, speaks for this rank, too.

    Not collective: a rank that ends alone waits for ``PATIENCE``, and has to speak for itself.
    """
    request = comm.isend(None, 0, _ENDS)
    if not poll(lambda: comm.Iprobe(0, _SPOKEN), PATIENCE):
        return False
    comm.recv(source=0, tag=_SPOKEN)
    request.wait()  # rank 0 has received it
    return True


def speak_for_others(comm: MPI.Intracomm) -> None:
    """Let the ranks be silent that end with rank 0, for ``PATIENCE`` at the longest."""
    from mpi4py import MPI

    deadline, status = time.monotonic() + PATIENCE, MPI.Status()
    answers = []  # kept until they have left
    for _ in range(1, comm.size):
        left = max(0.0, deadline - time.monotonic())
        if not poll(lambda: comm.Iprobe(MPI.ANY_SOURCE, _ENDS, status), left):
            break
        comm.recv(source=status.source, tag=_ENDS)
        answers.append(comm.isend(None, status.source, _SPOKEN))
    for answer in answers:
        poll(answer.Test, PATIENCE)
