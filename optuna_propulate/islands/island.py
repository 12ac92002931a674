"""An island, as one of its workers sees it."""

from __future__ import annotations

from collections import deque
from copy import deepcopy
from dataclasses import dataclass
from dataclasses import replace
from typing import TYPE_CHECKING

from optuna_propulate.breeders.context import BreedingContext
from optuna_propulate.evolution.individual import Lineage
from optuna_propulate.evolution.population import Population
from optuna_propulate.exchange.base import Migrants
from optuna_propulate.exchange.base import News
from optuna_propulate.islands.owned import OwnedIndividuals


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from optuna_propulate.breeders.base import Breeder
    from optuna_propulate.evolution.individual import Individual
    from optuna_propulate.evolution.individual import IndividualId
    from optuna_propulate.exchange.base import Exchange
    from optuna_propulate.islands.migration import MigrationPolicy


_TOLD_AT_ONCE = 64  # births of a worker, each told at once; later ones in ever larger groups,
# and on an island of more workers than this from the first, as each would hear of too many
_LARGEST_GROUP = 16  # how many births one message tells of; of more, the latest


@dataclass(frozen=True, slots=True)
class Departure:
    """Individuals that left for another island after an evaluation.

    Args:
        individuals: The migrants.
        island: Where they go.
        worker: Who owns them there.
    """

    individuals: tuple[Individual, ...]
    island: int
    worker: int


@dataclass
class Tally:
    """How many events one worker has issued: its share of its island's.

    Args:
        born: Individuals evaluated or resumed here.
        arrived: Immigrants that this worker owns or owned.
        turned_away: Copies that changed nothing on arrival.
        departed: Emigrants that left for good.
        replaced: Individuals given up for immigrants.
        owed: Individuals still to be given up for immigrants.
    """

    born: int = 0
    arrived: int = 0
    turned_away: int = 0
    departed: int = 0
    replaced: int = 0
    owed: int = 0


class Island:
    """Holds what one worker knows of its island, kept up to date through an exchange.

    What workers tell each other are events: an individual is active here from now on (it was
    born, or arrived), or it is not any longer (it left, or was replaced). Each is issued once, by
    the worker that owns the individual, and what a worker knows is the union of the events that
    it heard of, in whatever order.

    An owner tells of an individual only if it belongs into the breeding pool, the best
    ``population_size`` that it knows; the others are its reserves, told when the pool shrinks.
    So when all messages have arrived, every worker knows the same pool, that of all events: the
    best individual that some owner has not told of is worse than ``population_size`` others that
    it knows, and these are told already, or they would be better ones not told of.

    Besides, a worker tells of its births and immigrants, good or bad, for the breeders of its
    peers to learn from: of the first at once, later of one in ever more, so that what this costs
    fades away.

    Args:
        index: The island's number.
        worker: The worker whose view this is.
        population_size: The size of the breeding pool.
        breeder: Proposes offspring; a copy of it learns here.
        topology: How many migrants go from island to island, shape ``(n_islands, n_islands)``.
        migration: Who migrates, and when.
        exchange: Carries messages to and from the other workers.
    """

    def __init__(
        self,
        *,
        index: int,
        worker: int,
        population_size: int,
        breeder: Breeder,
        topology: NDArray[np.int64],
        migration: MigrationPolicy,
        exchange: Exchange,
    ) -> None:
        self.index = index
        self.worker = worker
        self.tally = Tally()
        self._size = population_size
        self._breeder = deepcopy(breeder)
        self._migration = migration
        self._exchange = exchange
        self._context = BreedingContext()
        self._unannounced: deque[Individual] = deque(maxlen=_LARGEST_GROUP)
        self._n_unannounced = 0
        self._known = Population()
        self._own = OwnedIndividuals(population_size)
        self._joined = Population()
        self._withdrawn: list[IndividualId] = []  # what the peers need to be told some time
        self._newcomers: deque[IndividualId] = deque()  # immigrants for whom nobody has made room
        self._destinations = [
            (target, int(n_migrants))
            for target, n_migrants in enumerate(topology[index])
            if n_migrants > 0
        ]

    @property
    def breeding_pool(self) -> list[Individual]:
        """The best active individuals that this worker knows of, best first."""
        return self._known.best(self._size)

    @property
    def n_known(self) -> int:
        """How many individuals this worker keeps in memory."""
        return len(self._known)

    def take_in(self, rng: np.random.Generator) -> None:
        """Take in what has arrived; never waits."""
        messages = self._exchange.receive()
        if not messages:
            return
        removed: list[IndividualId] = []
        for message in messages:
            if isinstance(message, News):
                for individual in message.born:
                    self._observe(individual)
                for individual in message.added:
                    self._known.add(individual)
                for identity in message.removed:
                    self._known.remove(identity)
            else:
                removed += self._arrive(message, rng)
        self._inform(removed)

    def join(self, individual: Individual) -> None:
        """Add an individual that nobody owns, and every worker here learns of by itself.

        As nobody can give them up, the best ``population_size`` of them are all that it takes.
        """
        self._observe(individual)
        for population in (self._joined, self._known):
            population.add(individual)
        if len(self._joined) > self._size:
            worst = self._joined.worst().id
            for population in (self._joined, self._known):
                population.remove(worst)

    def resume(self, individuals: Sequence[Individual]) -> None:
        """Own individuals of an earlier run."""
        for individual in individuals:
            self._observe(individual)
            self._add(individual)
        self.tally.born += len(individuals)
        self._inform()
        if individuals:
            self._exchange.publish(News(born=tuple(individuals)))

    def breed(self, rng: np.random.Generator, pending: Sequence[Individual] = ()) -> Individual:
        """Return an offspring of the breeding pool; one without genes if the pool is empty.

        Args:
            rng: What the breeder draws from.
            pending: Offspring of this process that are being evaluated.
        """
        self._context.look_at(self.breeding_pool, pending)
        child = self._breeder.propose(self._context, rng)
        return child.of(child.lineage, self.index, self.worker)

    def born(self, individual: Individual, rng: np.random.Generator) -> list[Departure]:
        """Add an individual that was evaluated here, tell the peers, perhaps send migrants.

        Returns:
            Who left, and where to.
        """
        self.take_in(rng)  # who is up to date tells less
        self.tally.born += 1
        self._observe(individual)
        self._announce(individual)
        self._add(individual)
        removed = self._make_room(rng)
        departures = self._depart(rng) if self._departs(rng) else []
        if self._migration.leaves_home:
            removed += self._retire(departures)
        self._inform(removed)
        for departure in departures:
            self._exchange.dispatch(Migrants(departure.individuals), departure.worker)
        return departures

    def drain(self, rng: np.random.Generator) -> None:
        """Wait until every worker has finished and all messages have arrived, and take them in."""
        self._exchange.drain(lambda: self.take_in(rng))

    def _observe(self, individual: Individual) -> None:
        self._breeder.observe(self._context.evaluated(individual))

    def _announce(self, individual: Individual) -> None:
        self._unannounced.append(individual)
        self._n_unannounced += 1

    def _add(self, individual: Individual, *, told: bool = False) -> None:
        if not (told or self._own.keeps(individual)):
            return  # forgotten at once
        self._known.add(individual)
        self._own.add(individual, offered=told)
        for identity, offered in self._own.overflow():
            self._known.remove(identity)
            if offered:
                self._withdrawn.append(identity)

    def _departs(self, rng: np.random.Generator) -> bool:
        if not self._destinations:
            return False  # without a draw, as an island on its own would
        return bool(rng.random() < self._migration.probability / self._exchange.n_workers)

    def _depart(self, rng: np.random.Generator) -> list[Departure]:
        leaving = self._migration.leaves_home
        n_spare = self._own.n_spare
        candidates = list(self._own) if leaving else self.breeding_pool
        departures = []
        for island, n_migrants in self._destinations:
            worker = self._exchange.pick(island, rng)
            fit = candidates if leaving else [c for c in candidates if c.island != island]
            n_migrants = min(n_migrants, n_spare) if leaving else n_migrants
            if worker is None or not fit or n_migrants == 0:
                continue
            migrants = tuple(self._migration.emigrants(n_migrants)(fit, rng))
            departures.append(Departure(migrants, island, worker))
            if leaving:
                gone = {migrant.id for migrant in migrants}
                candidates = [c for c in candidates if c.id not in gone]
                n_spare -= len(migrants)
        return departures

    def _retire(self, departures: list[Departure]) -> list[IndividualId]:
        gone = [migrant.id for there in departures for migrant in there.individuals]
        self.tally.departed += len(gone)
        return [identity for identity in gone if self._give_up(identity)]

    def _arrive(self, message: Migrants, rng: np.random.Generator) -> list[IndividualId]:
        copied = not self._migration.leaves_home
        for migrant in message.individuals:
            identity = migrant.id
            if (
                copied
                and not message.told
                and (identity in self._known or not self._own.keeps(migrant))
            ):
                self.tally.turned_away += 1
                continue
            self.tally.arrived += 1
            newcomer = replace(migrant, lineage=Lineage())  # no credit for what was bred elsewhere
            self._observe(newcomer)
            if not message.told:
                self._announce(newcomer)
            self._add(migrant, told=message.told)
            if copied:
                self._newcomers.append(identity)
        return self._make_room(rng)

    def _make_room(self, rng: np.random.Generator) -> list[IndividualId]:
        """Give up one individual for each immigrant that came; one without is not given up.

        Returns:
            The ids of those that the peers know of.
        """
        removed = []
        while self._newcomers and self._own.n_spare > 0:
            newcomers = set(self._newcomers)
            fit = [individual for individual in self._own if individual.id not in newcomers]
            if not fit:
                break
            n_owed = min(len(self._newcomers), len(fit), self._own.n_spare)
            replaced = self._migration.replaced(n_owed)(fit, rng)[:n_owed]
            if not len(replaced):
                raise ValueError(
                    f"replaced({n_owed}) of the migration policy must select somebody, but has "
                    f"selected nobody of {len(fit)} individuals."
                )
            for individual in replaced:
                self._newcomers.popleft()
                self.tally.replaced += 1
                if self._give_up(individual.id):
                    removed.append(individual.id)
        self.tally.owed = len(self._newcomers)
        return removed

    def _give_up(self, identity: IndividualId) -> bool:
        self._known.remove(identity)
        return self._own.give_up(identity)

    def _matters(self, reserve: Individual) -> bool:
        """Tell whether the peers must know of an individual: whether it is in the pool."""
        return self._known.rank(reserve) < self._size

    def _inform(self, removed: Sequence[IndividualId] = ()) -> None:
        """Tell the peers of reserves that belong into the breeding pool, and of ``removed``."""
        added = []
        while (reserve := self._own.best_reserve) is not None:
            if not self._matters(reserve):
                break
            self._own.offer(reserve)
            added.append(reserve)
        n_heard = max(self.tally.born + self.tally.arrived, self._exchange.n_workers)
        due = self._n_unannounced * _TOLD_AT_ONCE >= n_heard
        if not (added or removed or due):
            return
        while (last := self._own.worst_offered) is not None:
            if self._known.rank(last) < 2 * self._size:
                break
            self._own.withdraw(last)
            self._withdrawn.append(last.id)
        born = tuple(self._unannounced)
        self._exchange.publish(News(tuple(added), (*removed, *self._withdrawn), born))
        self._withdrawn.clear()
        self._unannounced.clear()
        self._n_unannounced = 0
