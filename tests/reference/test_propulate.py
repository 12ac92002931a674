"""Our operators beside Propulate's own: do offspring of the same parents follow the same laws?

``propulate_defaults`` claims the semantics of ``propulate.utils.get_default_propagator`` of
Propulate 1.2.2. Here both breed from one fixed set of parents, and every gene's distribution is
compared: Kolmogorov-Smirnov for floats, chi-square for integers and categories. No gene by itself
shows from which parent it comes, as parents are drawn in random order; so three counts that join
genes are compared as well.

Where the two differ, on purpose or by a defect there; all but the last two have a test below:

- A step is a share of the log range here where the distribution is log-scaled; there are no log
  ranges there. On linear float ranges the steps agree, and so does the clipping to the bounds.
- ``IntervalMutation`` moves integers too, by whole steps; there it moves floats only, and
  ``propulate_defaults`` follows it in that.
- Any first parent's share of the genes from 0 to 1 is allowed here; 0 and 1 are refused there.
- Ties in loss are broken by trial number here, by the order of arrival there.
- An empty pool has no offspring here (the first trial draws its parameters as they are asked for),
  and a random one there, where all parameters are known beforehand.
- A category that is set anew is often lost there, unless it is the first parameter or the second
  to a number.
- Choices may be of any type here; there they have to be strings.
- Parents may have different parameters here (conditional spaces); there all have all.
- The generators differ (NumPy's here, Python's there): the laws agree, never the single draws.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
import propulate
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from propulate.propagators import InitUniform
from propulate.propagators import IntervalMutationNormal
from propulate.propagators import SelectMin
from propulate.utils import get_default_propagator
from scipy import stats

from optuna_propulate.breeders import BreedingContext
from optuna_propulate.breeders import WarmUp
from optuna_propulate.evolution.genes import Gene
from optuna_propulate.evolution.individual import Individual
from optuna_propulate.operators import IntervalMutation
from optuna_propulate.operators import SelectBest
from optuna_propulate.operators import crossover_and_mutation
from optuna_propulate.operators import propulate_defaults


if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence

    from optuna.distributions import BaseDistribution

    from optuna_propulate.operators import Operator

Values = dict[str, Any]
Limits = dict[str, tuple[Any, ...]]

N_OFFSPRING = 10_000
POPULATION_SIZE = 4
SIGNIFICANCE = 1e-3  # of one line; a table of seven is wrong about one seed in 150

# The category comes first: further back, Propulate would lose some of its values.
LIMITS: Limits = {
    "activation": ("relu", "tanh", "gelu"),
    "units": (1, 8),
    "x": (-5.0, 5.0),
    "y": (0.0, 1.0),
}
# Best first. Near each other, or a step would hide behind the distance between parents; y near
# its bound, or nothing would be clipped. The last two are far off, and no part of the best four.
PARENTS: list[Values] = [
    {"activation": "tanh", "units": 3, "x": 0.0, "y": 0.97},
    {"activation": "tanh", "units": 4, "x": 0.1, "y": 0.98},
    {"activation": "gelu", "units": 5, "x": 0.3, "y": 0.99},
    {"activation": "tanh", "units": 6, "x": 0.2, "y": 0.96},
    {"activation": "relu", "units": 8, "x": -4.0, "y": 0.1},
    {"activation": "gelu", "units": 1, "x": 4.0, "y": 0.2},
]


@dataclass(frozen=True)
class Line:
    """One line of the table: how far the offspring here and there differ in one respect."""

    respect: str
    test: str
    statistic: float
    p: float


def there(
    parents: Sequence[Values], limits: Limits, seed: int = 1, **settings: float
) -> list[Values]:
    """Breed with Propulate."""
    breed = get_default_propagator(POPULATION_SIZE, limits, rng=random.Random(seed), **settings)
    pool = [evaluated_there(values, limits, loss) for loss, values in enumerate(parents)]
    children = [breed(pool) for _ in range(N_OFFSPRING)]
    return [{name: child[name] for name in limits} for child in children]


def here(
    parents: Sequence[Values], limits: Limits, operator: Operator, n: int = POPULATION_SIZE
) -> list[Values]:
    """Breed with an operator of ours, as a sampler with a pool of ``n`` does."""
    pool = [evaluated_here(values, limits, loss) for loss, values in enumerate(parents)]
    context, breeder = BreedingContext(pool[:n]), WarmUp(n, operator)
    rng = np.random.default_rng(2)
    children = [breeder.propose(context, rng) for _ in range(N_OFFSPRING)]
    return [{name: child.genes[name].value for name in limits} for child in children]


def evaluated_there(values: Values, limits: Limits, loss: float) -> propulate.Individual:
    individual = propulate.Individual(dict(values), limits)
    individual.loss = loss
    return individual


def evaluated_here(values: Values, limits: Limits, loss: float) -> Individual:
    genes = {name: Gene(value, distribution(limits[name])) for name, value in values.items()}
    return Individual(genes=genes, loss=loss, number=int(loss))


def distribution(limits: tuple[Any, ...]) -> BaseDistribution:
    """Return what the limits of one parameter there are in Optuna."""
    if isinstance(limits[0], str):
        return CategoricalDistribution(limits)
    return (FloatDistribution if isinstance(limits[0], float) else IntDistribution)(*limits)


def compare(
    theirs: Sequence[Values], ours: Sequence[Values], parents: Sequence[Values], limits: Limits
) -> list[Line]:
    """Test each gene, and what joins genes, for a difference; print the table."""
    columns = [observations(children, parents, limits) for children in (theirs, ours)]
    lines = [Line(respect, *difference(*(c[respect] for c in columns))) for respect in columns[0]]
    for line in lines:
        print(f"{line.respect:24} {line.test:10} {line.statistic:10.4f}   p = {line.p:.2g}")
    return lines


def observations(
    children: Sequence[Values], parents: Sequence[Values], limits: Limits
) -> Mapping[str, list[Any]]:
    """Return by respect what is seen of each child."""
    floats = [name for name in limits if isinstance(limits[name][0], float)]
    columns: dict[str, list[Any]] = {name: [child[name] for child in children] for name in limits}
    columns["genes of one parent"] = [
        max(sum(child[name] == parent[name] for name in limits) for parent in parents)
        for child in children
    ]
    if floats:
        known = {name: {parent[name] for parent in parents} for name in floats}
        columns["floats of a parent"] = [sum(c[n] in known[n] for n in floats) for c in children]
        columns["floats at a bound"] = [sum(c[n] in limits[n] for n in floats) for c in children]
    return columns


def difference(theirs: list[Any], ours: list[Any]) -> tuple[str, float, float]:
    """Return the test's name, its statistic and its p-value."""
    if isinstance(theirs[0], float):  # with values that come often, p is an upper bound
        result = stats.ks_2samp(theirs, ours, method="asymp")
        return "KS", float(result.statistic), float(result.pvalue)
    counts = [Counter(theirs), Counter(ours)]
    table = np.array([[count[key] for key in counts[0] | counts[1]] for count in counts])
    result = stats.chi2_contingency(table)
    assert result.expected_freq.min() >= 5  # or the statistic would not be chi-square
    return "chi-square", float(result.statistic), float(result.pvalue)


def differing(lines: list[Line]) -> set[str]:
    return {line.respect for line in lines if line.p < SIGNIFICANCE}


@pytest.fixture(scope="module")
def reference() -> list[Values]:
    """Offspring bred by Propulate with its defaults."""
    return there(PARENTS, LIMITS)


def test_offspring_of_a_full_pool_follow_propulates_laws(reference: list[Values]) -> None:
    ours = here(PARENTS, LIMITS, propulate_defaults())
    assert not differing(compare(reference, ours, PARENTS, LIMITS))


def test_offspring_without_any_float_follow_propulates_laws() -> None:
    limits = {name: LIMITS[name] for name in ("activation", "units")}
    parents = [{name: parent[name] for name in limits} for parent in PARENTS]
    ours = here(parents, limits, propulate_defaults())
    assert not differing(compare(there(parents, limits), ours, parents, limits))


def test_offspring_are_as_random_as_propulates_until_the_pool_is_full() -> None:
    few = PARENTS[: POPULATION_SIZE - 1]
    ours = here(few, LIMITS, propulate_defaults())
    assert not differing(compare(there(few, LIMITS), ours, few, LIMITS))


def test_settings_other_than_the_defaults_have_the_same_meaning() -> None:
    settings = {"mutation_probability": 0.2, "sigma_factor": 0.2, "parent_share": 0.3}
    theirs = there(PARENTS, LIMITS, mutation_prob=0.2, sigma_factor=0.2, crossover_prob=0.3)
    ours = here(PARENTS, LIMITS, propulate_defaults(**settings))
    assert not differing(compare(theirs, ours, PARENTS, LIMITS))


@pytest.mark.parametrize(
    ("operator", "n", "respects"),
    [
        (propulate_defaults(sigma_factor=0.1), 4, {"x", "y", "floats at a bound"}),
        (propulate_defaults(mutation_probability=0.8), 4, {"activation", "units", "x", "y"}),
        (propulate_defaults(random_probability=0.2), 4, {"activation", "units", "x", "y"}),
        (propulate_defaults(), 3, {"activation", "units", "x", "y"}),
        (crossover_and_mutation(), 4, {"x", "y", "floats of a parent"}),
    ],
    ids=["sigma", "mutation", "random", "population", "our own defaults"],
)
def test_a_setting_that_differs_is_detected(
    operator: Operator, n: int, respects: set[str], reference: list[Values]
) -> None:
    lines = compare(reference, here(PARENTS, LIMITS, operator, n), PARENTS, LIMITS)
    assert respects <= differing(lines)


def test_another_parent_share_is_detected_where_genes_are_seen_together_and_only_there(
    reference: list[Values],
) -> None:
    ours = here(PARENTS, LIMITS, propulate_defaults(parent_share=0.5))
    assert differing(compare(reference, ours, PARENTS, LIMITS)) == {"genes of one parent"}


def test_a_step_is_a_share_of_the_log_range_here_and_of_the_linear_range_there() -> None:
    low, high, rate = 1e-5, 1e-1, 1e-3
    mutate_there = IntervalMutationNormal({"lr": (low, high)}, 0.05, rng=random.Random(1))
    parent_there = evaluated_there({"lr": rate}, {"lr": (low, high)}, 0.0)
    mutate_here, rng = IntervalMutation(1.0, 0.05), np.random.default_rng(2)
    parent = Individual({"lr": Gene(rate, FloatDistribution(low, high, log=True))})
    theirs = np.array([mutate_there(parent_there)["lr"] for _ in range(2000)])
    ours = np.array([mutate_here([parent], rng)[0].genes["lr"].value for _ in range(2000)])
    assert np.mean(theirs == low) == pytest.approx(stats.norm.cdf(-(rate - low) / 0.005), abs=0.05)
    assert np.std(np.log(ours)) == pytest.approx(0.05 * np.log(high / low), rel=0.1)
    assert ours.min() > low


def test_interval_mutation_moves_integers_here_and_never_there() -> None:
    mutate_there = IntervalMutationNormal(LIMITS, 0.25, rng=random.Random(1))
    mutate_here, rng = IntervalMutation(1.0, 0.25), np.random.default_rng(2)
    parent_there = evaluated_there(PARENTS[0], LIMITS, 0.0)
    parent = evaluated_here(PARENTS[0], LIMITS, 0.0)
    theirs = {mutate_there(parent_there)["units"] for _ in range(100)}
    ours = {mutate_here([parent], rng)[0].genes["units"].value for _ in range(100)}
    assert theirs == {3}
    assert {1, 3, 5} <= ours


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_all_genes_may_come_from_one_parent_here_and_not_there(share: float) -> None:
    propulate_defaults(parent_share=share)
    with pytest.raises(ValueError, match="Relative parent contribution"):
        get_default_propagator(POPULATION_SIZE, LIMITS, crossover_prob=share)


def test_ties_are_broken_by_trial_number_here_and_by_order_of_arrival_there() -> None:
    pool_there = [evaluated_there(values, LIMITS, 0.0) for values in PARENTS]
    assert SelectMin(1)(pool_there) != SelectMin(1)(pool_there[::-1])
    pool_here = [Individual({}, loss=0.0, number=number) for number in range(2)]
    rng = np.random.default_rng(2)
    assert SelectBest(1)(pool_here, rng) == SelectBest(1)(pool_here[::-1], rng)


def test_an_empty_pool_has_no_offspring_here_and_a_random_one_there() -> None:
    breed = get_default_propagator(POPULATION_SIZE, LIMITS, rng=random.Random(1))
    assert set(breed([])) == set(LIMITS)
    assert not propulate_defaults()([], np.random.default_rng(2))


def test_choices_have_to_be_strings_there() -> None:
    with pytest.raises(TypeError):  # they are taken for an integer range
        InitUniform({"batch": (16, 32, 64)}, rng=random.Random(1))()
    with pytest.raises(ValueError, match="Unknown type"):
        InitUniform({"hidden": (None, "wide")}, rng=random.Random(1))()


@pytest.mark.parametrize(
    ("before", "read", "position"),
    [
        ({}, "r", [0, 0, 1]),
        ({"x": (0.0, 1.0)}, "r", [0, 0, 1]),
        ({"x": (0.0, 1.0), "y": (0.0, 1.0)}, "q", [0, 1, 1]),
        ({"other": ("s", "t", "u")}, "q", [0, 1, 1]),
    ],
    ids=["first", "second", "third", "after another category"],
)
def test_a_category_set_anew_there_keeps_its_old_bit_by_its_place_among_the_parameters(
    before: Limits, read: str, position: list[int]
) -> None:
    # Setting clears position[offset:n_choices] instead of position[offset:offset + n_choices], and
    # reading takes the first bit that is on; only the plain mapping has the new value.
    limits = {**before, "choice": ("p", "q", "r")}
    values = {name: limit[0] for name, limit in before.items()}
    individual = propulate.Individual({**values, "choice": "q"}, limits)
    individual["choice"] = "r"
    assert individual["choice"] == read
    assert individual.mapping["choice"] == "r"
    assert individual.position[-3:].tolist() == position


def test_a_second_category_never_mutates_to_a_later_choice_there_and_does_here() -> None:
    limits: Limits = {"first": ("p", "q", "r"), "second": ("p", "q", "r")}
    parents = [{"first": "q", "second": "q"}] * POPULATION_SIZE
    theirs = there(parents, limits, random_init_prob=0.0)
    ours = here(parents, limits, propulate_defaults(random_probability=0.0))
    lines = compare(theirs, ours, parents, limits)
    assert differing(lines) == {"second", "genes of one parent"}
    assert {child["second"] for child in theirs} == {"p", "q"}
    assert {child["second"] for child in ours} == {"p", "q", "r"}
