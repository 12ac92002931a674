from __future__ import annotations

import math
from dataclasses import dataclass
from dataclasses import field
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from support.strategies import bred
from support.strategies import individuals
from support.strategies import pools
from support.strategies import seeds

from optuna_propulate._optuna_compat import contains
from optuna_propulate.breeders import DifferentialMutation
from optuna_propulate.evolution.individual import NO_WORKER
from optuna_propulate.evolution.individual import UNNUMBERED
from optuna_propulate.evolution.individual import Individual
from optuna_propulate.evolution.ranking import by_loss
from optuna_propulate.operators import IntervalMutation
from optuna_propulate.operators import Operator
from optuna_propulate.operators import Pipeline
from optuna_propulate.operators import PointMutation
from optuna_propulate.operators import RandomInitialization
from optuna_propulate.operators import SelectBest
from optuna_propulate.operators import SelectUniform
from optuna_propulate.operators import UniformCrossover
from optuna_propulate.operators.base import changed
from optuna_propulate.operators.base import offspring


if TYPE_CHECKING:
    from collections.abc import Sequence


EVERY_OPERATOR: list[Operator] = [
    SelectBest(2),
    SelectUniform(3),
    UniformCrossover(),
    PointMutation(probability=0.8, n_genes=2),
    IntervalMutation(probability=0.8, sigma_factor=0.3),
    RandomInitialization(probability=0.5),
    Pipeline(SelectUniform(2), UniformCrossover(), PointMutation(probability=1.0)),
]

every_operator = pytest.mark.parametrize("operator", EVERY_OPERATOR, ids=str)


@dataclass
class Diary:
    """An operator that writes down who it met, and lets pass all but the last."""

    name: str
    entries: list[tuple[str, int]] = field(default_factory=list)

    def __call__(
        self, individuals: Sequence[Individual], rng: np.random.Generator
    ) -> Sequence[Individual]:
        self.entries.append((self.name, len(individuals)))
        return individuals[:-1]


def reversed_genes(individual: Individual) -> Individual:
    """Return the same individual, its genes listed in the opposite order."""
    return Individual(
        genes=dict(reversed([*individual.genes.items()])),
        loss=individual.loss,
        number=individual.number,
        island=individual.island,
        worker=individual.worker,
        generation=individual.generation,
        violation=individual.violation,
        last_step=individual.last_step,
        lineage=individual.lineage,
    )


def portrait(individuals: Sequence[Individual]) -> list[str]:
    """Return all there is to see of individuals; unlike ``==``, a NaN is itself here."""
    return [
        repr((sorted(i.genes.items()), by_loss(i), i.island, i.generation, i.lineage))
        for i in individuals
    ]


@every_operator
@given(pool=pools(), seed=seeds)
@settings(max_examples=20)
def test_an_operator_leaves_its_input_as_it_was(
    operator: Operator, pool: list[Individual], seed: int
) -> None:
    before = repr(pool)
    operator(pool, np.random.default_rng(seed))
    assert repr(pool) == before


@every_operator
@given(pool=pools(), seed=seeds)
@settings(max_examples=20)
def test_one_seed_gives_one_outcome_whatever_the_order_of_genes(
    operator: Operator, pool: list[Individual], seed: int
) -> None:
    once = operator(pool, np.random.default_rng(seed))
    again = operator(
        [reversed_genes(individual) for individual in pool], np.random.default_rng(seed)
    )
    assert portrait(once) == portrait(again)


@every_operator
@given(pool=pools(), seed=seeds)
@settings(max_examples=20)
def test_every_gene_bred_lies_in_its_distribution(
    operator: Operator, pool: list[Individual], seed: int
) -> None:
    for individual in operator(pool, np.random.default_rng(seed)):
        for gene in individual.genes.values():
            assert contains(gene.distribution, gene.value)


@every_operator
def test_an_operator_makes_nothing_of_nothing(operator: Operator) -> None:
    assert list(operator([], np.random.default_rng(0))) == []


def test_a_pipeline_hands_the_outcome_of_one_operator_to_the_next() -> None:
    entries: list[tuple[str, int]] = []
    pipeline = Pipeline(Diary("a", entries), Diary("b", entries), Diary("c", entries))
    outcome = pipeline([Individual(genes={})] * 5, np.random.default_rng(0))
    assert entries == [("a", 5), ("b", 4), ("c", 3)]
    assert len(outcome) == 2


@given(pools(), seeds)
def test_a_pipeline_of_pipelines_is_one_long_pipeline(pool: list[Individual], seed: int) -> None:
    a, b, c = SelectUniform(2), UniformCrossover(), PointMutation(probability=1.0)
    nested = Pipeline(Pipeline(a, b), Pipeline(c))(pool, np.random.default_rng(seed))
    flat = Pipeline(a, b, c)(pool, np.random.default_rng(seed))
    assert portrait(nested) == portrait(flat)


@pytest.mark.parametrize("other", ["no operator", DifferentialMutation(), SelectBest])
def test_a_pipeline_refuses_what_is_no_operator_or_would_not_learn(other: object) -> None:
    with pytest.raises(TypeError, match="made of operators"):
        Pipeline(SelectBest(1), other)  # type: ignore[arg-type]


def test_a_pipeline_prints_the_operators_in_it() -> None:
    assert repr(Pipeline(SelectBest(n=2), SelectUniform(n=1))) == (
        "Pipeline(SelectBest(n=2), SelectUniform(n=1))"
    )


@given(st.lists(individuals(), min_size=1, max_size=4))
def test_offspring_know_their_parents_and_are_a_generation_later(
    parents: list[Individual],
) -> None:
    child = offspring(parents[0].genes, parents, "Cross")
    assert child.genes == parents[0].genes
    assert child.generation == max(parent.generation for parent in parents) + 1
    assert child.lineage.operators == ("Cross",)
    assert child.lineage.parents == tuple(parent.number for parent in parents)
    assert child.lineage.homes == tuple(parent.island for parent in parents)


@given(individuals())
def test_offspring_are_not_evaluated_yet(parent: Individual) -> None:
    child = offspring(parent.genes, [parent], "Copy")
    assert (child.number, child.worker, child.loss) == (UNNUMBERED, NO_WORKER, math.inf)


@given(bred())
def test_a_changed_offspring_keeps_its_parents_and_its_generation(individual: Individual) -> None:
    child = changed(individual, {}, "Shift")
    assert child.genes == {}
    assert child.generation == individual.generation
    assert child.lineage == individual.lineage.then("Shift")


@given(individuals())
def test_a_changed_trial_becomes_the_parent_of_the_change(trial: Individual) -> None:
    assert changed(trial, {}, "Shift") == offspring({}, [trial], "Shift")
