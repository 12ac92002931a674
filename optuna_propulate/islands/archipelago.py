"""The archipelago: which worker lives on which island."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from numbers import Integral


@dataclass(frozen=True)
class Archipelago:
    """All islands of a job; the workers of an island are numbered contiguously.

    Args:
        sizes: The number of workers of each island, each at least 1.
    """

    sizes: tuple[int, ...]

    @property
    def n_islands(self) -> int:
        """How many islands there are."""
        return len(self.sizes)

    def island_of(self, worker: int) -> int:
        """Return the island that the worker lives on."""
        return bisect_right(list(accumulate(self.sizes)), worker)

    def workers_of(self, island: int) -> range:
        """Return the workers that live on the island."""
        first = sum(self.sizes[:island])
        return range(first, first + self.sizes[island])


def settle_workers(islands: int | Sequence[int], n_workers: int) -> Archipelago:
    """Return the archipelago for a number of workers.

    Args:
        islands: How many islands (their sizes differ by one at most), or the number of workers
            of each; these must add up to ``n_workers``.
        n_workers: The number of workers of the job.

    Raises:
        TypeError: If ``islands`` is neither an integer nor a sequence of integers.
        ValueError: If there are more islands than workers, an island without a worker, or if
            the sizes do not add up to the number of workers.
    """
    if isinstance(islands, Integral) and not isinstance(islands, bool):
        return Archipelago(_equal_sizes(int(islands), n_workers))
    if isinstance(islands, (str, bytes)) or not isinstance(islands, Sequence):
        raise TypeError(f"islands must be an int or a sequence of ints, but got {islands!r}.")
    for size in islands:
        if not isinstance(size, Integral) or isinstance(size, bool):
            raise TypeError(f"islands must be an int or a sequence of ints, but got {islands!r}.")
        if size < 1:
            raise ValueError(f"Each island needs at least one worker, but got islands={islands}.")
    if sum(islands) != n_workers:
        raise ValueError(
            f"The sizes of the islands must add up to the number of workers, {n_workers}, "
            f"but islands={islands} add up to {sum(islands)}."
        )
    return Archipelago(tuple(map(int, islands)))


def _equal_sizes(n_islands: int, n_workers: int) -> tuple[int, ...]:
    if n_islands < 1:
        raise ValueError(f"islands must be at least 1, but got {n_islands}.")
    if n_islands > n_workers:
        raise ValueError(
            f"islands must not be more than the number of workers (MPI ranks), {n_workers}, "
            f"but got {n_islands}."
        )
    size, larger = divmod(n_workers, n_islands)
    return tuple(size + 1 if island < larger else size for island in range(n_islands))
