from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import evaluated

from optuna_propulate.evolution.individual import Individual
from optuna_propulate.evolution.population import Population
from optuna_propulate.evolution.ranking import by_loss


Changes = list[tuple[bool, Individual]]

arrivals = st.lists(evaluated(), max_size=30)


@st.composite
def changes(draw: st.DrawFn) -> Changes:
    """Draw additions and removals of a few individuals, each several times, in any order."""
    individuals = draw(st.lists(evaluated(), max_size=8, unique_by=lambda one: one.id))
    if not individuals:
        return []
    return draw(st.lists(st.tuples(st.booleans(), st.sampled_from(individuals)), max_size=40))


def changed(steps: Changes) -> Population:
    population = Population()
    for added, individual in steps:
        if added:
            population.add(individual)
        else:
            population.remove(individual.id)
    return population


def members(steps: Changes) -> list[Individual]:
    """Return what was added more often than removed, by counting: the model of a population."""
    balance = Counter[tuple]()
    for added, individual in steps:
        balance[individual.id] += 1 if added else -1
    different = {individual.id: individual for _, individual in steps}
    held = [one for identity, one in different.items() if balance[identity] >= 1]
    return sorted(held, key=by_loss)


@given(changes())
def test_a_population_holds_what_was_added_more_often_than_removed(steps: Changes) -> None:
    population = changed(steps)
    assert list(population) == members(steps)
    assert len(population) == len(members(steps))


@given(st.data(), changes())
def test_the_order_of_additions_and_removals_does_not_matter(
    data: st.DataObject, steps: Changes
) -> None:
    shuffled = data.draw(st.permutations(steps))
    assert list(changed(shuffled)) == list(changed(steps))


@given(changes())
def test_what_is_gone_takes_no_memory(steps: Changes) -> None:
    population = changed([*steps, *((not added, individual) for added, individual in steps)])
    assert not len(population)
    assert not population._balance
    assert not population._members
    assert not population._keys


@given(changes(), st.integers(0, 15))
def test_best_gives_the_first_members(steps: Changes, n: int) -> None:
    assert changed(steps).best(n) == members(steps)[:n]


@given(changes(), evaluated())
def test_a_rank_is_the_number_of_better_members(steps: Changes, other: Individual) -> None:
    better = [member for member in members(steps) if by_loss(member) < by_loss(other)]
    assert changed(steps).rank(other) == len(better)


@given(changes())
def test_membership_and_the_worst_agree_with_the_order(steps: Changes) -> None:
    population = changed(steps)
    held = {member.id for member in population}
    assert all((i.id in population) == (i.id in held) for _, i in steps)
    if held:
        assert population.worst() is max(population, key=by_loss)
    else:
        with pytest.raises(IndexError):
            population.worst()


def test_whoever_asks_for_the_best_cannot_change_the_population() -> None:
    population = changed([(True, Individual({}, loss=float(i), number=i)) for i in range(3)])
    population.best(3).clear()
    assert len(population.best(3)) == 3


def test_trials_of_two_workers_with_one_number_are_both_kept() -> None:
    twins = [Individual(genes={}, loss=1.0, number=5, worker=worker) for worker in (0, 1)]
    assert list(changed([(True, twin) for twin in twins])) == twins


def test_the_very_individual_added_is_held() -> None:
    individual = Individual(genes={}, loss=1.0, number=5)
    assert changed([(True, individual)]).best(1)[0] is individual


def test_a_removal_may_come_before_its_addition() -> None:
    individual = Individual(genes={}, loss=1.0, number=5)
    assert not len(changed([(False, individual), (True, individual)]))
    assert len(changed([(False, individual), (True, individual), (True, individual)])) == 1
