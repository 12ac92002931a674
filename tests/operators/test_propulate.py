from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from support.strategies import pools
from support.strategies import seeds
from support.strategies import units

from optuna_propulate._optuna_compat import contains
from optuna_propulate.evolution.genes import Gene
from optuna_propulate.evolution.individual import UNNUMBERED
from optuna_propulate.evolution.individual import Individual
from optuna_propulate.operators import crossover_and_mutation
from optuna_propulate.operators import propulate_defaults


if TYPE_CHECKING:
    from optuna_propulate.operators import Operator


full_pools = pools(min_size=3, max_size=5)


@st.composite
def papers_operators(draw: st.DrawFn, /, **fixed: float) -> Operator:
    """Draw the operators of the paper with any settings but those fixed."""
    settings = {
        "crossover_probability": draw(units),
        "mutation_probability": draw(units),
        "random_probability": draw(units),
        "sigma_factor": draw(st.floats(1e-6, 10.0)),
    }
    return crossover_and_mutation(**(settings | fixed))


def breed(operator: Operator, pool: list[Individual], seed: int) -> Individual:
    """Return the one offspring of the pool."""
    (child,) = operator(pool, np.random.default_rng(seed))
    return child


@given(papers_operators(), pools(min_size=1), seeds)
def test_any_pool_has_exactly_one_offspring(
    operator: Operator, pool: list[Individual], seed: int
) -> None:
    assert len(operator(pool, np.random.default_rng(seed))) == 1


@given(papers_operators(), pools(min_size=1), seeds)
def test_every_gene_bred_lies_in_its_distribution(
    operator: Operator, pool: list[Individual], seed: int
) -> None:
    for gene in breed(operator, pool, seed).genes.values():
        assert contains(gene.distribution, gene.value)


@given(papers_operators(), pools(min_size=1), seeds)
def test_every_parameter_of_the_offspring_is_known_in_the_pool(
    operator: Operator, pool: list[Individual], seed: int
) -> None:
    known = {name: gene.distribution for i in pool for name, gene in i.genes.items()}
    for name, gene in breed(operator, pool, seed).genes.items():
        assert gene.distribution is known[name]


@given(papers_operators(), pools(min_size=1), seeds)
def test_parents_are_of_the_pool_and_the_generation_follows_from_them(
    operator: Operator, pool: list[Individual], seed: int
) -> None:
    child = breed(operator, pool, seed)
    members = {individual.number: individual for individual in pool}
    parents = [members[number] for number in child.lineage.parents]
    assert child.lineage.homes == tuple(parent.island for parent in parents)
    assert child.generation == max((1 + parent.generation for parent in parents), default=0)


@given(papers_operators(), pools(min_size=1), seeds)
def test_the_offspring_is_yet_to_be_evaluated(
    operator: Operator, pool: list[Individual], seed: int
) -> None:
    child = breed(operator, pool, seed)
    assert (child.number, child.loss, child.violation) == (UNNUMBERED, math.inf, 0.0)


@given(papers_operators(), pools(min_size=1), seeds)
def test_one_seed_breeds_one_offspring(
    operator: Operator, pool: list[Individual], seed: int
) -> None:
    assert repr(breed(operator, pool, seed)) == repr(breed(operator, pool, seed))


@given(papers_operators(), pools(min_size=1), seeds)
def test_breeding_leaves_the_pool_as_it_was(
    operator: Operator, pool: list[Individual], seed: int
) -> None:
    before = repr(pool)
    breed(operator, pool, seed)
    assert repr(pool) == before


@given(papers_operators(random_probability=1.0), full_pools, seeds)
def test_a_certain_random_individual_has_no_parents(
    operator: Operator, pool: list[Individual], seed: int
) -> None:
    assert breed(operator, pool, seed).lineage.parents == ()


@given(full_pools, seeds)
def test_without_any_probability_the_offspring_is_a_copy(
    pool: list[Individual], seed: int
) -> None:
    operator = crossover_and_mutation(
        crossover_probability=0.0, mutation_probability=0.0, random_probability=0.0
    )
    child = breed(operator, pool, seed)
    (parent,) = (i for i in pool if (i.number,) == child.lineage.parents)
    assert child.genes == parent.genes
    assert child.lineage.operators == ("Copy",)


@given(full_pools, seeds)
def test_as_in_propulate_parents_are_always_crossed_and_nothing_but_one_float_is_moved(
    pool: list[Individual], seed: int
) -> None:
    operator = propulate_defaults(mutation_probability=0.0, random_probability=0.0)
    child = breed(operator, pool, seed)
    parents = [i for i in pool if i.number in child.lineage.parents]
    new = [
        gene.distribution
        for name, gene in child.genes.items()
        if not any(gene is parent.genes.get(name) for parent in parents)
    ]
    floats = [g for g in child.genes.values() if isinstance(g.distribution, FloatDistribution)]
    assert len(parents) == 2
    assert len(new) == min(len(floats), 1)
    assert all(isinstance(distribution, FloatDistribution) for distribution in new)
    moved = ("IntervalMutation",) if floats else ()
    assert child.lineage.operators == ("UniformCrossover", *moved)


def test_operators_act_as_often_as_set_by_default() -> None:
    distribution = FloatDistribution(0.0, 1.0)
    pool = [
        Individual(genes={"x": Gene(0.5, distribution)}, loss=float(i), number=i) for i in range(4)
    ]
    operator, rng = crossover_and_mutation(), np.random.default_rng(1)
    counts = Counter(
        name for _ in range(4000) for name in operator(pool, rng)[0].lineage.operators
    )
    kept = 0.9  # a random individual forgets the operators before it
    assert counts["RandomInitialization"] / 4000 == pytest.approx(0.1, abs=0.02)
    assert counts["UniformCrossover"] / 4000 == pytest.approx(0.7 * kept, abs=0.035)
    assert counts["Copy"] / 4000 == pytest.approx(0.3 * kept, abs=0.035)
    assert counts["PointMutation"] / 4000 == pytest.approx(0.4 * kept, abs=0.035)
    assert counts["IntervalMutation"] / 4000 == pytest.approx(0.4 * kept, abs=0.035)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, value)
            for name in ("crossover_probability", "mutation_probability", "random_probability")
            for value in (-0.1, 1.1, math.nan)
        ),
        *(("sigma_factor", value) for value in (0.0, -1.0, math.nan)),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"^{name} must.*{value}"):
        crossover_and_mutation(**settings)
