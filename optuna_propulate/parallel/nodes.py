"""Which ranks share a compute node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna_propulate.parallel.joining import join


if TYPE_CHECKING:
    from mpi4py import MPI


def nodes_of(comm: MPI.Intracomm, timeout: float) -> list[int]:
    """Return the compute node of each rank, as the lowest rank on it; collective.

    Args:
        comm: The ranks.
        timeout: How long none of them may come to call this, in seconds.

    Raises:
        TimeoutError: If some rank has not in time.
    """
    from mpi4py import MPI

    join(comm, comm.Ibarrier().Test, timeout, "built a PropulateSampler with islands='node'")
    node = comm.Split_type(MPI.COMM_TYPE_SHARED, key=comm.rank)
    lowest = node.bcast(comm.rank)
    node.Free()
    return comm.allgather(lowest)
