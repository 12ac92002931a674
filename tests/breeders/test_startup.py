from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from support.strategies import pools
from support.strategies import seeds

from optuna_propulate._optuna_compat import contains
from optuna_propulate.breeders import BreedingContext
from optuna_propulate.breeders import WarmUp
from optuna_propulate.evolution.genes import Gene
from optuna_propulate.evolution.individual import Individual
from optuna_propulate.evolution.individual import Lineage


if TYPE_CHECKING:
    from collections.abc import Sequence


def marked(individuals: Sequence[Individual], rng: np.random.Generator) -> Sequence[Individual]:
    """Breed a child that cannot come from anywhere else."""
    return [Individual(genes={}, lineage=Lineage(operators=("marked", str(len(individuals)))))]


def bred(pool: list[Individual], population_size: int, rng: np.random.Generator) -> Individual:
    return WarmUp(population_size, marked).propose(BreedingContext(pool), rng)


@given(pools(), st.integers(1, 8), seeds)
def test_breeding_starts_when_the_pool_is_full(
    pool: list[Individual], population_size: int, seed: int
) -> None:
    child = bred(pool, population_size, np.random.default_rng(seed))
    if len(pool) >= population_size:
        assert child.lineage.operators == ("marked", str(len(pool)))
    else:
        assert child.lineage.operators == ("RandomInitialization",) * bool(pool)


@given(pools(min_size=1), seeds)
def test_until_then_a_random_individual_has_the_parameters_of_one_present(
    pool: list[Individual], seed: int
) -> None:
    random = bred(pool, len(pool) + 1, np.random.default_rng(seed))
    assert random.genes.keys() in [individual.genes.keys() for individual in pool]
    assert all(contains(gene.distribution, gene.value) for gene in random.genes.values())


def test_every_branch_of_a_conditional_space_is_a_pattern_equally_often() -> None:
    gene = Gene(0.5, FloatDistribution(0.0, 1.0))
    pool = [Individual(genes={name: gene}, number=i) for i, name in enumerate("abcd")]
    rng = np.random.default_rng(3)
    names = [next(iter(bred(pool, 5, rng).genes)) for _ in range(4000)]
    assert all(abs(names.count(name) - 1000) < 5 * math.sqrt(1000) for name in "abcd")
