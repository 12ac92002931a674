"""Screening: which of several children is evaluated, and what is remembered for that."""

from __future__ import annotations

import math
import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from support.strategies import seeds

from optuna_propulate.breeders import BreedingContext
from optuna_propulate.breeders import Recombination
from optuna_propulate.breeders import Screening
from optuna_propulate.breeders.gene_matrix import GeneMatrix
from optuna_propulate.breeders.screening import Neighbours
from optuna_propulate.breeders.screening import _whitening
from optuna_propulate.evolution.genes import Gene
from optuna_propulate.evolution.genes import from_unit
from optuna_propulate.evolution.individual import Individual
from optuna_propulate.evolution.ranking import by_loss
from optuna_propulate.operators import SelectUniform


if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from optuna_propulate.breeders.litter import Litter

FLOATS = {name: FloatDistribution(0.0, 1.0) for name in ("x", "y")}
MIXED = {**FLOATS, "kind": CategoricalDistribution(("a", "b", "c")), "n": IntDistribution(0, 4)}


def some(
    n: int, rng: np.random.Generator, space: dict[str, BaseDistribution], missing: str = ""
) -> list[Individual]:
    """Return trials at random places; a tenth is pruned, half of them lack a gene."""
    return [
        Individual(
            {
                name: Gene(from_unit(rng.random(), distribution), distribution)
                for name, distribution in space.items()
                if name != missing or number % 2
            },
            loss=float(rng.random()),
            number=number,
            last_step=3.0 if rng.random() < 0.1 else math.inf,
        )
        for number in range(n)
    ]


def told(individuals: list[Individual], *, n_nearest: int = 2) -> tuple[Neighbours, GeneMatrix]:
    neighbours, matrix = Neighbours(n_nearest, 400), GeneMatrix()
    for individual in individuals:
        matrix.include(individual)
        neighbours.add(individual)
    return neighbours, matrix


def squared_distance(one: Individual, other: Individual) -> float:
    """Return what ``Neighbours`` promises, gene by gene."""
    squared = 0.0
    for name in one.genes.keys() | other.genes.keys():
        if not (name in one.genes and name in other.genes):
            alone = (one if name in one.genes else other).genes[name]
            is_category = isinstance(alone.distribution, CategoricalDistribution)
            place = (one if name in one.genes else other).units[
                sorted((one if name in one.genes else other).genes).index(name)
            ]
            squared += 1.0 if is_category else 0.75 + (place - 0.5) ** 2
            continue
        places = [each.units[sorted(each.genes).index(name)] for each in (one, other)]
        if isinstance(one.genes[name].distribution, CategoricalDistribution):
            squared += one.genes[name].value != other.genes[name].value
        else:
            squared += (places[0] - places[1]) ** 2
    return squared


@given(st.integers(1, 5), st.integers(1, 3), st.sampled_from(["", "x", "kind"]), seeds)
def test_the_nearest_evaluations_speak_for_a_child(
    n: int, n_nearest: int, missing: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    heard, children = some(n, rng, MIXED, missing), some(4, rng, MIXED, missing)
    neighbours, matrix = told(heard, n_nearest=n_nearest)
    for child in children:
        matrix.admit(child)
    expected = neighbours.expected_ranks(matrix.rows(children), matrix)
    ranked = sorted(heard, key=by_loss)
    for child, given_rank in zip(children, expected.tolist(), strict=True):
        distances = [math.sqrt(squared_distance(child, one)) for one in ranked]
        near = sorted(range(n), key=distances.__getitem__)[:n_nearest]
        if min(distances) == 0.0:
            assert given_rank == math.inf
            continue
        weights = [1.0 / distances[place] for place in near]
        rank = sum(w * place for w, place in zip(weights, near, strict=True)) / sum(weights)
        assert given_rank == pytest.approx(rank, rel=1e-5, abs=1e-5)


@given(st.integers(2, 40), seeds)
def test_the_order_of_arrival_does_not_matter(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    heard, children = some(n, rng, MIXED, "x"), some(5, rng, MIXED)
    shuffled = [heard[place] for place in rng.permutation(n).tolist()]
    (one, matrix), (other, _) = told(heard), told(shuffled)
    rows = matrix.rows(children)
    np.testing.assert_allclose(
        one.expected_ranks(rows, matrix), other.expected_ranks(rows, matrix), rtol=1e-6, atol=1e-6
    )


@given(st.integers(2, 60), st.sampled_from(["", "x", "kind"]), seeds)
def test_who_asks_after_each_evaluation_hears_the_same(n: int, missing: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    heard, children = some(n, rng, MIXED, missing), some(5, rng, MIXED)
    at_the_end, matrix = told(heard)
    often, early = Neighbours(2, 400), GeneMatrix()
    for individual in heard:
        early.include(individual)
        often.add(individual)
        often.expected_ranks(early.rows(children), early)
    np.testing.assert_array_equal(
        often.expected_ranks(early.rows(children), early),
        at_the_end.expected_ranks(matrix.rows(children), matrix),
    )


@given(st.integers(2, 6), st.integers(0, 60), seeds)
def test_a_turned_space_has_the_volume_of_the_other(d: int, more: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(2 * d + 2 + more, d)) * 10.0 ** rng.uniform(-3, 0, d)
    turned = _whitening(points)
    assert turned is not None
    assert np.linalg.det(turned) == pytest.approx(1.0, rel=1e-6)
    before, after = (np.linalg.cond(np.cov(each.T)) for each in (points, points @ turned))
    assert after <= before * 1.001


def test_near_is_farther_along_a_valley_than_across() -> None:
    rng = np.random.default_rng(1)
    heard = [
        Individual(
            {"x": Gene(x, FLOATS["x"]), "y": Gene(y, FLOATS["y"])},
            loss=abs(x - y) + 0.01 * x,
            number=number,
        )
        for number, (x, y) in enumerate(
            [(t, min(max(t + rng.normal(0.0, 0.01), 0.0), 1.0)) for t in rng.random(150)]
            + rng.random((100, 2)).tolist()
        )
    ]
    neighbours, matrix = told(heard)
    along, across = neighbours.expected_ranks(np.array([[0.5, 0.5], [0.45, 0.55]]), matrix)
    assert along < 150 < across


def test_the_child_that_its_neighbours_speak_for_is_proposed() -> None:
    rng = np.random.default_rng(1)
    heard = [
        Individual({"x": Gene(x, FLOATS["x"])}, loss=x, number=number)
        for number, x in enumerate(rng.random(50).tolist())
    ]

    def mean(share: float) -> float:
        context, breeder = BreedingContext(), Screening(Recombination(), share=share)
        for individual in heard:
            breeder.observe(context.evaluated(individual))
        context.look_at(heard[:20])  # a pool that says nothing of where it is good
        return float(np.mean([breeder.propose(context, rng).genes["x"].value for _ in range(100)]))

    assert mean(1.0) < 0.1
    assert mean(0.0) > 0.3


def test_what_was_evaluated_is_not_proposed_while_there_is_something_else() -> None:
    space = {"n": IntDistribution(0, 5), "m": IntDistribution(0, 5)}
    rng, context = np.random.default_rng(1), BreedingContext()
    breeder = Screening(SelectUniform(1), share=1.0)  # which only copies
    seen: set[tuple[int, int]] = set()
    known = some(4, rng, space)
    for number in range(20):
        for individual in known:
            breeder.observe(context.evaluated(individual))
            seen.add((individual.genes["n"].value, individual.genes["m"].value))
        context.look_at(sorted(known, key=by_loss))
        child = breeder.propose(context, rng)
        assert (child.genes["n"].value, child.genes["m"].value) not in seen
        known = [Individual(child.genes, float(rng.random()), 100 + number)]


def test_memory_is_bounded_and_screening_fades() -> None:
    rng, context, breeder = np.random.default_rng(1), BreedingContext(), Screening(Recombination())

    def look(n: int, first: int) -> tuple[float, int]:
        for individual in some(n, rng, MIXED):
            numbered = Individual(individual.genes, individual.loss, first + individual.number)
            breeder.observe(context.evaluated(numbered))
            context.look_at([numbered])
        children = [breeder.propose(context, rng) for _ in range(300)]
        screened = sum("Screening" in child.lineage.operators for child in children)
        return screened / len(children), len(pickle.dumps(breeder))

    share, size = look(900, 0)
    later, size_later = look(9_100, 900)
    assert share == pytest.approx(0.8, abs=0.1)
    assert later == pytest.approx(0.008, abs=0.02)
    assert size_later < 1.1 * size


@pytest.mark.parametrize(
    ("n_heard", "most", "n_children"),
    [(0, 20, 20), (100, 20, 20), (200, 20, 5), (999, 20, 3), (999, 2, 2)],
)
def test_the_longer_a_search_lasts_the_fewer_children_are_compared(
    n_heard: int, most: int, n_children: int
) -> None:
    bred = []

    class Counting(Recombination):
        def litter(self, context: BreedingContext, n: int, rng: np.random.Generator) -> Litter:
            bred.append(n)
            return super().litter(context, n, rng)

    rng, context = np.random.default_rng(1), BreedingContext()
    breeder = Screening(Counting(), n_children=most, share=1.0)
    heard = some(max(n_heard, 5), rng, FLOATS)
    for individual in heard[:n_heard]:
        breeder.observe(context.evaluated(individual))
    context.look_at(heard[:5])
    breeder.propose(context, rng)
    assert bred == [n_children]


def test_who_only_listens_remembers_no_more() -> None:
    rng = np.random.default_rng(1)
    sizes = [len(pickle.dumps(told(some(n, rng, MIXED))[0])) for n in (400, 4_000)]
    assert sizes[1] < 1.1 * sizes[0]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"n_children": 1}, "n_children"),
        ({"share": 1.5}, "share"),
        ({"n_nearest": 0}, "n_nearest"),
        ({"n_remembered": 1}, "n_remembered"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Screening(Recombination(), **settings)  # type: ignore[arg-type]
