"""The archipelago: which worker lives on which island."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from numbers import Integral
from typing import TypeGuard


NODE = "node"
"""What ``islands`` is for one island per compute node."""


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

    @cached_property
    def islands(self) -> tuple[range, ...]:
        """The workers of each island."""
        ends = [sum(self.sizes[: island + 1]) for island in range(self.n_islands)]
        return tuple(range(end - size, end) for end, size in zip(ends, self.sizes, strict=True))

    def island_of(self, worker: int) -> int:
        """Return the island that the worker lives on."""
        return next(i for i, workers in enumerate(self.islands) if worker in workers)


def assign_workers(islands: int | Sequence[int] | str, n_workers: int) -> Archipelago:
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
    if _is_integer(islands):
        return Archipelago(_equal_sizes(int(islands), n_workers))
    if not isinstance(islands, Sequence) or not _are_integers(islands):
        raise TypeError(
            f"islands must be an int, a sequence of ints or {NODE!r}, but got {islands!r}."
        )
    if not islands or min(islands) < 1:
        raise ValueError(f"Each island needs at least one worker, but got islands={islands}.")
    if sum(islands) != n_workers:
        raise ValueError(
            f"The sizes of the islands must add up to the number of workers, {n_workers}, "
            f"but islands={islands} add up to {sum(islands)}."
        )
    return Archipelago(tuple(map(int, islands)))


def assign_process(
    islands: int | Sequence[int] | str, island: int | None, variable: str | None
) -> tuple[Archipelago, int]:
    """Return the archipelago of a process without MPI, and the island that it lives on.

    How many processes live on each island is not known; one each is assumed.

    Args:
        islands: How many islands; what ``assign_workers`` takes for a single worker, too.
        island: The island of this process, in [0, islands).
        variable: The same from the environment, which counts if ``island`` is ``None``.

    Raises:
        TypeError: If ``islands`` is of another type.
        ValueError: If there are several islands and no word of which, or none of that number.
    """
    if islands == NODE:
        islands = 1
    if _is_integer(islands) and islands > 1:
        archipelago = Archipelago((1,) * int(islands))
    else:
        archipelago = assign_workers(islands, 1)
    n_islands = archipelago.n_islands
    if n_islands == 1 and island is None:
        return archipelago, 0
    given = variable if island is None else island
    if given is None:
        raise ValueError(
            f"islands={islands} needs MPI (mpirun -n ..., --workers), or processes that share the "
            "storage and say which island they live on: island=... or OPTUNA_PROPULATE_ISLAND=..."
        )
    if not str(given).isdigit() or int(given) >= n_islands:
        raise ValueError(
            f"island (or OPTUNA_PROPULATE_ISLAND) must be in [0, {n_islands}), but got {given!r}."
        )
    return archipelago, int(given)


def default_population_size(n_workers: int) -> int:
    """Return the size of the breeding pool of an island with so many workers.

    Fifteen, and one more for every 16 workers. Neither the number of parameters nor the budget
    needs to be known: operators that need more than the pool keep what they have learnt from all
    births, and a small pool is what makes a thousand trials enough. Of 15 and 20, 15 had the
    better mean rank over 18 tasks with 1 and with 8 workers; of 15, 20 and 32 with 64 workers, 15
    and 20 were level, and ahead of 32 (``benchmarks/results/ablation.md`` has 10 and 40).

    Islands are one by default: with 64 workers and 1,000 trials, two islands are worse than one
    nearly everywhere, and four worse than two, since each learns from fewer births. With hundreds
    of trials for each worker they pay: an island that falls into a trap does not take the others
    with it (``benchmarks/results/paper_table.md``).

    Args:
        n_workers: How many workers the island has.
    """
    return 15 + n_workers // 16


def node_sizes(nodes: Sequence[int]) -> list[int]:
    """Return the sizes of the islands when each compute node is one.

    Args:
        nodes: A number for each worker's node, in the order of the workers.

    Raises:
        ValueError: If the workers of a node are not numbered contiguously.
    """
    runs = [(node, len(list(run))) for node, run in groupby(nodes)]
    if len(runs) > len(set(nodes)):
        raise ValueError(
            "islands='node' needs each node's ranks to be contiguous, but the ranks' nodes are "
            f"{list(nodes)}. Fill node after node: mpirun --map-by core, or "
            "srun --distribution=block."
        )
    return [size for _, size in runs]


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _are_integers(values: Sequence[object]) -> TypeGuard[Sequence[int]]:
    return not isinstance(values, str) and all(map(_is_integer, values))


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
