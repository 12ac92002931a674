"""PropulateSampler: Optuna's hooks on one side, an island on the other."""

from __future__ import annotations

import atexit
import os
import threading
from dataclasses import dataclass
from dataclasses import field
from typing import TYPE_CHECKING
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from optuna.samplers import BaseSampler

from optuna_propulate._optuna_compat import contains
from optuna_propulate._optuna_compat import is_fixed
from optuna_propulate._optuna_compat import is_multi_objective
from optuna_propulate._optuna_compat import set_attributes
from optuna_propulate._optuna_compat import storage_of
from optuna_propulate._optuna_compat import study_id_of
from optuna_propulate._optuna_compat import trial_id_of
from optuna_propulate.evolution.arguments import check_integer
from optuna_propulate.evolution.genes import from_unit
from optuna_propulate.exchange.attributes import StorageExchange
from optuna_propulate.exchange.local import LocalExchange
from optuna_propulate.exchange.mpi import MpiExchange
from optuna_propulate.exchange.mpi import MpiTransport
from optuna_propulate.islands import Island
from optuna_propulate.islands.configuration import IslandConfiguration
from optuna_propulate.parallel.launch import comm_timeout
from optuna_propulate.parallel.launch import communicator
from optuna_propulate.parallel.launch import watch_loop
from optuna_propulate.records.attributes import system_attributes
from optuna_propulate.records.attributes import user_attributes
from optuna_propulate.records.conversion import individual_of
from optuna_propulate.records.conversion import individuals_of
from optuna_propulate.records.conversion import outcome_of
from optuna_propulate.records.foreign import ForeignTrials
from optuna_propulate.records.migrations import migration_attributes


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence

    from mpi4py import MPI
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial
    from optuna.trial import TrialState

    from optuna_propulate.breeders import Breeder
    from optuna_propulate.evolution.individual import Individual
    from optuna_propulate.exchange.base import Exchange
    from optuna_propulate.islands.island import Tally
    from optuna_propulate.islands.migration import MigrationPolicy
    from optuna_propulate.islands.resuming import Inheritance
    from optuna_propulate.islands.topology import Topology
    from optuna_propulate.operators import Operator

_PENDING = 64  # how many of the trials under way the operators are told of

ISLAND_VARIABLE = "OPTUNA_PROPULATE_ISLAND"
"""The environment variable that says which island a process without MPI lives on."""


@dataclass
class _StudyState:
    """What the sampler knows of one study: its island, and which trials are being evaluated."""

    island: Island
    exchange: Exchange
    foreign: ForeignTrials
    offspring: dict[int, Individual] = field(default_factory=dict)
    named: bool = False
    first_worker: int = 0  # what the ranks of a job are known by is as much higher


class PropulateSampler(BaseSampler):
    """Propulate's asynchronous island evolution as an Optuna sampler.

    Each worker breeds from whatever individuals it has heard of, and never waits for another.
    Under mpirun every rank is a worker; the ranks tell each other their finished trials by MPI
    messages. Without MPI the process is the only worker, and learns of trials that others add
    to the study from its storage; with several islands, it lives on one of them, and exchanges
    individuals with the others through the study. Only single-objective studies are supported.

    Under MPI the constructor is collective over ``comm``: every rank builds its sampler.

    Args:
        population_size: The size of the breeding pool, at least 2; ``None`` for what
            ``islands.default_population_size`` says.
        operators: An operator, such as ``operators.crossover_and_mutation()`` of Propulate's
            paper, called with the breeding pool once that is full; until then trials are random.
            Or a ``breeders.Breeder``, which proposes each trial, and may learn. ``None`` for
            ``breeders.default_breeder``.
        islands: How many islands (sizes differ by one at most), the number of workers of each,
            which must add up, or ``"node"`` for one per compute node. Ranks are contiguous.
        topology: ``"fully_connected"``, ``"ring"``, ``"two_way_ring"``, ``"star"``, ``"torus"``,
            ``"unconnected"``; a matrix of shape ``(n_islands, n_islands)`` whose entry (i, j) is
            how many individuals island i sends island j at a migration; or a function from the
            number of islands to such a matrix.
        migration: ``Pollination(...)``, ``Migration(...)``, or a ``MigrationPolicy`` of your own;
            ``None`` for ``Pollination()``.
        island: The island of this process if there are several and no MPI, from 0; ``None`` for
            the environment variable ``OPTUNA_PROPULATE_ISLAND``.
        exchange: Builds what carries individuals between the workers of a study, from the islands
            and the worker's place there; ``None`` for MPI messages under mpirun, and for the
            study's own attributes with several islands and no MPI.
        comm: The communicator of the workers; ``None`` for ``MPI.COMM_WORLD`` under mpirun.
        seed: The seed of all workers, each of which draws a stream of its own; not negative.

    Raises:
        TimeoutError: If not every rank builds a sampler with ``islands="node"``, and none has come
            to do so for a minute.
        TypeError: If an argument is of another type.
        ValueError: If an argument is out of its range. What differs between the ranks is found
            at the first use, or by ``create_study``.

    Reference:
        Taubert et al., Massively Parallel Genetic Optimization through Asynchronous Propagation
        of Populations, ISC 2023, arXiv:2301.08713.
    """

    configuration: IslandConfiguration
    """The islands, and this worker's place there."""

    _transport: MpiTransport | None

    def __init__(
        self,
        *,
        population_size: int | None = None,
        operators: Operator | Breeder | None = None,
        islands: int | Sequence[int] | str = 1,
        topology: Topology = "fully_connected",
        migration: MigrationPolicy | None = None,
        island: int | None = None,
        exchange: Callable[[IslandConfiguration], Exchange] | None = None,
        comm: MPI.Intracomm | None = None,
        seed: int | None = None,
    ) -> None:
        comm = communicator(comm)
        variable = os.environ.get(ISLAND_VARIABLE)
        self.configuration = IslandConfiguration.checked(
            comm, islands, island, variable, topology, migration, population_size
        )
        self._breeder = self.configuration.breeder(operators)
        if exchange is not None and not callable(exchange):
            raise TypeError(f"exchange must build an Exchange when called, but got {exchange!r}.")
        self._exchange = exchange
        self._seed = seed if seed is None else check_integer("seed", seed, 0)
        self._rng = self._stream(self._seed, self.configuration.worker)
        self._prepare()
        if comm is not None:  # last, since a rank that raised before would leave the others alone
            transport = MpiTransport(comm, comm_timeout(), self.configuration.agreed)
            atexit.register(transport.leave)
            self._transport = transport

    def connect(self) -> None:
        """Wait until every rank has built its sampler.

        Raises:
            TimeoutError: If some rank has not within a minute, or what the environment variable
                ``OPTUNA_PROPULATE_COMM_TIMEOUT`` says in seconds.
            ValueError: On every rank, if islands, topology, migration or population size differ.
        """
        if self._transport is not None:
            self._transport.connect()

    def check_workers(self, comm: MPI.Intracomm | None) -> None:
        """Check that the workers are those of a study.

        Args:
            comm: The ranks that share the study; ``None`` for this process alone.

        Raises:
            ValueError: If they are others.
        """
        transport = self._transport
        if transport is None and comm is None:
            return
        if transport is None or comm is None or not transport.has_ranks_of(comm):
            raise ValueError(
                f"The sampler's workers must be the ranks that share the study, but it was built "
                f"for {1 if transport is None else transport.size} ranks, and the study for "
                f"{1 if comm is None else comm.size}; give both the same comm."
            )

    def breeding_pool(self, study: Study) -> list[Individual]:
        """Return the individuals that parents are drawn from, best first, as known here."""
        with self._lock:
            return self._state(study).island.breeding_pool

    def tally(self, study: Study) -> Tally:
        """Return how many were born, arrived and left at this worker."""
        with self._lock:
            return self._state(study).island.tally

    def resume(self, study: Study, inheritance: Inheritance) -> None:
        """Own individuals of an earlier run, before any worker starts a trial.

        ``create_study`` and ``load_study`` call this on every rank. Without it, or without MPI,
        the earlier individuals are bred from, but never migrate.

        Args:
            study: The study.
            inheritance: This worker's part of what ``islands.resuming.deal_out`` returns.
        """
        with self._lock:
            if self._transport is None or study_id_of(study) in self._states.get(
                storage_of(study), {}
            ):
                return
            known = self._state(study, join=False)
            known.foreign.note(inheritance.n_trials, inheritance.unfinished)
            known.island.resume(inheritance.individuals)

    def drain(self, study: Study) -> None:
        """Wait until every worker has called this; then all workers of an island know the same.

        Collective over the communicator; ``IslandStudy.optimize`` ends with it. Without MPI
        nobody knows who else will come, and there is nothing to wait for.
        """
        if self._transport is not None:
            known = self._state(study)
            with self._lock:
                self._hear_others(known, study)
            known.island.drain(self._rng)

    def reseed_rng(self) -> None:
        """Draw from a fresh stream from now on."""
        with self._lock:
            self._rng = self._stream(None, self.configuration.worker)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Breed the trial's offspring from what has arrived, and say where it comes from."""
        if is_multi_objective(study):
            return  # refused at the first parameter, as Optuna's own samplers do
        with self._lock:
            known = self._state(study)
            offspring = self._breed_for(known, study, trial)
        name, learns = known.exchange.name, self._transport is None
        set_attributes(
            study,
            trial,
            user_attributes(offspring),
            system_attributes(offspring, trial, name, learns=learns),
        )

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the distributions of the offspring's genes."""
        self._raise_error_if_multi_objective(study)
        genes = self._offspring_of(study, trial).genes
        return {name: gene.distribution for name, gene in sorted(genes.items())}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the offspring's values for those parameters whose distribution holds them."""
        self._raise_error_if_multi_objective(study)
        genes = self._offspring_of(study, trial).genes
        return {
            name: genes[name].value
            for name, distribution in search_space.items()
            if name in genes and contains(distribution, genes[name].value)
        }

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw a parameter that the offspring lacks, or whose range has moved."""
        self._raise_error_if_multi_objective(study)
        with self._lock:
            return from_unit(self._rng.random(), param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Add an evaluated trial to the population, tell the peers, perhaps send migrants."""
        if is_multi_objective(study):
            return
        with self._lock:
            known = self._state(study)
            offspring = known.offspring.pop(trial_id_of(trial), None)
            attributes: dict[str, Any] = {}
            outcome = outcome_of(trial, state, values)
            if outcome is not None:
                individual = individual_of(
                    trial,
                    study.direction,
                    self.configuration.n_islands,
                    outcome=outcome,
                    bred=None if is_fixed(trial) else offspring,
                )
                departures = known.island.born(individual, self._rng)
                migrants = [
                    (migrant, there.island, known.first_worker + there.worker)
                    for there in departures
                    for migrant in there.individuals
                ]
                attributes = migration_attributes(
                    migrants, leaves_home=self.configuration.migration.leaves_home
                )
            attributes |= known.exchange.outgoing()
        if attributes:
            set_attributes(study, trial, {}, attributes)

    def _offspring_of(self, study: Study, trial: FrozenTrial) -> Individual:
        with self._lock:
            known = self._state(study)
            offspring = known.offspring.get(trial_id_of(trial))
            return self._breed_for(known, study, trial) if offspring is None else offspring

    def _breed_for(self, known: _StudyState, study: Study, trial: FrozenTrial) -> Individual:
        """Return the next offspring, for a trial; the lock is held."""
        self._name(known, study, trial.number)
        known.foreign.asked(trial.number)
        self._hear_others(known, study)
        known.island.take_in(self._rng)
        offspring = known.island.breed(self._rng, list(known.offspring.values())[-_PENDING:])
        known.offspring[trial_id_of(trial)] = offspring
        return offspring

    def _hear_others(self, known: _StudyState, study: Study) -> None:
        """Take in what others than the workers of this job have evaluated; the lock is held.

        Under MPI the first worker of each island owns it, and tells its peers.
        """
        if self._transport is None:
            self._read(known, study, known.foreign.finished(study))
        elif self.configuration.leads_island and (trials := known.foreign.finished(study)):
            known.island.resume(self._of_this_island(study, trials))

    def _of_this_island(self, study: Study, trials: Sequence[FrozenTrial]) -> list[Individual]:
        individuals = individuals_of(trials, study.direction, self.configuration.n_islands)
        return [one for one in individuals if one.island == self.configuration.island]

    def _name(self, known: _StudyState, study: Study, number: int) -> None:
        """Tell this worker from those of other jobs, once it has its first trial.

        The trial's number goes into the worker's seed. The worker is called as the storage says,
        and where that does not know of other jobs, by its rank, or without MPI by that number.
        """
        if known.named:
            return
        known.named = True
        first_worker = getattr(storage_of(study), "first_worker", None)
        first = None if first_worker is None else first_worker(study_id_of(study))
        if self._transport is not None:
            known.first_worker = first or 0
            known.island.worker = known.first_worker + self.configuration.worker
            if self._seed is not None and not self._is_first_job(known, study):
                self._rng = self._stream(self._seed, self.configuration.worker, number)
            return
        known.island.worker = number if first is None else first
        if known.exchange.name is not None:  # else it has an address of its own
            known.exchange.worker = known.island.worker
        if self._seed is not None and number > 0:
            self._rng = self._stream(self._seed, number)

    def _is_first_job(self, known: _StudyState, study: Study) -> bool:
        """Tell whether no other job was in the study before; the storage may know for sure."""
        is_first = getattr(storage_of(study), "is_first_job", None)
        return known.foreign.n_finished == 0 if is_first is None else is_first(study_id_of(study))

    def _state(self, study: Study, *, join: bool = True) -> _StudyState:
        with self._lock:
            states = self._states.setdefault(storage_of(study), {})
            if study_id_of(study) not in states:
                states[study_id_of(study)] = known = self._new_state()
                watch_loop(study)
                if join:
                    self._read(known, study, known.foreign.read_all(study))
            return states[study_id_of(study)]

    def _new_state(self) -> _StudyState:
        exchange = self._new_exchange()
        self._n_studies += 1
        island = Island(
            index=self.configuration.island,
            worker=self.configuration.worker,
            population_size=self.configuration.population_size,
            breeder=self._breeder,
            topology=self.configuration.topology,
            migration=self.configuration.migration,
            exchange=exchange,
        )
        return _StudyState(island, exchange, ForeignTrials(of_job=self._transport is not None))

    def _new_exchange(self) -> Exchange:
        where = self.configuration
        if self._exchange is not None:
            return self._exchange(where)
        if self._transport is not None:
            return MpiExchange(self._transport, where.archipelago.islands, self._n_studies)
        if where.n_islands > 1:
            return StorageExchange(where.island, where.n_islands)
        return LocalExchange.alone()

    def _read(self, known: _StudyState, study: Study, trials: list[FrozenTrial]) -> None:
        untold = known.exchange.read(study, trials)
        for individual in self._of_this_island(study, untold):
            known.island.join(individual)

    def _stream(self, seed: int | None, *worker: int) -> np.random.Generator:
        """Return the worker's own child of the seed, as ``SeedSequence(seed).spawn`` gives it."""
        return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=worker))

    def _prepare(self) -> None:
        """Set up what is not pickled."""
        self._lock = threading.RLock()
        self._transport = None
        self._n_studies = 0
        self._states: WeakKeyDictionary[BaseStorage, dict[int, _StudyState]] = WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        """Drop the communicator and the populations: a copy reads its study's storage instead."""
        state = self.__dict__.copy()
        for name in ("_lock", "_transport", "_n_studies", "_states"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()
