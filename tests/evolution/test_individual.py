from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from dataclasses import fields
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import individuals

from optuna_propulate.evolution.individual import NO_WORKER
from optuna_propulate.evolution.individual import UNNUMBERED
from optuna_propulate.evolution.individual import Individual
from optuna_propulate.evolution.individual import Lineage
from optuna_propulate.evolution.ranking import by_loss


@given(individuals())
def test_an_individual_cannot_be_changed(individual: Individual) -> None:
    for field in fields(individual):
        with pytest.raises(FrozenInstanceError):
            setattr(individual, field.name, None)


def test_an_individual_has_no_room_for_other_attributes() -> None:
    assert not hasattr(Individual(genes={}), "__dict__")
    assert not hasattr(Lineage(), "__dict__")


def test_an_individual_begins_unevaluated_and_without_ancestors() -> None:
    individual = Individual(genes={})
    assert individual.loss == math.inf
    assert individual.id == (UNNUMBERED, NO_WORKER)
    assert individual.generation == 0
    assert individual.lineage == Lineage((), (), ())


def test_trials_of_two_workers_with_one_number_are_different() -> None:
    assert (
        Individual(genes={}, number=3, worker=0).id != Individual(genes={}, number=3, worker=1).id
    )


def test_individuals_are_ordered_by_violation_then_last_step_then_loss_then_number() -> None:
    best_first = [
        Individual(genes={}, violation=0.0, loss=-math.inf, number=9, worker=9),
        Individual(genes={}, violation=0.0, loss=1.0, number=3, worker=5),
        Individual(genes={}, violation=0.0, loss=1.0, number=4, worker=0),
        Individual(genes={}, violation=0.0, loss=1.0, number=4, worker=1),
        Individual(genes={}, violation=0.0, loss=math.inf, number=0, worker=0),
        Individual(genes={}, violation=0.0, loss=5.0, last_step=7.0, number=0, worker=0),
        Individual(genes={}, violation=0.0, loss=-9.0, last_step=3.0, number=0, worker=0),
        Individual(genes={}, violation=0.0, loss=math.inf, last_step=3.0, number=0, worker=0),
        Individual(genes={}, violation=0.5, loss=-math.inf, number=0, worker=0),
        Individual(genes={}, violation=2.0, loss=-5.0, number=0, worker=0),
    ]
    assert all(by_loss(better) < by_loss(worse) for better, worse in pairwise(best_first))


@given(individuals(), individuals())
def test_a_feasible_individual_always_comes_before_an_infeasible_one(
    one: Individual, other: Individual
) -> None:
    feasible, infeasible = sorted([one, other], key=lambda individual: individual.violation)
    if feasible.violation < infeasible.violation:
        assert by_loss(feasible) < by_loss(infeasible)


@given(st.lists(st.text(max_size=5)))
def test_a_lineage_remembers_operators_in_order(names: list[str]) -> None:
    lineage = Lineage(parents=(4, 7), homes=(0, 1))
    for name in names:
        lineage = lineage.then(name)
    assert lineage == Lineage(operators=tuple(names), parents=(4, 7), homes=(0, 1))


def test_the_next_operator_leaves_the_earlier_lineage_as_it_was() -> None:
    earlier = Lineage(operators=("Copy",))
    earlier.then("PointMutation")
    assert earlier.operators == ("Copy",)
