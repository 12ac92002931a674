from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import evaluated

from optuna_propulate.individual import Individual
from optuna_propulate.population import Population


arrivals = st.lists(evaluated(), max_size=30)
capacities = st.integers(1, 12)


def filled(capacity: int, individuals: list[Individual]) -> Population:
    population = Population(capacity)
    for individual in individuals:
        population.add(individual)
    return population


def best_of(individuals: list[Individual], n: int) -> list[Individual]:
    """Return the best n different individuals, by sorting: the model of a population."""
    different = {individual.identity: individual for individual in individuals}
    return sorted(different.values(), key=lambda individual: individual.rank_key)[:n]


@given(capacities, arrivals)
def test_a_population_keeps_exactly_its_best(capacity: int, individuals: list[Individual]) -> None:
    assert list(filled(capacity, individuals)) == best_of(individuals, capacity)


@given(st.data(), capacities, arrivals)
def test_the_order_of_arrival_does_not_matter(
    data: st.DataObject, capacity: int, individuals: list[Individual]
) -> None:
    shuffled = data.draw(st.permutations(individuals))
    assert list(filled(capacity, shuffled)) == list(filled(capacity, individuals))


@given(capacities, arrivals)
def test_a_population_never_exceeds_its_capacity(
    capacity: int, individuals: list[Individual]
) -> None:
    population = Population(capacity)
    for individual in individuals:
        population.add(individual)
        assert len(population) == len(list(population)) <= capacity


@given(capacities, arrivals, evaluated())
def test_add_tells_whether_the_individual_became_a_member(
    capacity: int, individuals: list[Individual], newcomer: Individual
) -> None:
    population = filled(capacity, individuals)
    before = list(population)
    became_member = population.add(newcomer)
    assert became_member is (newcomer not in before and newcomer in list(population))
    assert became_member is (list(population) != before)


@given(capacities, arrivals)
def test_what_was_heard_twice_is_held_once(capacity: int, individuals: list[Individual]) -> None:
    population = filled(capacity, individuals)
    before = list(population)
    assert not any(population.add(individual) for individual in individuals)
    assert list(population) == before


@given(capacities, arrivals, arrivals)
def test_merging_two_populations_loses_none_of_the_best(
    capacity: int, here: list[Individual], there: list[Individual]
) -> None:
    merged = filled(capacity, list(filled(capacity, here)) + list(filled(capacity, there)))
    assert list(merged) == best_of(here + there, capacity)


@given(capacities, arrivals, st.integers(0, 15))
def test_best_gives_the_first_members(
    capacity: int, individuals: list[Individual], n: int
) -> None:
    assert filled(capacity, individuals).best(n) == best_of(individuals, min(n, capacity))


def test_whoever_asks_for_the_best_cannot_change_the_population() -> None:
    population = filled(3, [Individual(genes={}, loss=float(i), number=i) for i in range(3)])
    population.best(3).clear()
    assert len(population.best(3)) == 3


def test_trials_of_two_workers_with_one_number_are_both_kept() -> None:
    twins = [Individual(genes={}, loss=1.0, number=5, worker=worker) for worker in (0, 1)]
    assert list(filled(5, twins)) == twins


def test_the_very_individual_added_is_held() -> None:
    individual = Individual(genes={}, loss=1.0, number=5)
    assert filled(5, [individual]).best(1)[0] is individual


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_population_without_room_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"capacity.*{capacity}"):
        Population(capacity)
