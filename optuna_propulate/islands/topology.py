"""Topologies: how many individuals each island sends each other at a migration.

A topology is a function from the number of islands to an integer matrix of shape
``(n_islands, n_islands)``; entry (i, j) is how many individuals go from island i to island j.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING
from typing import Any
from typing import TypeAlias

import numpy as np


if TYPE_CHECKING:
    from numpy.typing import NDArray

Topology: TypeAlias = "str | Sequence[Sequence[int]] | NDArray[np.int64] | Callable[[int], Any]"
"""A name in ``TOPOLOGIES``, a matrix, or a function from the number of islands to a matrix."""


def unconnected(n_islands: int) -> NDArray[np.int64]:
    """Return the topology in which nobody travels."""
    return np.zeros((n_islands, n_islands), dtype=np.int64)


def fully_connected(n_islands: int) -> NDArray[np.int64]:
    """Return the topology in which every island sends one individual to every other."""
    return np.ones((n_islands, n_islands), dtype=np.int64) - np.eye(n_islands, dtype=np.int64)


def ring(n_islands: int, *, two_way: bool = False) -> NDArray[np.int64]:
    """Return the topology in which every island sends one individual to the next.

    Args:
        n_islands: The number of islands.
        two_way: Whether it also sends one to the island before.
    """
    forth = np.roll(np.eye(n_islands, dtype=np.int64), 1, axis=1)
    return _without_loops(forth | forth.T if two_way else forth)


def star(n_islands: int) -> NDArray[np.int64]:
    """Return the topology in which island 0 and each other island send each other one."""
    matrix = unconnected(n_islands)
    matrix[0, 1:] = matrix[1:, 0] = 1
    return matrix


def torus(n_islands: int) -> NDArray[np.int64]:
    """Return the topology of a rectangular grid whose edges meet; neighbours send each other one.

    The grid is as square as the number of islands allows, and numbered row by row; a prime number
    of islands gives the two-way ring.
    """
    n_rows = max(n for n in range(1, n_islands + 1) if n_islands % n == 0 and n * n <= n_islands)
    rows, columns = np.divmod(np.arange(n_islands), n_islands // n_rows)
    matrix = unconnected(n_islands)
    for row_step, column_step in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        n_columns = n_islands // n_rows
        neighbours = (rows + row_step) % n_rows * n_columns + (columns + column_step) % n_columns
        matrix[np.arange(n_islands), neighbours] = 1
    return _without_loops(matrix)


def random_regular(k: int, seed: int) -> Callable[[int], NDArray[np.int64]]:
    """Return a topology in which every island exchanges one with each of ``k`` others at random.

    From ``k=2`` on, every island can be reached from every other.

    Args:
        k: How many neighbours each island has; below the number of islands, their product even.
        seed: The same seed gives the same neighbours, on every rank.

    Returns:
        A function from the number of islands to the matrix; it raises ``ValueError`` for a
        number of islands that does not allow ``k``.

    Reference:
        Steger and Wormald, Generating random regular graphs quickly, 1999.
    """

    def matrix(n_islands: int) -> NDArray[np.int64]:
        import networkx

        if not 0 <= k < n_islands or k * n_islands % 2:
            raise ValueError(
                "random_regular needs k below the number of islands and an even product of the "
                f"two, but got k={k} and {n_islands} islands."
            )
        random = Random(seed)
        while True:
            graph = networkx.random_regular_graph(k, n_islands, seed=random)
            if k < 2 or networkx.is_connected(graph):
                ordered = networkx.to_numpy_array(graph, nodelist=range(n_islands), dtype=np.int64)
                return np.asarray(ordered)

    return matrix


TOPOLOGIES: dict[str, Callable[[int], NDArray[np.int64]]] = {
    "fully_connected": fully_connected,
    "ring": ring,
    "star": star,
    "torus": torus,
    "two_way_ring": partial(ring, two_way=True),
    "unconnected": unconnected,
}


_WORDS = {
    "unconnected": "nobody travels",
    "fully_connected": "each sends one to every other",
    "ring": "each sends one to the next",
    "two_way_ring": "each sends one to both its neighbours",
    "star": "island 0 sends one to each other, and each of them one back",
    "torus": "each sends one to its neighbours on a torus",
}
_MOST_TOLD = 8  # islands


def in_words(matrix: NDArray[np.int64]) -> str:
    """Return who sends how many to whom.

    Args:
        matrix: Shape ``(n_islands, n_islands)``.
    """
    n = len(matrix)
    if n == 2 and np.array_equal(matrix, ring(2)):
        return "each sends one to the other"
    for name, words in _WORDS.items():
        if np.array_equal(matrix, TOPOLOGIES[name](n)):
            return words
    if n > _MOST_TOLD:
        return f"{np.count_nonzero(matrix)} ways, up to {matrix.max()} at a time"
    return "; ".join(
        f"{origin} sends "
        + ", ".join(f"{row[target]} to {target}" for target in np.flatnonzero(row).tolist())
        for origin, row in enumerate(matrix)
        if row.any()
    )


def resolve_topology(topology: Topology, n_islands: int) -> NDArray[np.int64]:
    """Return the matrix of a topology, checked.

    Args:
        topology: A name in ``TOPOLOGIES``; a matrix of shape ``(n_islands, n_islands)``; or a
            function that is called with ``n_islands`` and returns one.
        n_islands: The number of islands.

    Raises:
        TypeError: If it is none of these.
        ValueError: If the name is unknown, or the matrix has another shape, a negative or
            fractional entry, or an entry on its diagonal.
    """
    if isinstance(topology, str):
        if topology not in TOPOLOGIES:
            raise ValueError(
                f"topology must be one of {sorted(TOPOLOGIES)}, but got {topology!r}."
            )
        topology = TOPOLOGIES[topology]
    if callable(topology):
        topology = topology(n_islands)
    if not isinstance(topology, (Sequence, np.ndarray)) or isinstance(topology, str):
        raise TypeError(
            "topology must be a name, a matrix, or a function from the number of islands to a "
            f"matrix, but got {topology!r}."
        )
    return _checked(topology, n_islands)


def _checked(topology: Sequence[Any] | NDArray[Any], n_islands: int) -> NDArray[np.int64]:
    try:
        matrix = np.asarray(topology)
    except ValueError:
        raise ValueError(f"topology must be a matrix, but its rows differ: {topology}.") from None
    if matrix.shape != (n_islands, n_islands):
        raise ValueError(
            f"topology must have the shape {(n_islands, n_islands)} (islands x islands), "
            f"but got {matrix.shape}."
        )
    for (source, target), entry in np.ndenumerate(matrix):
        if not _is_integral(entry):
            raise _bad_entry(source, target, entry, "an integer")
        if entry < 0:
            raise _bad_entry(source, target, entry, "0 or more")
        if source == target and entry != 0:
            raise _bad_entry(source, target, entry, "0, as nobody travels from home to home")
    return matrix.astype(np.int64)


def _is_integral(entry: Any) -> bool:
    if isinstance(entry, (int, np.integer)):
        return True
    return isinstance(entry, (float, np.floating)) and float(entry).is_integer()


def _bad_entry(source: int, target: int, entry: object, allowed: str) -> ValueError:
    return ValueError(f"topology[{source}][{target}] must be {allowed}, but got {entry}.")


def _without_loops(matrix: NDArray[np.int64]) -> NDArray[np.int64]:
    np.fill_diagonal(matrix, 0)
    return matrix
