"""Topologies: how many individuals each island sends each other at a migration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence

    from numpy.typing import NDArray


def fully_connected(n_islands: int) -> NDArray[np.int64]:
    """Return the topology in which every island sends one individual to every other."""
    return np.ones((n_islands, n_islands), dtype=np.int64) - np.eye(n_islands, dtype=np.int64)


def ring(n_islands: int) -> NDArray[np.int64]:
    """Return the topology in which every island sends one individual to the next."""
    matrix = np.zeros((n_islands, n_islands), dtype=np.int64)
    if n_islands > 1:
        islands = np.arange(n_islands)
        matrix[islands, (islands + 1) % n_islands] = 1
    return matrix


def star(n_islands: int) -> NDArray[np.int64]:
    """Return the topology in which island 0 and each other island send each other one."""
    matrix = np.zeros((n_islands, n_islands), dtype=np.int64)
    matrix[0, 1:] = matrix[1:, 0] = 1
    return matrix


def unconnected(n_islands: int) -> NDArray[np.int64]:
    """Return the topology in which nobody travels."""
    return np.zeros((n_islands, n_islands), dtype=np.int64)


TOPOLOGIES: dict[str, Callable[[int], NDArray[np.int64]]] = {
    function.__name__: function for function in (fully_connected, ring, star, unconnected)
}


def resolve_topology(
    topology: str | Sequence[Sequence[int]] | NDArray[np.int64], n_islands: int
) -> NDArray[np.int64]:
    """Return the matrix of a topology, checked.

    Args:
        topology: One of the names in ``TOPOLOGIES``, or a matrix of shape
            ``(n_islands, n_islands)`` whose entry (i, j) is how many individuals island i sends
            island j at a migration.
        n_islands: The number of islands.

    Raises:
        ValueError: If the name is unknown, or the matrix has another shape, a negative or
            fractional entry, or an entry on its diagonal.
    """
    if isinstance(topology, str):
        if topology not in TOPOLOGIES:
            raise ValueError(
                f"topology must be one of {sorted(TOPOLOGIES)}, but got {topology!r}."
            )
        return TOPOLOGIES[topology](n_islands)
    matrix = np.asarray(topology)
    if matrix.shape != (n_islands, n_islands):
        raise ValueError(
            f"topology must have the shape {(n_islands, n_islands)} (islands x islands), "
            f"but got {matrix.shape}."
        )
    for (source, target), entry in np.ndenumerate(matrix):
        if not isinstance(entry, (int, np.integer, float, np.floating)) or entry != int(entry):
            raise _bad_entry(source, target, entry, "an integer")
        if entry < 0:
            raise _bad_entry(source, target, entry, "0 or more")
        if source == target and entry != 0:
            raise _bad_entry(source, target, entry, "0, as nobody travels from home to home")
    return matrix.astype(np.int64)


def _bad_entry(source: int, target: int, entry: object, allowed: str) -> ValueError:
    return ValueError(f"topology[{source}][{target}] must be {allowed}, but got {entry}.")
