"""Hypothesis strategies: distributions, genes, individuals and breeding pools of every kind."""

from __future__ import annotations

import math
import sys
from decimal import Decimal
from typing import TYPE_CHECKING
from typing import Any

from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution

from optuna_propulate.evolution.genes import Gene
from optuna_propulate.evolution.individual import NO_WORKER
from optuna_propulate.evolution.individual import Individual
from optuna_propulate.evolution.individual import Lineage
from optuna_propulate.evolution.ranking import by_loss


if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypothesis.strategies import DrawFn
    from hypothesis.strategies import SearchStrategy
    from optuna.distributions import BaseDistribution

LARGEST = sys.float_info.max
SMALLEST = math.ulp(0.0)

seeds = st.integers(0, 2**32 - 1)
units = st.floats(0.0, 1.0) | st.sampled_from([0.0, SMALLEST, 0.5, math.nextafter(1.0, 0.0), 1.0])
losses = st.floats(allow_nan=False) | st.integers(0, 3).map(float)
choices = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from([math.nan, math.inf, -math.inf, 0.5, -0.0])
    | st.text(max_size=3)
)


@st.composite
def float_ranges(draw: DrawFn, lowest: float = -LARGEST) -> tuple[float, float]:
    """Draw a range of floats: of any width, a single point, or two neighbouring floats."""
    ends = st.floats(lowest, LARGEST)
    low = draw(ends)
    neighbour = min(math.nextafter(low, math.inf), LARGEST)
    high = draw(ends | st.sampled_from([low, neighbour, LARGEST]))
    return min(low, high), max(low, high)


def plain_floats() -> SearchStrategy[FloatDistribution]:
    huge = st.just((-1.7e308, 1.7e308))
    return (float_ranges() | huge).map(lambda ends: FloatDistribution(*ends))


def log_floats() -> SearchStrategy[FloatDistribution]:
    return float_ranges(lowest=SMALLEST).map(lambda ends: FloatDistribution(*ends, log=True))


@st.composite
def stepped_floats(draw: DrawFn) -> FloatDistribution:
    """Draw a stepped distribution whose range is a multiple of its step in decimal notation."""
    low = Decimal(draw(st.integers(-100_000, 100_000))) / 1000
    step = Decimal(draw(st.sampled_from(["0.001", "0.05", "0.1", "0.25", "0.3", "1.0", "7.7"])))
    high = low + step * draw(st.integers(0, 300))
    return FloatDistribution(float(low), float(high), step=float(step))


@st.composite
def plain_ints(draw: DrawFn) -> IntDistribution:
    low = draw(st.integers(-(2**40), 2**40) | st.integers(-10, 10))
    n_steps = draw(st.integers(0, 20) | st.integers(0, 2**32))
    step = draw(st.just(1) | st.integers(1, 100))
    return IntDistribution(low, low + n_steps * step, step=step)


@st.composite
def log_ints(draw: DrawFn, highest: int = 2**40) -> IntDistribution:
    low = draw(st.integers(1, 20) | st.integers(1, highest))
    high = draw(st.just(low) | st.integers(low, min(2 * low, highest)) | st.integers(low, highest))
    return IntDistribution(low, high, log=True)


def largest_ints() -> SearchStrategy[IntDistribution]:
    """Draw from the widest ranges whose integers are all exact in Optuna's storages (floats)."""
    plain = st.sampled_from([(0, 2**53), (-(2**53), 2**53), (2**53 - 1, 2**53)])
    return plain.map(lambda ends: IntDistribution(*ends)) | log_ints(highest=2**53)


def categories() -> SearchStrategy[CategoricalDistribution]:
    return st.lists(choices, min_size=1, max_size=6, unique_by=_key).map(CategoricalDistribution)


def continuous() -> SearchStrategy[FloatDistribution]:
    return plain_floats() | log_floats()


def discrete() -> SearchStrategy[BaseDistribution]:
    return stepped_floats() | plain_ints() | log_ints() | categories()


def ordered() -> SearchStrategy[FloatDistribution | IntDistribution]:
    return continuous() | stepped_floats() | plain_ints() | log_ints()


def distributions() -> SearchStrategy[BaseDistribution]:
    return continuous() | discrete()


def values_in(distribution: BaseDistribution) -> SearchStrategy[Any]:
    """Draw a value as an objective could have seen it, without the code under test."""
    if isinstance(distribution, CategoricalDistribution):
        return st.sampled_from(distribution.choices)
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    low, high, step = distribution.low, distribution.high, distribution.step
    if step is None:
        return st.floats(low, high)
    return st.integers(0, round((high - low) / step)).map(lambda k: min(low + k * step, high))


def genes_in(distribution: BaseDistribution) -> SearchStrategy[Gene]:
    return values_in(distribution).map(lambda value: Gene(value, distribution))


def genes(of: SearchStrategy[Any] | None = None) -> SearchStrategy[Gene]:
    """Draw genes with distributions of any kind, or of the kind given."""
    return (distributions() if of is None else of).flatmap(genes_in)


def search_spaces(
    of: SearchStrategy[Any] | None = None, min_size: int = 0
) -> SearchStrategy[dict[str, Any]]:
    """Draw up to five named distributions."""
    names = st.sampled_from("abcde")
    return st.dictionaries(names, of if of is not None else distributions(), min_size=min_size)


@st.composite
def individuals(draw: DrawFn, space: Mapping[str, BaseDistribution] | None = None) -> Individual:
    """Draw an evaluated individual that has some or all genes of the space."""
    return draw(_individuals_in(draw(search_spaces()) if space is None else space))


@st.composite
def pools(draw: DrawFn, min_size: int = 0, max_size: int = 5) -> list[Individual]:
    """Draw a breeding pool: trials of one (conditional) space, best first."""
    members = _individuals_in(draw(search_spaces()))
    pool = draw(
        st.lists(
            members,
            min_size=min_size,
            max_size=max_size,
            unique_by=lambda individual: individual.number,
        )
    )
    return sorted(pool, key=by_loss)


@st.composite
def bred(draw: DrawFn, space: Mapping[str, BaseDistribution] | None = None) -> Individual:
    """Draw an offspring that is no trial yet, as it comes from crossover."""
    parent = draw(individuals(space))
    return Individual(
        genes=parent.genes,
        generation=parent.generation + 1,
        lineage=Lineage(("Copy",), (parent.number,), (parent.island,)),
    )


@st.composite
def evaluated(draw: DrawFn) -> Individual:
    """Draw an individual without genes; its loss is that of others often, its identity never."""
    number, worker = draw(st.integers(0, 200)), draw(st.integers(NO_WORKER, 3))
    # one identity has one loss: it is computed from both, with few different outcomes
    mixed = (number * 31 + worker * 17) % 11
    return Individual(
        genes={},
        loss=math.inf if mixed == 10 else float(mixed % 5),
        number=number,
        worker=worker,
        violation=float(mixed % 3 == 0),
        last_step=math.inf if mixed % 4 else float(mixed % 2),  # some were pruned
    )


def _individuals_in(space: Mapping[str, BaseDistribution]) -> SearchStrategy[Individual]:
    every = {name: genes_in(distribution) for name, distribution in space.items()}
    some = st.fixed_dictionaries({}, optional=every)
    return st.builds(
        Individual,
        genes=st.fixed_dictionaries(every) | some,
        loss=losses,
        number=st.integers(0, 1000),
        island=st.integers(0, 3),
        worker=st.integers(NO_WORKER, 7),
        generation=st.integers(0, 50),
        violation=st.just(0.0) | st.floats(0.0, 10.0),
        last_step=st.just(math.inf) | st.integers(0, 9).map(float),
        lineage=st.just(Lineage()),
    )


def _key(choice: Any) -> Any:
    """Return what tells choices apart for Optuna: 1, 1.0 and True are one, and so are all NaNs."""
    return "NaN" if isinstance(choice, float) and math.isnan(choice) else (choice,)
