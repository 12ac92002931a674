"""The laws of the archipelago, as checks of what the workers of a finished run know."""

from __future__ import annotations

from collections import Counter
from collections import defaultdict
from dataclasses import asdict
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Any

from optuna_propulate.evolution.ranking import by_loss
from optuna_propulate.islands import Island


if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence

    from optuna_propulate.evolution.individual import Individual
    from optuna_propulate.evolution.individual import IndividualId


class Witness(Island):
    """An island that writes down what it issues: who is active from now on, and who no longer."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.active = Counter[Any]()

    def _add(self, individual: Individual, *, told: bool = False) -> None:
        self.active[individual.id] += 1
        super()._add(individual, told=told)

    def _give_up(self, identity: IndividualId) -> bool:
        self.active[identity] -= 1
        return super()._give_up(identity)


@dataclass
class View:
    """What one worker knows at the end.

    Args:
        island: Where it lives.
        pool: The ids of its breeding pool.
        active: How often it made each individual active, less how often it retired it.
        tally: How many events of each kind it issued.
    """

    island: int
    pool: list[IndividualId]
    active: Counter[IndividualId]
    tally: dict[str, int]

    @classmethod
    def of(cls, witness: Witness) -> View:
        pool = [individual.id for individual in witness.breeding_pool]
        return cls(witness.index, pool, witness.active, asdict(witness.tally))

    def to_json(self) -> list[Any]:
        return [self.island, self.pool, list(self.active.items()), self.tally]

    @classmethod
    def from_json(cls, values: list[Any]) -> View:
        island, pool, active, tally = values
        counts = Counter({(number, worker): count for (number, worker), count in active})
        return cls(island, [(number, worker) for number, worker in pool], counts, tally)


@dataclass(frozen=True)
class Journey:
    """One individual that was sent from an island to another."""

    identity: IndividualId
    origin: int
    target: int


def check(
    views: Sequence[View],
    births: Iterable[Individual],
    journeys: Sequence[Journey],
    *,
    leaving: bool,
    population_size: int,
) -> None:
    """Check laws 1 to 3 of a finished run.

    Args:
        views: One for each worker.
        births: All individuals that were evaluated.
        journeys: All individuals that were sent.
        leaving: Whether migrants left for good, or copies of them travelled.
        population_size: The size of the breeding pool.
    """
    bred: defaultdict[int, set[IndividualId]] = defaultdict(set)
    keys: dict[IndividualId, Any] = {}
    for individual in births:
        bred[individual.island].add(individual.id)
        keys[individual.id] = by_loss(individual)
    by_island: defaultdict[int, list[View]] = defaultdict(list)
    for view in views:
        by_island[view.island].append(view)
    active = {island: _merged(here) for island, here in by_island.items()}
    for island, here in by_island.items():
        assert _total(here, "born") == len(bred[island])
        assert min(active[island].values(), default=0) >= 0
        _check_pools(here, active[island], keys, population_size)
    if leaving:
        _check_migration(active, bred, journeys)
    else:
        for island, here in by_island.items():
            _check_pollination(island, here, active[island], bred[island], journeys)


def _check_pools(
    here: list[View],
    active: Counter[IndividualId],
    keys: dict[IndividualId, Any],
    population_size: int,
) -> None:
    living = [identity for identity, n_stays in active.items() if n_stays > 0]
    replayed = sorted(living, key=lambda identity: keys[identity])[:population_size]
    for view in here:
        assert view.pool == replayed


def _check_migration(
    active: dict[int, Counter[IndividualId]],
    bred: dict[int, set[IndividualId]],
    journeys: Sequence[Journey],
) -> None:
    everywhere = Counter[Any]()
    for members in active.values():
        everywhere.update({key: n_stays for key, n_stays in members.items() if n_stays})
    assert everywhere == Counter(key for keys in bred.values() for key in keys)
    stays = Counter((key, island) for island, keys in bred.items() for key in keys)
    for journey in journeys:
        stays[journey.identity, journey.target] += 1
        stays[journey.identity, journey.origin] -= 1
    for island, members in active.items():
        assert all(stays[key, island] == n_stays for key, n_stays in members.items())


def _check_pollination(
    island: int,
    here: list[View],
    active: Counter[IndividualId],
    bred: set[IndividualId],
    journeys: Sequence[Journey],
) -> None:
    n_sent = sum(journey.target == island for journey in journeys)
    assert n_sent == _total(here, "arrived") + _total(here, "turned_away")
    assert _total(here, "arrived") == _total(here, "replaced") + _total(here, "owed")
    assert sum(active.values()) == len(bred) + _total(here, "arrived") - _total(here, "replaced")
    assert sum(active[key] == 0 for key in bred) <= _total(here, "replaced")


def _merged(here: list[View]) -> Counter[IndividualId]:
    """Return the sums of all counts, also where they are 0 or below, which ``+`` would drop."""
    merged = Counter[Any]()
    for view in here:
        merged.update(view.active)
    return merged


def _total(here: list[View], name: str) -> int:
    return sum(view.tally[name] for view in here)
