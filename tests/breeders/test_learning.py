"""Laws of all breeders: offspring are in range, reproducible and have real parents."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from support.strategies import pools
from support.strategies import seeds

from optuna_propulate._optuna_compat import contains
from optuna_propulate.breeders import AvoidDuplicates
from optuna_propulate.breeders import BreedingContext
from optuna_propulate.breeders import CovarianceSampling
from optuna_propulate.breeders import CreditChoice
from optuna_propulate.breeders import DifferentialMutation
from optuna_propulate.breeders import InheritMissing
from optuna_propulate.breeders import ParzenSampling
from optuna_propulate.breeders import Recombination
from optuna_propulate.breeders import Screening
from optuna_propulate.breeders import default_breeder
from optuna_propulate.breeders.base import breeder_of
from optuna_propulate.breeders.differential_evolution import SuccessHistory
from optuna_propulate.breeders.duplicates import KnownSettings
from optuna_propulate.breeders.gene_matrix import GeneMatrix
from optuna_propulate.breeders.parzen import Mixture
from optuna_propulate.evolution.genes import Gene
from optuna_propulate.evolution.individual import Individual
from optuna_propulate.evolution.individual import Lineage
from optuna_propulate.evolution.ranking import by_loss
from optuna_propulate.operators import Pipeline
from optuna_propulate.operators import PointMutation
from optuna_propulate.operators import SelectUniform
from optuna_propulate.operators import SelfAdaptiveMutation


if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from optuna_propulate.breeders import Breeder
    from optuna_propulate.operators import Operator

Way = Callable[[], "Operator | Breeder"]

WAYS: dict[str, Way] = {
    "steps": lambda: Pipeline(SelectUniform(1), SelfAdaptiveMutation()),
    "differences": DifferentialMutation,
    "densities": lambda: ParzenSampling(n_candidates=5, n_bad=5),
    "covariance": lambda: CovarianceSampling(SelfAdaptiveMutation()),
    "recombination": Recombination,
    "screened": lambda: Screening(Recombination(), n_children=3, share=1.0),
    "screened operators": lambda: Screening(
        Pipeline(SelectUniform(1), SelfAdaptiveMutation()), share=0.5
    ),
    "screened ways": lambda: Screening(
        InheritMissing(
            CreditChoice(
                [ParzenSampling(), CovarianceSampling(ParzenSampling()), DifferentialMutation()],
                [0.3, 0.3, 0.3],
            )
        ),
        n_children=9,
        share=0.9,
    ),
    "all, by credit": lambda: default_breeder(3, n_workers=2),
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
any_way = st.sampled_from(list(WAYS.values()))
UNIT = FloatDistribution(0.0, 1.0)


class Worker:
    """Breeds in one way, from what it has heard of.

    Args:
        way: An operator or a breeder.
        pool: The breeding pool, all of which it has heard of.
    """

    def __init__(self, way: Operator | Breeder, pool: Sequence[Individual] = ()) -> None:
        self.breeder, self.context = breeder_of(way), BreedingContext()
        for individual in pool:
            self.hear(individual)
        self.context.pool = pool

    def hear(self, individual: Individual) -> None:
        self.breeder.observe(self.context.evaluated(individual))

    def breed(self, rng: np.random.Generator) -> Individual:
        return self.breeder.propose(self.context, rng)


def trial(number: int, loss: float, lineage: Lineage | None = None, **values: Any) -> Individual:
    """Return a trial whose genes are floats in (0, 1), or what a pair of value and range says."""
    genes = {
        name: Gene(*value) if isinstance(value, tuple) else Gene(value, UNIT)
        for name, value in values.items()
    }
    return Individual(genes=genes, loss=loss, number=number, lineage=lineage or Lineage())


@given(any_way, pools(min_size=1, max_size=12), seeds)
def test_offspring_have_genes_in_range_and_parents_in_the_pool(
    way: Way, pool: list[Individual], seed: int
) -> None:
    worker, rng = Worker(way(), pool), np.random.default_rng(seed)
    for _ in range(3):
        child = worker.breed(rng)
        for gene in child.genes.values():
            assert contains(gene.distribution, gene.value)
        assert math.isinf(child.loss) or not child.genes
        assert set(child.lineage.parents) <= {individual.number for individual in pool}


@given(any_way, pools(max_size=8), seeds)
def test_one_seed_breeds_one_offspring(way: Way, pool: list[Individual], seed: int) -> None:
    def bred() -> list[str]:
        worker, rng = Worker(way(), pool), np.random.default_rng(seed)
        children = [worker.breed(rng) for _ in range(3)]
        return [repr((sorted(child.genes.items()), child.lineage)) for child in children]

    assert bred() == bred()


@every_way
def test_nothing_but_chance_comes_of_an_empty_pool(way: Way) -> None:
    child = Worker(way()).breed(np.random.default_rng(1))
    assert not child.genes
    assert not child.lineage.parents


@given(any_way, pools(min_size=4, max_size=12), seeds)
def test_a_copy_goes_on_as_its_original(way: Way, pool: list[Individual], seed: int) -> None:
    workers = [Worker(way(), pool)]
    workers += [deepcopy(workers[0]), pickle.loads(pickle.dumps(workers[0]))]
    bred = [worker.breed(np.random.default_rng(seed)) for worker in workers]
    assert len({repr((sorted(child.genes.items()), child.lineage)) for child in bred}) == 1


def search(
    way: Operator | Breeder,
    loss: Callable[[np.ndarray], float],
    n_genes: int,
    n_trials: int,
    seed: int,
) -> float:
    """Return the best loss of a search by one worker with a pool of twenty."""
    rng, worker = np.random.default_rng(seed), Worker(way)
    trials: list[Individual] = []
    for number in range(n_trials):
        worker.context.pool = sorted(trials, key=by_loss)[:20]
        child = worker.breed(rng) if number >= 10 else Individual(genes={})
        units = child.units if number >= 10 else rng.random(n_genes)
        genes = {f"x{i}": Gene(float(unit), UNIT) for i, unit in enumerate(units)}
        born = Individual(genes, loss(units), number, lineage=child.lineage)
        worker.hear(born)
        trials.append(born)
    return min(one.loss for one in trials)


@every_way
def test_every_way_alone_finds_a_bowl(way: Way) -> None:
    best = search(way(), lambda x: float(np.sum((x - 0.3) ** 2)), 3, 300, 1)
    assert best < 1e-3  # at random: 8e-3


def test_covariance_follows_a_valley() -> None:
    def valley(x: np.ndarray) -> float:
        x = 4.0 * x - 2.0
        return float(100.0 * (x[1] - x[0] ** 2) ** 2 + (1.0 - x[0]) ** 2)

    losses = [
        search(CovarianceSampling(SelfAdaptiveMutation()), valley, 2, 600, seed)
        for seed in range(5)
    ]
    assert np.median(losses) < 1e-6


def test_covariance_follows_a_single_gene() -> None:
    best = [
        search(CovarianceSampling(SelectUniform(1)), lambda x: float((x[0] - 0.3) ** 2), 1, 300, s)
        for s in range(5)
    ]
    assert np.median(best) < 1e-9  # at random: 1e-6


def test_a_child_inherits_the_width_that_its_parent_carries() -> None:
    narrow = trial(0, 1.0, Lineage(strategy={"sigma": 1e-6}), x=0.5)
    wide = trial(1, 1.0, Lineage(strategy={"sigma": 0.2}), x=0.5)
    rng = np.random.default_rng(1)
    for parent, low, high in ((narrow, 1e-8, 1e-4), (wide, 1e-2, 0.5)):
        children = [SelfAdaptiveMutation()([parent], rng)[0] for _ in range(300)]
        assert low < np.median([abs(child.genes["x"].value - 0.5) for child in children]) < high
        sigmas = [child.lineage.strategy["sigma"] for child in children]
        assert len(set(sigmas)) > 250


def test_discrete_genes_move_by_a_whole_value_at_least() -> None:
    parent = trial(0, 1.0, Lineage(strategy={"sigma": 1e-9}), n=(5, IntDistribution(0, 10)))
    children = [SelfAdaptiveMutation()([parent], np.random.default_rng(s))[0] for s in range(50)]
    assert {child.genes["n"].value for child in children} == {4, 6}


def test_a_success_moves_what_is_drawn_and_a_beaten_target_retires() -> None:
    history = SuccessHistory(1)
    strategy = {"F": 0.9, "CR": 0.1, "target_loss": 2.0, "target_violation": 0.0}
    lineage = Lineage(("DifferentialMutation",), (7,), strategy=strategy)
    history.add(trial(8, 2.5, lineage, x=0.1))
    assert not history.beaten
    for number in range(9, 20):
        history.add(trial(number, 1.0, lineage, x=0.1))
    assert set(history.beaten) == {7}
    rng = np.random.default_rng(1)
    factors, rates = np.transpose([history.draw(rng) for _ in range(500)])
    assert 0.85 < np.median(factors) <= 0.95
    assert 0.05 < np.median(rates) < 0.15


def test_children_do_not_crowd_where_trials_are_pending() -> None:
    good = [trial(number, 0.1, x=0.2 if number % 2 else 0.8) for number in range(4)]
    others = [trial(number, 1.0, x=number / 40) for number in range(4, 40)]
    worker, rng = Worker(ParzenSampling(), [*good, *others]), np.random.default_rng(1)

    def share_below_half() -> float:
        return float(np.mean([worker.breed(rng).genes["x"].value < 0.5 for _ in range(200)]))

    free = share_below_half()
    worker.context.pending = [trial(-1, math.inf, x=0.2) for _ in range(20)]
    assert share_below_half() < free - 0.2


def test_what_a_child_lacks_is_inherited_from_who_has_it() -> None:
    kind = CategoricalDistribution(("a", "b"))
    pool = [trial(0, 0.0, kind=("a", kind), x=0.25), trial(1, 1.0, kind=("b", kind), y=0.75)]
    mutation = Pipeline(SelectUniform(1), PointMutation(1.0))
    for seed in range(20):
        worker = Worker(InheritMissing(mutation, probability=1.0), pool)
        child = worker.breed(np.random.default_rng(seed))
        assert child.genes.keys() == {"kind", "x", "y"}
    worker = Worker(InheritMissing(mutation, probability=0.0), pool)
    assert len(worker.breed(np.random.default_rng(0)).genes) == 2


def test_the_last_free_setting_of_a_discrete_space_is_found() -> None:
    three, two = IntDistribution(0, 2), CategoricalDistribution(("a", "b"))
    settings = [(n, c) for n in range(3) for c in "ab"]
    known = [trial(i, float(i), n=(n, three), c=(c, two)) for i, (n, c) in enumerate(settings[:4])]
    worker = Worker(AvoidDuplicates(SelectUniform(1), n_tries=200), known)
    n, c = settings[4]
    worker.context.pending = [trial(-1, math.inf, n=(n, three), c=(c, two))]
    for seed in range(10):
        child = worker.breed(np.random.default_rng(seed))
        assert (child.genes["n"].value, child.genes["c"].value) == settings[5]


def test_a_copy_of_anything_evaluated_is_mutated_in_continuous_spaces_too() -> None:
    heard = [trial(i, float(i), x=i / 20, y=0.5) for i in range(10)]
    worker = Worker(AvoidDuplicates(SelectUniform(1)), heard)
    seen = {(one.genes["x"].value, one.genes["y"].value) for one in heard}
    for seed in range(30):
        child = worker.breed(np.random.default_rng(seed))
        assert (child.genes["x"].value, child.genes["y"].value) not in seen


def test_an_exhausted_space_breeds_duplicates() -> None:
    bit = IntDistribution(0, 1)
    known = [trial(i, float(i), n=(i, bit)) for i in range(2)]
    child = Worker(AvoidDuplicates(SelectUniform(1)), known).breed(np.random.default_rng(1))
    assert child.genes["n"].value in (0, 1)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: SelfAdaptiveMutation(sigma=0.0), "sigma"),
        (lambda: SelfAdaptiveMutation(learning_rate=-1.0), "learning_rate"),
        (lambda: DifferentialMutation(p=0.0), "p must"),
        (lambda: DifferentialMutation(n_remembered=0), "n_remembered"),
        (lambda: ParzenSampling(n_candidates=0), "n_candidates"),
        (lambda: ParzenSampling(n_bad=0), "n_bad"),
        (lambda: CovarianceSampling(SelectUniform(1), n_births=3), "n_births"),
        (lambda: CovarianceSampling(SelectUniform(1), sigma=0.0), "sigma"),
        (lambda: InheritMissing(SelectUniform(1), probability=2.0), "probability"),
        (lambda: AvoidDuplicates(SelectUniform(1), n_tries=0), "n_tries"),
        (lambda: default_breeder(1), "population_size"),
    ],
)
def test_bad_settings_are_refused(make: Way, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()


@every_way
def test_genes_that_only_a_member_of_the_pool_shows_are_bred_from(way: Way) -> None:
    kind = CategoricalDistribution(("a", "b"))
    heard = [trial(i, float(i), kind=("a", kind), x=i / 20, z=0.5) for i in range(12)]
    worker = Worker(way(), heard)
    for _ in range(3):
        worker.breed(np.random.default_rng(1))
    unheard = trial(99, -1.0, kind=("b", kind), a=0.5, y=0.25)
    worker.context.look_at([unheard, *heard], [trial(-1, math.inf, b=0.5)])
    rng = np.random.default_rng(2)
    assert any("y" in worker.breed(rng).genes for _ in range(60))


def test_a_range_that_has_changed_is_the_one_bred_in() -> None:
    wide = FloatDistribution(0.0, 100.0)
    pool = [trial(i, abs(i / 20 - 0.5), x=i / 20) for i in range(20)]
    worker = Worker(DifferentialMutation(), pool)
    context = worker.context
    worker.hear(trial(20, 50.0, x=(50.0, wide)))
    (row,) = context.matrix.rows([trial(0, 0.0, x=0.5)])
    assert row.tolist() == [0.005]
    context.look_at([trial(i, 0.1, x=i / 20) for i in range(20)], ())  # of the old range
    assert context.matrix.rows([trial(0, 0.0, x=0.5)]).tolist() == [[0.005]]
    children = [worker.breed(np.random.default_rng(s)) for s in range(60)]
    assert np.median([child.genes["x"].value for child in children]) < 10.0


@pytest.mark.parametrize("high", [4, 128])
def test_every_log_scaled_integer_can_be_drawn(high: int) -> None:
    matrix, space = GeneMatrix(), IntDistribution(1, high, log=True)
    matrix.include(trial(0, 0.0, n=(1, space)))
    places, _ = Mixture(matrix, []).sample(20_000, np.random.default_rng(1))
    assert {matrix.genes(row)["n"].value for row in places} == set(range(1, high + 1))


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (IntDistribution(0, 1), 0),
        (IntDistribution(0, 9), 9),
        (IntDistribution(1, 1024, log=True), 1),
    ],
)
def test_steps_of_discrete_genes_change_them_at_bounds_too(
    space: IntDistribution, value: int
) -> None:
    parent = trial(0, 1.0, Lineage(strategy={"sigma": 1e-9}), n=(value, space))
    for seed in range(50):
        (child,) = SelfAdaptiveMutation()([parent], np.random.default_rng(seed))
        assert child.genes["n"].value != value


@pytest.mark.filterwarnings("ignore:Choices for a categorical")
def test_choices_without_a_hash_are_told_apart() -> None:
    layers = CategoricalDistribution([[32], [64, 64]])  # type: ignore[list-item]
    worker = Worker(
        AvoidDuplicates(SelectUniform(1), n_tries=50), [trial(0, 1.0, h=([32], layers))]
    )
    child = worker.breed(np.random.default_rng(1))
    assert child.genes["h"].value == [64, 64]


def test_what_is_known_of_many_branches_is_bounded() -> None:
    known, rng, bit = KnownSettings(), np.random.default_rng(1), IntDistribution(0, 1)
    for number in range(1000):
        on = {f"p{i}": (1, bit) for i in np.flatnonzero(rng.random(20) < 0.5)}
        known.add(trial(number, 1.0, **on))
    assert len(known._values) <= 64


@pytest.mark.parametrize("choices", [(None, 0), (1, None), (True, 0), (0.0, 0.1, None, 2)])
def test_a_choice_is_known_by_itself_alone(choices: tuple[Any, ...]) -> None:
    kind = CategoricalDistribution(choices)
    for heard in choices:
        known = KnownSettings()
        known.add(trial(0, 1.0, c=(heard, kind)))
        found = [other for other in choices if known.holds(trial(1, 1.0, c=(other, kind)))]
        assert found == [heard]


def test_a_choice_that_is_no_number_is_known_again() -> None:
    known = KnownSettings()
    for number in range(2):
        choices = (float("nan"), 1.0)
        child = trial(number, 1.0, c=(choices[0], CategoricalDistribution(choices)))
        assert known.holds(child) == (number == 1)
        known.add(child)
