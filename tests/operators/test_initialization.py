from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from support.strategies import bred
from support.strategies import individuals
from support.strategies import seeds

from optuna_propulate._optuna_compat import contains
from optuna_propulate.evolution.genes import Gene
from optuna_propulate.evolution.individual import NO_WORKER
from optuna_propulate.evolution.individual import UNNUMBERED
from optuna_propulate.evolution.individual import Individual
from optuna_propulate.evolution.individual import Lineage
from optuna_propulate.operators import RandomInitialization


def randomized(individual: Individual, seed: int) -> Individual:
    """Return the random individual that replaces this one."""
    (random,) = RandomInitialization(probability=1.0)([individual], np.random.default_rng(seed))
    return random


@given(bred() | individuals(), seeds)
def test_a_random_individual_has_the_same_parameters_drawn_anew(
    individual: Individual, seed: int
) -> None:
    random = randomized(individual, seed)
    assert random.genes.keys() == individual.genes.keys()
    for name, gene in random.genes.items():
        assert gene is not individual.genes[name]
        assert gene.distribution is individual.genes[name].distribution
        assert contains(gene.distribution, gene.value)


@given(bred() | individuals(), seeds)
def test_a_random_individual_has_no_parents_and_no_past(individual: Individual, seed: int) -> None:
    random = randomized(individual, seed)
    assert random.lineage == Lineage(operators=("RandomInitialization",))
    assert (random.generation, random.loss, random.violation) == (0, math.inf, 0.0)
    assert random.id == (UNNUMBERED, NO_WORKER)


@given(st.lists(bred(), max_size=4), seeds)
def test_no_probability_means_nobody_is_replaced(several: list[Individual], seed: int) -> None:
    kept = RandomInitialization(probability=0.0)(several, np.random.default_rng(seed))
    assert len(kept) == len(several)
    assert all(after is before for after, before in zip(kept, several, strict=True))


def test_individuals_are_replaced_as_often_as_set() -> None:
    crowd = [Individual(genes={})] * 4000
    outcome = RandomInitialization(probability=0.3)(crowd, np.random.default_rng(1))
    n_random = sum(individual is not crowd[0] for individual in outcome)
    assert n_random / 4000 == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / 4000))


def test_random_genes_are_drawn_independently() -> None:
    gene = Gene(0.5, FloatDistribution(0.0, 1.0))
    crowd = [Individual(genes={"x": gene, "y": gene})] * 2000
    outcome = RandomInitialization(probability=1.0)(crowd, np.random.default_rng(2))
    points = np.array([[i.genes["x"].value, i.genes["y"].value] for i in outcome])
    assert points.mean(axis=0) == pytest.approx([0.5, 0.5], abs=4 / math.sqrt(12 * 2000))
    assert abs(np.corrcoef(points.T)[0, 1]) < 4 / math.sqrt(2000)


@pytest.mark.parametrize("probability", [-0.1, 1.1, math.nan])
def test_a_probability_out_of_range_is_refused_by_name(probability: float) -> None:
    with pytest.raises(ValueError, match=r"^probability must"):
        RandomInitialization(probability=probability)
