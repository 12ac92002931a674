from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from optuna.distributions import FloatDistribution
from support.strategies import pools
from support.strategies import seeds
from support.strategies import units

from optuna_propulate.evolution.genes import Gene
from optuna_propulate.evolution.individual import Individual
from optuna_propulate.operators import BoltzmannCrossover
from optuna_propulate.operators import MultiParentCrossover
from optuna_propulate.operators import Operator
from optuna_propulate.operators import UniformCrossover


if TYPE_CHECKING:
    from collections.abc import Sequence


couples = pools(min_size=2, max_size=4)
N_GENES = 4000


def cross(
    pool: Sequence[Individual], seed: int, probability: float = 1.0, parent_share: float = 0.5
) -> Individual:
    """Return the one child of the pool."""
    (child,) = UniformCrossover(probability, parent_share)(pool, np.random.default_rng(seed))
    return child


def long_individual(value: float, number: int) -> Individual:
    distribution = FloatDistribution(0.0, 1.0)
    return Individual(
        genes={f"x{i}": Gene(value, distribution) for i in range(N_GENES)}, number=number
    )


@given(couples, seeds, units, units)
def test_crossover_makes_exactly_one_child(
    pool: list[Individual], seed: int, probability: float, parent_share: float
) -> None:
    children = UniformCrossover(probability, parent_share)(pool, np.random.default_rng(seed))
    assert len(children) == 1


@given(couples, seeds)
def test_every_gene_is_that_of_a_parent(pool: list[Individual], seed: int) -> None:
    child = cross(pool, seed)
    for name, gene in child.genes.items():
        assert any(gene is parent.genes.get(name) for parent in pool[:2])


@given(couples, seeds, units)
def test_a_child_has_all_the_genes_that_either_parent_has(
    pool: list[Individual], seed: int, parent_share: float
) -> None:
    child = cross(pool, seed, parent_share=parent_share)
    assert child.genes.keys() == pool[0].genes.keys() | pool[1].genes.keys()


@given(couples, seeds)
def test_a_full_share_gives_the_genes_of_the_first_parent(
    pool: list[Individual], seed: int
) -> None:
    first, second, *_ = pool
    assert cross(pool, seed, parent_share=1.0).genes == {**second.genes, **first.genes}


@given(couples, seeds)
def test_no_share_gives_the_genes_of_the_second_parent(pool: list[Individual], seed: int) -> None:
    first, second, *_ = pool
    assert cross(pool, seed, parent_share=0.0).genes == {**first.genes, **second.genes}


@given(couples, seeds)
def test_both_parents_are_remembered_with_their_homes(pool: list[Individual], seed: int) -> None:
    first, second, *_ = pool
    child = cross(pool, seed)
    assert child.lineage.operators == ("UniformCrossover",)
    assert child.lineage.parents == (first.number, second.number)
    assert child.lineage.homes == (first.island, second.island)
    assert child.generation == 1 + max(first.generation, second.generation)


@given(couples, seeds)
def test_without_crossover_the_child_is_a_copy_of_the_first(
    pool: list[Individual], seed: int
) -> None:
    child = cross(pool, seed, probability=0.0)
    assert child.genes == pool[0].genes
    assert child.lineage.operators == ("Copy",)
    assert child.lineage.parents == (pool[0].number,)
    assert child.generation == 1 + pool[0].generation


@given(pools(min_size=1, max_size=1), seeds, units)
def test_a_lonely_parent_is_copied(pool: list[Individual], seed: int, probability: float) -> None:
    child = cross(pool, seed, probability)
    assert child.genes == pool[0].genes
    assert child.lineage.operators == ("Copy",)


@pytest.mark.parametrize("parent_share", [0.2, 0.5, 0.9])
def test_the_share_of_genes_from_the_first_parent_is_as_set(parent_share: float) -> None:
    child = cross([long_individual(1.0, 0), long_individual(0.0, 1)], 5, 1.0, parent_share)
    share = sum(gene.value for gene in child.genes.values()) / N_GENES
    tolerance = 4 * math.sqrt(parent_share * (1 - parent_share) / N_GENES)
    assert share == pytest.approx(parent_share, abs=tolerance)


def test_crossover_happens_as_often_as_set() -> None:
    rng = np.random.default_rng(11)
    pool = [Individual(genes={}, number=0), Individual(genes={}, number=1)]
    operator = UniformCrossover(probability=0.3)
    crossed = sum(len(operator(pool, rng)[0].lineage.parents) == 2 for _ in range(4000))
    assert crossed / 4000 == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / 4000))


@pytest.mark.parametrize("name", ["probability", "parent_share"])
@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_a_probability_out_of_range_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} must"):
        UniformCrossover(**{name: value})


@given(couples, seeds)
def test_a_boltzmann_child_has_every_gene_and_each_from_a_parent(
    pool: list[Individual], seed: int
) -> None:
    first, second, *_ = pool
    (child,) = BoltzmannCrossover()(pool, np.random.default_rng(seed))
    assert child.genes.keys() == first.genes.keys() | second.genes.keys()
    for name, gene in child.genes.items():
        assert any(gene is parent.genes.get(name) for parent in (first, second))
    assert child.lineage.parents == (first.number, second.number)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ((1.0, 1.0), 0.5),
        ((math.inf, math.inf), 0.5),
        ((0.0, math.log(3.0)), 0.75),
        ((math.log(3.0), 0.0), 0.25),
        ((0.0, math.inf), 1.0),
        ((1e308, -1e308), 0.0),
    ],
)
def test_the_better_parent_gives_more_of_the_genes(
    losses: tuple[float, float], expected: float
) -> None:
    pool = [
        replace(long_individual(value, number), loss=loss)
        for number, (value, loss) in enumerate(zip((1.0, 0.0), losses, strict=True))
    ]
    (child,) = BoltzmannCrossover(temperature=1.0)(pool, np.random.default_rng(3))
    share = sum(gene.value for gene in child.genes.values()) / N_GENES
    tolerance = 4 * math.sqrt(expected * (1 - expected) / N_GENES)
    assert share == pytest.approx(expected, abs=tolerance + 1e-12)


def test_a_feasible_parent_gives_all_genes() -> None:
    pool = [long_individual(1.0, 0), replace(long_individual(0.0, 1), violation=1.0, loss=-9.0)]
    (child,) = BoltzmannCrossover()(pool, np.random.default_rng(3))
    assert all(gene.value == 1.0 for gene in child.genes.values())


@given(pools(min_size=1, max_size=5), seeds)
def test_all_parents_may_give_a_gene(pool: list[Individual], seed: int) -> None:
    (child,) = MultiParentCrossover()(pool, np.random.default_rng(seed))
    assert child.genes.keys() == {name for parent in pool for name in parent.genes}
    for name, gene in child.genes.items():
        assert any(gene is parent.genes.get(name) for parent in pool)
    assert child.lineage.parents == tuple(parent.number for parent in pool)


def test_parents_give_equally_many_genes() -> None:
    pool = [long_individual(value, number) for number, value in enumerate((0.0, 0.5, 1.0))]
    (child,) = MultiParentCrossover()(pool, np.random.default_rng(1))
    counts = Counter(gene.value for gene in child.genes.values())
    for value in (0.0, 0.5, 1.0):
        assert counts[value] / N_GENES == pytest.approx(1 / 3, abs=0.03)


@pytest.mark.parametrize("operator", [BoltzmannCrossover(), MultiParentCrossover()])
def test_nobody_has_no_children(operator: Operator) -> None:
    assert len(operator([], np.random.default_rng(1))) == 0


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_none_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        BoltzmannCrossover(temperature)
