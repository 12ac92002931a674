"""Devices: which accelerator a rank trains on."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

from optuna_propulate.parallel.joining import join
from optuna_propulate.parallel.launch import comm_timeout
from optuna_propulate.parallel.launch import communicator


if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from mpi4py import MPI

_ACCELERATORS = ("auto", "cpu", "gpu")


def device_index(local_rank: int, local_size: int, n_devices: int) -> int | None:
    """Return the index of a rank's GPU among those it sees.

    Args:
        local_rank: The rank's position among the ranks of its node that see the same GPUs.
        local_size: How many these are, at least 1.
        n_devices: How many GPUs they see.

    Returns:
        The index, or ``None`` without a GPU. Ranks share GPUs evenly if there are fewer.

    Raises:
        ValueError: If ``local_rank`` is not in [0, ``local_size``) or ``n_devices`` is negative.
    """
    if not 0 <= local_rank < local_size:
        raise ValueError(f"local_rank must be in [0, {local_size}), but got {local_rank}.")
    if n_devices < 0:
        raise ValueError(f"n_devices must not be negative, but got {n_devices}.")
    return local_rank % n_devices if n_devices else None


def threads_for_rank(local_rank: int, cores: Sequence[frozenset[int]]) -> int:
    """Return a rank's share of its node's cores, at least 1.

    Args:
        local_rank: The rank's position on its node.
        cores: For each rank of the node, the cores that it may run on.
    """
    mine = cores[local_rank]
    n_sharers = sum(1 for theirs in cores if theirs & mine)
    return max(1, len(mine) // max(1, n_sharers))


def device_for_rank(
    comm: MPI.Intracomm | None = None, *, accelerator: str = "auto"
) -> torch.device:
    """Return the device that this rank trains on; collective, so call it before ``optimize``.

    A rank takes the GPU numbered by its place among the ranks of its node that see the same
    GPUs, modulo their number; ``CUDA_VISIBLE_DEVICES`` and one GPU per Slurm task are respected.
    On the CPU, the node's cores are shared out among its ranks by ``torch.set_num_threads``.

    Args:
        comm: The ranks to map; ``None`` for ``MPI.COMM_WORLD`` under mpirun.
        accelerator: ``"auto"`` for a GPU where there is one, ``"cpu"`` or ``"gpu"``.

    Raises:
        RuntimeError: If ``accelerator`` is ``"gpu"`` and some rank of this node sees none.
        TimeoutError: If ranks are missing a minute after the last one called this (or what the
            environment variable ``OPTUNA_PROPULATE_COMM_TIMEOUT`` says).
        ValueError: If ``accelerator`` is unknown.
    """
    import torch

    if accelerator not in _ACCELERATORS:
        raise ValueError(f"accelerator must be one of {_ACCELERATORS}, but got {accelerator!r}.")
    gpus = () if accelerator == "cpu" else _visible_gpus()
    local_rank, node = _gather_on_node((gpus, _usable_cores()), communicator(comm))
    blind = [rank for rank, (theirs, _) in enumerate(node) if not theirs]
    if accelerator == "gpu" and blind:
        raise RuntimeError(
            'accelerator="gpu" was asked for, but the ranks '
            f"{blind} of the {len(node)} on this node see no GPU."
        )
    peers = [rank for rank, (theirs, _) in enumerate(node) if theirs == gpus]
    place = peers.index(local_rank)
    index = device_index(place, len(peers), len(gpus))
    if index is None:
        torch.set_num_threads(threads_for_rank(local_rank, [cores for _, cores in node]))
        return torch.device("cpu")
    if len(peers) > len(gpus) and place == 0:
        warnings.warn(
            f"{len(peers)} ranks of this node share {len(gpus)} GPU(s).",
            RuntimeWarning,
            stacklevel=2,
        )
    return torch.device("cuda", index)


_Facts = tuple[tuple[str, ...], frozenset[int]]


def _gather_on_node(facts: _Facts, comm: MPI.Intracomm | None) -> tuple[int, list[_Facts]]:
    """Return this rank's position on its node, and the facts of all ranks of the node."""
    if comm is None:
        return 0, [facts]
    from mpi4py import MPI

    join(comm, comm.Ibarrier().Test, comm_timeout(), "called device_for_rank")
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    try:
        return node.rank, node.allgather(facts)
    finally:
        node.Free()


def _visible_gpus() -> tuple[str, ...]:
    """Return the identities of the GPUs that this process sees, in CUDA's order."""
    import torch

    return tuple(
        str(torch.cuda.get_device_properties(index).uuid)
        for index in range(torch.cuda.device_count())
    )


def _usable_cores() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))  # macOS and Windows bind no processes
