from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import pools
from support.strategies import seeds

from optuna_propulate.evolution.individual import Individual
from optuna_propulate.operators import Operator
from optuna_propulate.operators import SelectBest
from optuna_propulate.operators import SelectUniform


if TYPE_CHECKING:
    from collections.abc import Callable


counts = st.integers(1, 10)


@given(st.data(), pools(), counts, seeds)
def test_the_best_are_selected_best_first_from_any_order(
    data: st.DataObject, pool: list[Individual], n: int, seed: int
) -> None:
    shuffled = data.draw(st.permutations(pool))
    selected = SelectBest(n)(shuffled, np.random.default_rng(seed))
    assert [i.number for i in selected] == [i.number for i in pool[:n]]


def test_a_feasible_individual_is_better_than_any_infeasible_one() -> None:
    infeasible = Individual(genes={}, loss=-100.0, number=0, violation=1e-9)
    feasible = Individual(genes={}, loss=100.0, number=1)
    selected = SelectBest(1)([infeasible, feasible], np.random.default_rng(0))
    assert list(selected) == [feasible]


def test_selecting_the_best_draws_no_random_number() -> None:
    rng = np.random.default_rng(3)
    SelectBest(1)([Individual(genes={}), Individual(genes={})], rng)
    assert rng.random() == np.random.default_rng(3).random()


@given(pools(), counts, seeds)
def test_a_uniform_choice_has_n_different_members_of_the_pool(
    pool: list[Individual], n: int, seed: int
) -> None:
    selected = SelectUniform(n)(pool, np.random.default_rng(seed))
    assert len(selected) == min(n, len(pool))
    assert len({individual.number for individual in selected}) == len(selected)
    assert all(any(individual is member for member in pool) for individual in selected)


def test_every_ordered_pair_is_drawn_equally_often() -> None:
    rng = np.random.default_rng(7)
    pool = [Individual(genes={}, number=number) for number in range(4)]
    pairs = Counter(tuple(i.number for i in SelectUniform(2)(pool, rng)) for _ in range(6000))
    assert len(pairs) == 12
    assert all(abs(count - 500) < 5 * math.sqrt(500) for count in pairs.values())


@pytest.mark.parametrize("select", [SelectBest, SelectUniform])
@pytest.mark.parametrize("n", [0, -2])
def test_selecting_nobody_is_refused(select: Callable[[int], Operator], n: int) -> None:
    with pytest.raises(ValueError, match=f"^n must.*{n}"):
        select(n)
