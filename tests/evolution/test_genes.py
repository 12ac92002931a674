from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import assume
from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from support.strategies import LARGEST
from support.strategies import SMALLEST
from support.strategies import categories
from support.strategies import continuous
from support.strategies import discrete
from support.strategies import distributions
from support.strategies import genes
from support.strategies import largest_ints
from support.strategies import ordered
from support.strategies import seeds
from support.strategies import units
from support.strategies import values_in

from optuna_propulate._optuna_compat import contains
from optuna_propulate.evolution.genes import Gene
from optuna_propulate.evolution.genes import from_unit
from optuna_propulate.evolution.genes import is_ordered
from optuna_propulate.evolution.genes import to_unit


NAN = float("nan")


def same(a: Any, b: Any) -> bool:
    """Tell whether two values are equal and of one type, where a NaN equals a NaN."""
    return type(a) is type(b) and (a == b or (a != a and b != b))


@given(distributions() | largest_ints(), units)
@example(FloatDistribution(-1.7e308, 1.7e308), 0.5)
@example(FloatDistribution(-LARGEST, LARGEST), 1.0)
@example(FloatDistribution(SMALLEST, LARGEST, log=True), 1.0)
@example(FloatDistribution(LARGEST, LARGEST, log=True), 0.3)
@example(FloatDistribution(0.1, 0.1), 0.3)
@example(FloatDistribution(0.0, SMALLEST), 0.5)
@example(FloatDistribution(0.0, 0.7, step=0.1), 1.0)
@example(IntDistribution(0, 2**53), 1.0)
@example(IntDistribution(3, 3, log=True), 0.0)
@example(CategoricalDistribution([NAN]), 1.0)
def test_every_place_holds_a_value_of_the_distribution(
    distribution: BaseDistribution, unit: float
) -> None:
    assert contains(distribution, from_unit(unit, distribution))


@given(ordered() | largest_ints(), units)
def test_values_are_plain_python_numbers(distribution: BaseDistribution, unit: float) -> None:
    expected = int if isinstance(distribution, IntDistribution) else float
    assert type(from_unit(unit, distribution)) is expected


@given(categories(), units)
def test_a_category_comes_back_as_the_very_choice_given(
    distribution: CategoricalDistribution, unit: float
) -> None:
    value = from_unit(unit, distribution)
    assert any(value is choice for choice in distribution.choices)


@given(genes() | genes(largest_ints()))
def test_every_value_has_its_place_in_the_unit_interval(gene: Gene) -> None:
    assert 0.0 <= to_unit(gene.value, gene.distribution) <= 1.0


@given(genes(discrete()))
@example(Gene(NAN, CategoricalDistribution(["a", NAN, None])))
@example(Gene(2**40, IntDistribution(1, 2**40, log=True)))
def test_a_discrete_value_comes_back_from_its_place(gene: Gene) -> None:
    assert same(from_unit(to_unit(gene.value, gene.distribution), gene.distribution), gene.value)


@given(genes(continuous()))
@example(Gene(SMALLEST, FloatDistribution(SMALLEST, LARGEST, log=True)))
@example(Gene(LARGEST, FloatDistribution(-LARGEST, LARGEST)))
def test_a_continuous_value_comes_back_from_its_place_nearly(gene: Gene) -> None:
    distribution = gene.distribution
    assert isinstance(distribution, FloatDistribution)
    value = from_unit(to_unit(gene.value, distribution), distribution)
    if distribution.log:
        assert math.isclose(value, gene.value, rel_tol=1e-11, abs_tol=2 * SMALLEST)
    else:
        scale = max(abs(distribution.low), abs(distribution.high))
        assert math.isclose(value, gene.value, rel_tol=0.0, abs_tol=4e-15 * scale + SMALLEST)


@given(st.data(), ordered() | largest_ints())
def test_a_larger_value_never_has_a_lower_place(
    data: st.DataObject, distribution: BaseDistribution
) -> None:
    low, high = sorted([data.draw(values_in(distribution)), data.draw(values_in(distribution))])
    assert to_unit(low, distribution) <= to_unit(high, distribution)


@given(ordered() | largest_ints(), units, units)
def test_a_higher_place_never_holds_a_smaller_value(
    distribution: FloatDistribution | IntDistribution, one: float, other: float
) -> None:
    lower, upper = (from_unit(unit, distribution) for unit in sorted([one, other]))
    rounding = 0 if isinstance(distribution, IntDistribution) else 1e-11
    assert lower <= upper + rounding * max(abs(distribution.low), abs(distribution.high))


@given(st.data(), discrete())
def test_different_discrete_values_have_different_places(
    data: st.DataObject, distribution: BaseDistribution
) -> None:
    one, other = data.draw(values_in(distribution)), data.draw(values_in(distribution))
    assume(not same(one, other))
    assert to_unit(one, distribution) != to_unit(other, distribution)


@given(ordered() | largest_ints())
def test_the_ends_of_the_interval_are_the_ends_of_the_range(
    distribution: FloatDistribution | IntDistribution,
) -> None:
    assert from_unit(0.0, distribution) == pytest.approx(distribution.low, rel=1e-12)
    assert from_unit(1.0, distribution) == pytest.approx(distribution.high, rel=1e-12)


@pytest.mark.parametrize(
    ("distribution", "n_values"),
    [
        (IntDistribution(0, 6), 7),
        (IntDistribution(-7, 14, step=3), 8),
        (FloatDistribution(0.0, 0.7, step=0.1), 8),
        (FloatDistribution(-1.0, 2.0, step=0.25), 13),
        (CategoricalDistribution(["a", None, 2, 0.5, True, NAN]), 6),
        (CategoricalDistribution(["single"]), 1),
    ],
    ids=str,
)
def test_discrete_values_own_equal_shares_of_the_interval(
    distribution: BaseDistribution, n_values: int
) -> None:
    places = [(i + 0.5) / (10 * n_values) for i in range(10 * n_values)]
    counts = Counter(distribution.to_internal_repr(from_unit(p, distribution)) for p in places)
    assert list(counts.values()) == [10] * n_values


def test_log_integers_own_their_width_on_the_log_scale() -> None:
    distribution = IntDistribution(1, 10, log=True)
    counts = Counter(from_unit((i + 0.5) / 10_000, distribution) for i in range(10_000))
    for value in range(1, 11):
        width = math.log((value + 0.5) / (value - 0.5)) / math.log(10.5 / 0.5)
        assert counts[value] == pytest.approx(10_000 * width, abs=1)


@pytest.mark.parametrize(
    ("distribution", "middle"),
    [
        (FloatDistribution(-2.0, 6.0), 2.0),
        (FloatDistribution(1e-6, 1e2, log=True), 1e-2),
        (FloatDistribution(-1.7e308, 1.7e308), 0.0),
        (FloatDistribution(0.0, 1.0, step=0.25), 0.5),
        (IntDistribution(0, 10), 5),
        (IntDistribution(0, 40, step=20), 20),
        (CategoricalDistribution(["a", "b", "c"]), "b"),
    ],
    ids=str,
)
def test_half_way_is_the_middle_of_the_scale(distribution: BaseDistribution, middle: Any) -> None:
    assert from_unit(0.5, distribution) == pytest.approx(middle)
    assert to_unit(middle, distribution) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("distribution", "value"),
    [(FloatDistribution(2.5, 2.5), 2.5), (CategoricalDistribution(["only"]), "only")],
    ids=str,
)
def test_a_single_value_is_in_the_middle(distribution: BaseDistribution, value: Any) -> None:
    assert to_unit(value, distribution) == 0.5


def test_a_value_that_is_no_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="z"):
        to_unit("z", CategoricalDistribution(["a", "b"]))


@given(distributions())
def test_only_categories_have_no_order(distribution: BaseDistribution) -> None:
    assert is_ordered(distribution) is not isinstance(distribution, CategoricalDistribution)


@given(genes(discrete()))
def test_no_step_keeps_a_discrete_value(gene: Gene) -> None:
    assert same(gene.stepped(0.0).value, gene.value)


@given(
    genes(), st.floats(-1e9, 1e9) | st.floats(-1.0, 1.0) | st.sampled_from([-math.inf, math.inf])
)
def test_a_step_of_any_length_ends_in_the_distribution(gene: Gene, step: float) -> None:
    stepped = gene.stepped(step)
    assert contains(stepped.distribution, stepped.value)
    assert stepped.distribution is gene.distribution


@given(genes(ordered()), st.floats(1e-3, 2.0))
def test_a_step_up_never_leads_down(gene: Gene, step: float) -> None:
    slack = 1e-12 * abs(gene.value)
    assert gene.stepped(step).value >= gene.value - slack
    assert gene.stepped(-step).value <= gene.value + slack


def test_a_step_is_a_fraction_of_the_range() -> None:
    assert Gene(2.0, FloatDistribution(0.0, 10.0)).stepped(0.3).value == pytest.approx(5.0)
    assert Gene(1e-3, FloatDistribution(1e-4, 1.0, log=True)).stepped(0.25).value == pytest.approx(
        1e-2
    )
    assert Gene(2, IntDistribution(0, 9)).stepped(-0.1).value == 1


@given(genes(), seeds)
def test_a_gene_drawn_anew_lies_in_its_distribution(gene: Gene, seed: int) -> None:
    redrawn = gene.redrawn(np.random.default_rng(seed))
    assert contains(redrawn.distribution, redrawn.value)
    assert redrawn.distribution is gene.distribution


@given(genes(), seeds)
def test_one_seed_draws_one_gene(gene: Gene, seed: int) -> None:
    once, again = (gene.redrawn(np.random.default_rng(seed)) for _ in range(2))
    assert same(once.value, again.value)


def test_redrawn_genes_cover_the_interval_evenly() -> None:
    rng = np.random.default_rng(1)
    gene = Gene(1.0, FloatDistribution(1e-5, 1e5, log=True))
    drawn = [math.log10(gene.redrawn(rng).value) for _ in range(5000)]
    counts, _ = np.histogram(drawn, bins=10, range=(-5, 5))
    assert counts.sum() == 5000
    assert np.abs(counts - 500).max() < 5 * math.sqrt(500)
