"""Where a worker lives and how it breeds there: what a sampler was asked for, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna_propulate.breeders.base import Breeder
from optuna_propulate.breeders.base import breeder_of
from optuna_propulate.breeders.defaults import default_breeder
from optuna_propulate.breeders.startup import WarmUp
from optuna_propulate.evolution.arguments import check_integer
from optuna_propulate.islands import Pollination
from optuna_propulate.islands import assign_workers
from optuna_propulate.islands import default_population_size
from optuna_propulate.islands import resolve_topology
from optuna_propulate.islands.archipelago import NODE
from optuna_propulate.islands.archipelago import assign_process
from optuna_propulate.islands.archipelago import node_sizes
from optuna_propulate.islands.migration import check_policy
from optuna_propulate.islands.topology import in_words
from optuna_propulate.parallel.launch import comm_timeout
from optuna_propulate.parallel.nodes import nodes_of


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from mpi4py import MPI
    from numpy.typing import NDArray

    from optuna_propulate.islands import Archipelago
    from optuna_propulate.islands.migration import MigrationPolicy
    from optuna_propulate.islands.topology import Topology
    from optuna_propulate.operators import Operator


@dataclass(frozen=True)
class IslandConfiguration:
    """The islands, and one worker's place there.

    Args:
        archipelago: Who lives where.
        worker: The number of the worker, 0 without MPI.
        island: The island that it lives on.
        topology: How many migrants go from island to island, shape ``(n_islands, n_islands)``.
        migration: Who migrates, and when.
        asked_size: The size of every breeding pool; ``None`` for one that suits the island.
    """

    archipelago: Archipelago
    worker: int
    island: int
    topology: NDArray[np.int64]
    migration: MigrationPolicy
    asked_size: int | None

    @classmethod
    def checked(
        cls,
        comm: MPI.Intracomm | None,
        islands: int | Sequence[int] | str,
        island: int | None,
        variable: str | None,
        topology: Topology,
        migration: MigrationPolicy | None,
        population_size: int | None,
    ) -> IslandConfiguration:
        """Check what ``PropulateSampler`` was given, whose docstring has the errors.

        The variable is the island from the environment, if there is one. Collective over the
        communicator if ``islands`` is ``"node"``.
        """
        migration = Pollination() if migration is None else check_policy(migration)
        worker = 0
        if comm is None:
            archipelago, island = assign_process(islands, island, variable)
        else:
            if island is not None:
                raise ValueError(
                    f"island={island} is for processes without MPI; under mpirun the rank decides."
                )
            if islands == NODE:
                islands = node_sizes(nodes_of(comm, comm_timeout()))
            worker, archipelago = comm.rank, assign_workers(islands, comm.size)
            island = archipelago.island_of(worker)
        weights = resolve_topology(topology, archipelago.n_islands)
        if population_size is not None:
            check_integer("population_size", population_size, 2)
        return cls(archipelago, worker, island, weights, migration, population_size)

    @property
    def n_islands(self) -> int:
        """How many islands there are."""
        return self.archipelago.n_islands

    @property
    def leads_island(self) -> bool:
        """Whether the worker is the first of its island."""
        return self.worker == self.archipelago.islands[self.island][0]

    @property
    def population_size(self) -> int:
        """The size of the breeding pool on the worker's island."""
        return self.population_size_of(self.worker)

    def population_size_of(self, worker: int) -> int:
        """Return the size of the breeding pool on the island of a worker."""
        if self.asked_size is not None:
            return self.asked_size
        return default_population_size(self._n_peers(worker))

    def breeder(self, operators: Operator | Breeder | None) -> Breeder:
        """Return what breeds on the worker's island: the default, a breeder, or an operator."""
        if operators is None:
            return default_breeder(self.population_size, n_workers=self._n_peers(self.worker))
        breeder = breeder_of(operators)
        return breeder if breeder is operators else WarmUp(self.population_size, breeder)

    @property
    def agreed(self) -> dict[str, str]:
        """What all ranks must have in common."""
        return {
            "islands": str(self.archipelago.sizes),
            "topology": str(self.topology.tolist()),
            "migration": f"{type(self.migration).__name__}({self.migration.probability})",
            "population_size": str(self.asked_size),
        }

    @property
    def description(self) -> list[str]:
        """A line in words for islands, topology, migration and breeding each."""
        sizes = self.archipelago.sizes
        lines = [f"islands: {_sized(sizes)}"]
        if len(sizes) > 1:
            policy = type(self.migration).__name__.lower()
            lines += [
                f"topology: {in_words(self.topology)}",
                f"{policy}: after a trial with probability {self.migration.probability:g}",
            ]
        return [*lines, f"breeding pool: {self.population_size} individuals"]

    def _n_peers(self, worker: int) -> int:
        return self.archipelago.sizes[self.archipelago.island_of(worker)]


def _sized(sizes: Sequence[int]) -> str:
    """Return how many islands there are, and of how many workers."""
    if len(set(sizes)) > 1:
        return f"{len(sizes)}, of {', '.join(map(str, sizes))} workers"
    workers = "1 worker" if sizes[0] == 1 else f"{sizes[0]} workers"
    return f"1, of {workers}" if len(sizes) == 1 else f"{len(sizes)}, of {workers} each"
