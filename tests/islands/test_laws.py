"""The laws of the archipelago, on a virtual clock: any archipelago, any delay, any order."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from support import laws
from support.laws import Witness

from optuna_propulate.breeders import OperatorBreeder
from optuna_propulate.breeders import WarmUp
from optuna_propulate.islands import Archipelago
from optuna_propulate.islands import Migration
from optuna_propulate.islands import MigrationPolicy
from optuna_propulate.islands import Pollination
from optuna_propulate.islands import resolve_topology
from optuna_propulate.islands.simulation import Simulation
from optuna_propulate.islands.simulation import over
from optuna_propulate.islands.simulation import simulate
from optuna_propulate.islands.simulation import worker_streams
from optuna_propulate.operators import SelectBest
from optuna_propulate.operators import SelectTournament
from optuna_propulate.operators import SelectUniform
from optuna_propulate.operators import SelectWorst
from optuna_propulate.operators import crossover_and_mutation


if TYPE_CHECKING:
    from optuna_propulate.evolution.individual import Individual

PLANE = {"x": FloatDistribution(-5, 5), "y": FloatDistribution(-5, 5)}

selections = st.sampled_from([SelectBest, SelectWorst, SelectUniform, SelectTournament])
probabilities = st.sampled_from([0.05, 0.5, 1.0])


class BestForBest:
    """A policy of somebody else's: copies of the best take the place of the best."""

    leaves_home = False

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def emigrants(self, n: int) -> SelectBest:
        return SelectBest(n)

    replaced = emigrants


policies = (
    st.builds(Migration, probabilities, selections)
    | st.builds(Pollination, probabilities, selections, selections)
    | st.builds(BestForBest, probabilities)
)


def evaluations(seed: int, drift: float, n_losses: int) -> Any:
    """Return an objective whose losses tie now and then, and get better or worse in time."""
    rng = np.random.default_rng(seed)
    n_before = count()
    return lambda genes: float(rng.integers(n_losses)) + drift * next(n_before)


def exponential(seed: int, mean: float) -> Any:
    rng = np.random.default_rng(seed)
    return lambda *workers: float(rng.exponential(mean)) if mean else 0.0


def run(
    sizes: tuple[int, ...],
    topology: Any,
    policy: MigrationPolicy,
    *,
    n_trials: int,
    population_size: int,
    seed: int = 0,
    drift: float = 0.0,
    mean_delay: float = 1.0,
    n_losses: int = 1000,
) -> Simulation:
    archipelago = Archipelago(sizes)
    return simulate(
        archipelago,
        n_trials=n_trials,
        objective=over({}, evaluations(seed, drift, n_losses)),
        duration=exponential(seed + 1, 1.0),
        breeder=OperatorBreeder(lambda pool, rng: []),
        topology=resolve_topology(topology, archipelago.n_islands),
        migration=policy,
        population_size=population_size,
        streams=worker_streams(seed, sum(sizes)),
        delay=exponential(seed + 2, mean_delay),
        island_type=Witness,
    )


def check_laws(
    finished: Simulation, policy: MigrationPolicy, n_trials: int, population_size: int
) -> None:
    assert sorted(individual.number for individual in finished.births) == list(range(n_trials))
    journeys = [
        laws.Journey(individual.id, origin, departure.island)
        for _, origin, departure in finished.departures
        for individual in departure.individuals
    ]
    views = [laws.View.of(island) for island in finished.islands if isinstance(island, Witness)]
    assert len(views) == len(finished.islands)
    laws.check(
        views,
        finished.births,
        journeys,
        leaving=policy.leaves_home,
        population_size=population_size,
    )


@st.composite
def archipelagos(draw: st.DrawFn) -> tuple[tuple[int, ...], list[list[int]]]:
    sizes = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=5)))
    n = len(sizes)
    entries = st.integers(0, 3)
    return sizes, [[draw(entries) if i != j else 0 for j in range(n)] for i in range(n)]


@settings(max_examples=100)
@given(
    archipelagos(),
    policies,
    st.integers(2, 6),
    st.integers(0, 2**20),
    st.sampled_from([-0.1, 0.0, 0.1]),
    st.sampled_from([0.0, 0.3, 3.0, 100.0]),
    st.sampled_from([2, 1000]),
)
def test_the_laws_hold_in_any_order_of_arrival(
    archipelago: tuple[tuple[int, ...], list[list[int]]],
    policy: MigrationPolicy,
    population_size: int,
    seed: int,
    drift: float,
    mean_delay: float,
    n_losses: int,
) -> None:
    sizes, topology = archipelago
    finished = run(
        sizes,
        topology,
        policy,
        n_trials=150,
        population_size=population_size,
        seed=seed,
        drift=drift,
        mean_delay=mean_delay,
        n_losses=n_losses,
    )
    check_laws(finished, policy, 150, population_size)


LARGE = [
    ((50,) * 4, "fully_connected"),
    ((200,), "unconnected"),
    ((1, 2, 3) * 20, "ring"),
    ((1,) * 100, "torus"),
]


@pytest.mark.parametrize("policy", [Migration(0.5), Pollination(0.5)], ids=["move", "copy"])
@pytest.mark.parametrize(("sizes", "topology"), LARGE)
def test_the_laws_hold_for_hundreds_of_workers_and_thousands_of_trials(
    sizes: tuple[int, ...], topology: str, policy: MigrationPolicy
) -> None:
    finished = run(
        sizes, topology, policy, n_trials=5000, population_size=20, drift=-0.1, n_losses=2000
    )
    check_laws(finished, policy, 5000, 20)


def test_a_run_depends_on_nothing_but_its_seed() -> None:
    policy = Pollination(0.5, SelectUniform)
    runs = [
        run((3, 4), "ring", policy, n_trials=400, population_size=6, seed=seed)
        for seed in (1, 1, 2)
    ]
    assert runs[0].births == runs[1].births
    assert runs[0].departures == runs[1].departures
    assert runs[0].births != runs[2].births


def _sphere(values: Any) -> float:
    return sum(value**2 for value in values.values())


def _evolve(sizes: tuple[int, ...], first: int, n_trials: int) -> list[Individual]:
    """Evolve unconnected islands whose workers are numbered from ``first`` on elsewhere."""
    return simulate(
        Archipelago(sizes),
        n_trials=n_trials,
        objective=over(PLANE, _sphere),
        duration=lambda worker, genes: 1.0 + 0.1 * (first + worker),
        breeder=WarmUp(8, crossover_and_mutation()),
        topology=resolve_topology("unconnected", len(sizes)),
        migration=Pollination(1.0),
        population_size=8,
        streams=worker_streams(5, first + sum(sizes))[first:],
        delay=lambda sender, receiver: 0.25,
    ).births


def _course(births: list[Individual], worker: int) -> list[Any]:
    return [
        (i.loss, i.generation, i.lineage.operators, {name: g.value for name, g in i.genes.items()})
        for i in births
        if i.worker == worker
    ]


def test_unconnected_islands_evolve_as_separate_jobs_to_the_bit() -> None:
    together = _evolve((3, 1, 2), 0, 1000)
    for first, size in ((0, 3), (3, 1), (4, 2)):
        n_trials = sum(first <= i.worker < first + size for i in together)
        alone = _evolve((size,), first, n_trials)
        for worker in range(size):
            assert _course(alone, worker) == _course(together, first + worker)


@pytest.mark.parametrize("policy", [Migration(1.0), Pollination(1.0)], ids=["move", "copy"])
def test_memory_is_bounded_whatever_the_number_of_trials(policy: MigrationPolicy) -> None:
    finished = run((4, 4), "ring", policy, n_trials=8000, population_size=8, drift=-1.0)
    for view in finished.islands:
        assert view.n_known <= 2 * 8 * 4  # what the four owners hold at most
        assert len(view._known._balance) <= 2 * 8 * 4
        assert len(view._own) <= 2 * 8
