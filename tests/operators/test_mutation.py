from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from support.strategies import bred
from support.strategies import categories
from support.strategies import individuals
from support.strategies import search_spaces
from support.strategies import seeds

from optuna_propulate._optuna_compat import contains
from optuna_propulate.evolution.genes import Gene
from optuna_propulate.evolution.individual import Individual
from optuna_propulate.operators import IntervalMutation
from optuna_propulate.operators import Operator
from optuna_propulate.operators import PointMutation


if TYPE_CHECKING:
    from collections.abc import Callable


Mutation = type[PointMutation] | type[IntervalMutation]

mutations = pytest.mark.parametrize("mutation", [PointMutation, IntervalMutation])
some_spaces = search_spaces(min_size=1).flatmap(
    lambda space: st.tuples(st.just(space), bred(space))
)


def mutate(operator: Operator, individual: Individual, seed: int) -> Individual:
    """Return the one individual that comes back."""
    (mutant,) = operator([individual], np.random.default_rng(seed))
    return mutant


def changed_names(before: Individual, after: Individual) -> list[str]:
    """Return the names of the genes that are not the very objects they were."""
    assert before.genes.keys() == after.genes.keys()
    return [name for name, gene in before.genes.items() if after.genes[name] is not gene]


def uniform_individual(n_genes: int) -> Individual:
    """Return an offspring with genes a, b, c, ... in the middle of (0, 1)."""
    distribution = FloatDistribution(0.0, 1.0)
    return Individual(genes={name: Gene(0.5, distribution) for name in "abcdefgh"[:n_genes]})


@mutations
@given(individual=bred() | individuals(), seed=seeds)
def test_no_probability_means_no_mutation(
    mutation: Mutation, individual: Individual, seed: int
) -> None:
    assert mutate(mutation(probability=0.0), individual, seed) is individual


@mutations
@given(several=st.lists(bred(), max_size=4), seed=seeds)
def test_as_many_come_back_as_went_in(
    mutation: Mutation, several: list[Individual], seed: int
) -> None:
    assert len(mutation(probability=0.5)(several, np.random.default_rng(seed))) == len(several)


@mutations
def test_a_mutant_keeps_its_parents_and_names_the_mutation(mutation: Mutation) -> None:
    name = mutation.__name__
    parent = Individual(genes=uniform_individual(2).genes, number=4, island=2)
    mutant = mutate(mutation(probability=1.0), parent, 0)
    assert mutant.lineage.operators == (name,)
    assert (mutant.lineage.parents, mutant.lineage.homes) == ((4,), (2,))
    again = mutate(mutation(probability=1.0), mutant, 1)
    assert again.lineage.operators == (name, name)
    assert again.lineage.parents == (4,)
    assert again.generation == mutant.generation == 1


@mutations
def test_an_individual_without_genes_stays(mutation: Mutation) -> None:
    bare = Individual(genes={})
    assert mutate(mutation(probability=1.0), bare, 0) is bare


@mutations
def test_mutation_happens_as_often_as_set(mutation: Mutation) -> None:
    crowd = [uniform_individual(2)] * 4000
    mutants = mutation(probability=0.3)(crowd, np.random.default_rng(2))
    n_changed = sum(mutant is not crowd[0] for mutant in mutants)
    assert n_changed / 4000 == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / 4000))


@mutations
def test_every_gene_mutates_equally_often(mutation: Mutation) -> None:
    crowd = [uniform_individual(4)] * 4000
    mutants = mutation(probability=1.0)(crowd, np.random.default_rng(3))
    counts = Counter(gene for mutant in mutants for gene in changed_names(crowd[0], mutant))
    assert counts.total() == 4000
    assert all(abs(counts[gene] - 1000) < 5 * math.sqrt(1000) for gene in "abcd")


@given(some_spaces, st.integers(1, 7), seeds)
def test_point_mutation_redraws_k_genes_and_keeps_the_rest(
    drawn: tuple[dict[str, BaseDistribution], Individual], k: int, seed: int
) -> None:
    _, individual = drawn
    mutant = mutate(PointMutation(probability=1.0, n_genes=k), individual, seed)
    changed = changed_names(individual, mutant)
    assert len(changed) == min(k, len(individual.genes))
    for name in changed:
        gene = mutant.genes[name]
        assert gene.distribution is individual.genes[name].distribution
        assert contains(gene.distribution, gene.value)


def test_point_mutation_covers_the_whole_range_evenly() -> None:
    gene = Gene(0.01, FloatDistribution(1e-4, 1.0, log=True))
    crowd = [Individual(genes={"x": gene})] * 4000
    mutants = PointMutation(probability=1.0)(crowd, np.random.default_rng(4))
    powers = [math.log10(mutant.genes["x"].value) for mutant in mutants]
    counts, _ = np.histogram(powers, bins=8, range=(-4, 0))
    assert counts.sum() == 4000
    assert np.abs(counts - 500).max() < 5 * math.sqrt(500)


@given(some_spaces, st.floats(1e-6, 1e6), seeds)
def test_interval_mutation_moves_one_ordered_gene_within_its_distribution(
    drawn: tuple[dict[str, BaseDistribution], Individual], sigma_factor: float, seed: int
) -> None:
    space, individual = drawn
    ordered = [
        name for name in individual.genes if not isinstance(space[name], CategoricalDistribution)
    ]
    operator = IntervalMutation(probability=1.0, sigma_factor=sigma_factor)
    mutant = mutate(operator, individual, seed)
    if not ordered:
        assert mutant is individual
        return
    (name,) = changed_names(individual, mutant)
    gene = mutant.genes[name]
    assert name in ordered
    assert contains(gene.distribution, gene.value)


@given(search_spaces(categories()).flatmap(bred), seeds)
def test_interval_mutation_leaves_categories_alone(individual: Individual, seed: int) -> None:
    assert mutate(IntervalMutation(probability=1.0), individual, seed) is individual


@pytest.mark.parametrize(
    ("middle", "distribution", "scale"),
    [
        (3.0, FloatDistribution(-2.0, 8.0), lambda value: (value - 3.0) / 10.0),
        (1e-2, FloatDistribution(1e-6, 1e2, log=True), lambda v: math.log10(v / 1e-2) / 8.0),
        (5000, IntDistribution(0, 10_000), lambda value: (value - 5000) / 10_001),
    ],
    ids=["linear", "log", "integer"],
)
def test_interval_mutation_steps_by_a_normal_fraction_of_the_scale(
    middle: Any, distribution: BaseDistribution, scale: Callable[[Any], float]
) -> None:
    crowd = [Individual(genes={"x": Gene(middle, distribution)})] * 4000
    operator = IntervalMutation(probability=1.0, sigma_factor=0.05)
    mutants = operator(crowd, np.random.default_rng(5))
    steps = np.array([scale(mutant.genes["x"].value) for mutant in mutants]) / 0.05
    assert abs(steps.mean()) < 4 / math.sqrt(4000)
    assert steps.std() == pytest.approx(1.0, abs=4 / math.sqrt(2 * 4000))
    assert np.mean(np.abs(steps) < 1.0) == pytest.approx(0.683, abs=0.03)


def test_a_long_step_ends_at_an_end_of_the_range() -> None:
    crowd = [uniform_individual(1)] * 200
    operator = IntervalMutation(probability=1.0, sigma_factor=1e9)
    mutants = operator(crowd, np.random.default_rng(6))
    assert {mutant.genes["a"].value for mutant in mutants} == {0.0, 1.0}


@mutations
@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_a_probability_out_of_range_is_refused_by_name(mutation: Mutation, value: float) -> None:
    with pytest.raises(ValueError, match=r"^probability must"):
        mutation(probability=value)


@pytest.mark.parametrize("n_genes", [0, -1])
def test_mutating_no_gene_is_refused(n_genes: int) -> None:
    with pytest.raises(ValueError, match=f"^n_genes must.*{n_genes}"):
        PointMutation(n_genes=n_genes)


@pytest.mark.parametrize("sigma_factor", [0.0, -0.1, math.nan])
def test_a_step_without_width_is_refused(sigma_factor: float) -> None:
    with pytest.raises(ValueError, match=f"^sigma_factor must.*{sigma_factor}"):
        IntervalMutation(sigma_factor=sigma_factor)


def test_any_number_of_genes_in_the_range_is_equally_likely() -> None:
    rng, individual = np.random.default_rng(1), uniform_individual(8)
    operator = PointMutation(probability=1.0, n_genes=(2, 5))
    counts = Counter(
        len(changed_names(individual, operator([individual], rng)[0])) for _ in range(4000)
    )
    assert set(counts) == {2, 3, 4, 5}
    assert all(abs(count / 4000 - 0.25) < 0.03 for count in counts.values())


@pytest.mark.parametrize("n_genes", [(0, 2), (3, 2)])
def test_a_range_out_of_order_is_refused(n_genes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="n_genes"):
        PointMutation(n_genes=n_genes)
