"""PropulateSampler: Optuna's hooks on one side, an island on the other."""

from __future__ import annotations

import atexit
import threading
from dataclasses import dataclass
from dataclasses import field
from typing import TYPE_CHECKING
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from optuna_propulate._optuna_compat import contains
from optuna_propulate._optuna_compat import is_multi_objective
from optuna_propulate._optuna_compat import set_attributes
from optuna_propulate._optuna_compat import storage_of
from optuna_propulate._optuna_compat import study_id
from optuna_propulate._optuna_compat import trial_id
from optuna_propulate.exchange.launcher import comm_timeout
from optuna_propulate.exchange.launcher import communicator
from optuna_propulate.exchange.local import LocalExchange
from optuna_propulate.exchange.mpi import MpiExchange
from optuna_propulate.exchange.mpi import MpiTransport
from optuna_propulate.genes import from_unit
from optuna_propulate.islands import Island
from optuna_propulate.islands import Pollination
from optuna_propulate.islands import resolve_topology
from optuna_propulate.islands import settle_workers
from optuna_propulate.operators import WarmUp
from optuna_propulate.operators import default_operator
from optuna_propulate.trials import ForeignTrials
from optuna_propulate.trials import individual_of
from optuna_propulate.trials import system_attributes
from optuna_propulate.trials import user_attributes


if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpi4py import MPI
    from numpy.typing import NDArray
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from optuna_propulate.exchange.base import Exchange
    from optuna_propulate.individual import Individual
    from optuna_propulate.operators import Operator

_SMALLEST_DEFAULT_POOL = 10


@dataclass
class _StudyState:
    """What the sampler knows of one study: its island, and which trials are being evaluated."""

    island: Island
    foreign: ForeignTrials = field(default_factory=ForeignTrials)
    offspring: dict[int, Individual] = field(default_factory=dict)


class PropulateSampler(BaseSampler):
    """Propulate's asynchronous island evolution as an Optuna sampler.

    Each worker breeds from whatever individuals it has heard of, and never waits for another.
    Under mpirun every rank is a worker; the ranks tell each other their finished trials by MPI
    messages. Without MPI the process is the only worker, and learns of trials that others add
    to the study from its storage. Only single-objective studies are supported.

    Under MPI the constructor is collective over ``comm``: every rank builds its sampler.

    Args:
        population_size: The size of the breeding pool, at least 2; ``None`` for twice the number
            of workers on the island, but 10 or more. Trials are random until the pool is full.
        crossover_probability: How likely two parents are crossed, in [0, 1].
        mutation_probability: How likely each of the two mutations happens, in [0, 1].
        random_probability: How likely an offspring is replaced by a random one, in [0, 1].
        sigma_factor: The standard deviation of a mutation's step as a fraction of the range
            (the log-scaled range where the distribution is log-scaled), above 0.
        operators: A composed operator, called with the breeding pool once that is full; it takes
            the place of the four arguments before it.
        islands: How many islands, or the number of workers of each.
        topology: ``"fully_connected"``, ``"ring"``, ``"star"``, ``"unconnected"``, or a matrix of
            shape ``(n_islands, n_islands)`` whose entry (i, j) is how many individuals island i
            sends island j at a migration.
        migration: The migration policy; ``None`` for ``Pollination()``.
        comm: The communicator of the workers; ``None`` for ``MPI.COMM_WORLD`` under mpirun.
        seed: The seed of all workers, each of which draws a stream of its own; not negative.

    Raises:
        TypeError: If ``islands``, ``migration``, ``operators`` or ``comm`` is of another type.
        ValueError: If an argument is out of its range.

    Reference:
        Taubert et al., Massively Parallel Genetic Optimization through Asynchronous Propagation
        of Populations, ISC 2023, arXiv:2301.08713.
    """

    _transport: MpiTransport | None

    def __init__(
        self,
        *,
        population_size: int | None = None,
        crossover_probability: float = 0.7,
        mutation_probability: float = 0.4,
        random_probability: float = 0.1,
        sigma_factor: float = 0.05,
        operators: Operator | None = None,
        islands: int | Sequence[int] = 1,
        topology: str | Sequence[Sequence[int]] | NDArray[np.int64] = "fully_connected",
        migration: Pollination | None = None,
        comm: MPI.Intracomm | None = None,
        seed: int | None = None,
    ) -> None:
        comm = communicator(comm)
        self._worker, n_workers = (0, 1) if comm is None else (comm.rank, comm.size)
        self._archipelago = settle_workers(islands, n_workers)
        self._topology = resolve_topology(topology, self._archipelago.n_islands)
        self._migration = Pollination() if migration is None else migration
        if not isinstance(self._migration, Pollination):
            raise TypeError(f"migration must be a Pollination, but got {migration!r}.")
        if population_size is None:
            island = self._archipelago.island_of(self._worker)
            n_mates = len(self._archipelago.workers_of(island))
            population_size = max(_SMALLEST_DEFAULT_POOL, 2 * n_mates)
        self._population_size = population_size
        self._breed = default_operator(
            population_size,
            crossover_probability=crossover_probability,
            mutation_probability=mutation_probability,
            random_probability=random_probability,
            sigma_factor=sigma_factor,
        )
        if operators is not None:
            if not callable(operators):
                raise TypeError(f"operators must be an operator, but got {operators!r}.")
            self._breed = WarmUp(population_size, operators)
        self._rng = self._own_stream(seed)
        self._prepare()
        if comm is not None:  # last, since a rank that raised before would leave the others alone
            transport = MpiTransport(comm, comm_timeout())
            atexit.register(transport.leave)
            self._transport = transport

    def connect(self) -> None:
        """Wait until every rank has built its sampler.

        Raises:
            TimeoutError: If some rank has not within a minute, or what the environment variable
                ``OPTUNA_PROPULATE_COMM_TIMEOUT`` says in seconds.
        """
        if self._transport is not None:
            self._transport.connect()

    def breeding_pool(self, study: Study) -> list[Individual]:
        """Return the individuals that parents are drawn from, best first, as known here."""
        with self._lock:
            return list(self._state(study).island.population)

    def settle(self, study: Study) -> None:
        """Wait until every worker has called this; then all workers of an island know the same.

        Collective over the communicator; ``IslandStudy.optimize`` ends with it.
        """
        self._state(study).island.settle()

    def reseed_rng(self) -> None:
        """Draw from a fresh stream from now on."""
        with self._lock:
            self._rng = self._own_stream(None)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Breed the trial's offspring from what has arrived, and say where it comes from."""
        if is_multi_objective(study):
            return  # refused at the first parameter, as Optuna's own samplers do
        offspring = self._breed_for(study, trial)
        set_attributes(
            study, trial, user_attributes(offspring), system_attributes(offspring, trial)
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
        """Add a complete trial to the population, tell the mates, perhaps send migrants."""
        if is_multi_objective(study):
            return
        with self._lock:
            known = self._state(study)
            known.offspring.pop(trial_id(trial), None)
            if state == TrialState.COMPLETE and values is not None:
                individual = individual_of(
                    trial, values[0], study.direction, self._archipelago.n_islands
                )
                known.island.born(individual, self._rng)

    def _offspring_of(self, study: Study, trial: FrozenTrial) -> Individual:
        with self._lock:
            offspring = self._state(study).offspring.get(trial_id(trial))
            return self._breed_for(study, trial) if offspring is None else offspring

    def _breed_for(self, study: Study, trial: FrozenTrial) -> Individual:
        with self._lock:
            known = self._state(study)
            known.island.take_in()
            if self._transport is None:  # else the mates tell us
                known.foreign.asked(trial.number)
                self._join(known, study, known.foreign.finished(study))
            offspring = known.island.breed(self._rng)
            known.offspring[trial_id(trial)] = offspring
            return offspring

    def _state(self, study: Study) -> _StudyState:
        with self._lock:
            states = self._states.setdefault(storage_of(study), {})
            if study_id(study) not in states:
                known = _StudyState(self._new_island())
                states[study_id(study)] = known
                self._join(known, study, known.foreign.read_all(study))
            return states[study_id(study)]

    def _new_island(self) -> Island:
        exchange: Exchange = LocalExchange()
        if self._transport is not None:
            exchange = MpiExchange(self._transport, self._n_studies)
        self._n_studies += 1
        return Island(
            archipelago=self._archipelago,
            worker=self._worker,
            population_size=self._population_size,
            breed=self._breed,
            topology=self._topology,
            migration=self._migration,
            exchange=exchange,
        )

    def _join(self, known: _StudyState, study: Study, trials: list[FrozenTrial]) -> None:
        for trial in trials:
            value = trial.value
            assert value is not None
            individual = individual_of(trial, value, study.direction, self._archipelago.n_islands)
            if individual.island == known.island.index:
                known.island.join(individual)

    def _own_stream(self, seed: int | None) -> np.random.Generator:
        """Return the worker's own child of the seed, as ``SeedSequence(seed).spawn`` gives it."""
        return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(self._worker,)))

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
