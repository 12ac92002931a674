"""Genes: parameter values with their Optuna distributions, and their place in the unit interval.

Operators move genes in the unit interval, where a log-scaled range, a linear one and a stepped one
look alike: ``to_unit`` gives every value its place there, ``from_unit`` gives every place a value
that lies in the distribution to the last bit.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Any
from typing import TypeGuard

from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution


if TYPE_CHECKING:
    import numpy as np
    from optuna.distributions import BaseDistribution

_LARGEST_EXPONENT = math.log(sys.float_info.max)


@dataclass(frozen=True, slots=True)
class Gene:
    """One parameter's value with its distribution.

    Args:
        value: The value as the objective sees it.
        distribution: The Optuna distribution that the value lies in.
    """

    value: Any
    distribution: BaseDistribution

    def redrawn(self, rng: np.random.Generator) -> Gene:
        """Return a gene drawn anew, uniformly in the unit interval."""
        return Gene(from_unit(rng.random(), self.distribution), self.distribution)

    def stepped(self, step: float) -> Gene:
        """Return the gene moved by ``step`` in the unit interval, clipped to it.

        Args:
            step: A fraction of the (log-scaled, if the distribution is) range.
        """
        unit = to_unit(self.value, self.distribution) + step
        return Gene(from_unit(min(max(unit, 0.0), 1.0), self.distribution), self.distribution)


def is_ordered(
    distribution: BaseDistribution,
) -> TypeGuard[FloatDistribution | IntDistribution]:
    """Tell whether a step has a meaning: true for floats and integers, false for categories.

    Asked first wherever kinds are told apart: that a float is a float is found at once, that it
    is no category takes ten times as long, as distributions are abstract base classes.
    """
    return isinstance(distribution, (FloatDistribution, IntDistribution))


def n_values(distribution: BaseDistribution) -> int:
    """Return how many values a discrete distribution has; 0 for a continuous one."""
    if not is_ordered(distribution):
        assert isinstance(distribution, CategoricalDistribution)
        return len(distribution.choices)
    if distribution.step is None:
        return 0
    return round((distribution.high - distribution.low) / distribution.step) + 1


def to_unit(value: Any, distribution: BaseDistribution) -> float:
    """Return the place of a value in the unit interval.

    Discrete values (integers, stepped floats, categories) own equal bins, log-scaled integers
    bins of the width that they have on the log scale; the place is a bin's middle.

    Args:
        value: A value of the distribution, as the objective sees it.
        distribution: A float, integer or categorical distribution.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: If the value is not one of a categorical distribution's choices.
    """
    low, high = _bounds(distribution)
    if not is_ordered(distribution):
        position = distribution.to_internal_repr(value) + 0.5
    elif distribution.log:
        position = math.log(value)
    elif distribution.step is not None:
        position = round((value - distribution.low) / distribution.step) + 0.5
    else:
        position = value
    return min(max(_fraction(position, low, high), 0.0), 1.0)


def from_unit(unit: float, distribution: BaseDistribution) -> Any:
    """Return the value at a place of the unit interval.

    Args:
        unit: A number in [0, 1].
        distribution: A float, integer or categorical distribution.

    Returns:
        A Python ``float``, ``int`` or choice that the distribution contains.
    """
    if not is_ordered(distribution):
        assert isinstance(distribution, CategoricalDistribution)
        return distribution.choices[_bin(unit, len(distribution.choices))]
    low, high = _bounds(distribution)
    position = low * (1.0 - unit) + high * unit
    if isinstance(distribution, FloatDistribution):
        if distribution.log:
            position = _exp(position)
        elif distribution.step is not None:
            position = distribution.low + _bin(unit, round(high)) * distribution.step
        return min(max(position, distribution.low), distribution.high)
    if distribution.log:
        nearest = round(_exp(position))
    else:
        n_bins = (distribution.high - distribution.low) // distribution.step + 1
        nearest = distribution.low + _bin(unit, n_bins) * distribution.step
    return min(max(nearest, distribution.low), distribution.high)


def _exp(position: float) -> float:
    """Return the exponential; that of the largest float's logarithm, rounded up, overflows."""
    return math.exp(min(position, _LARGEST_EXPONENT))


def _bounds(distribution: BaseDistribution) -> tuple[float, float]:
    """Return the two ends of the scale on which the unit interval is laid."""
    if not is_ordered(distribution):
        assert isinstance(distribution, CategoricalDistribution)
        return 0.0, float(len(distribution.choices))
    low, high = distribution.low, distribution.high
    if distribution.log:
        margin = 0.5 if isinstance(distribution, IntDistribution) else 0.0
        return math.log(low - margin), math.log(high + margin)
    if distribution.step is None:
        return low, high
    return 0.0, float(round((high - low) / distribution.step) + 1)


def _bin(unit: float, n_bins: int) -> int:
    return min(int(unit * n_bins), n_bins - 1)


def _fraction(position: float, low: float, high: float) -> float:
    if low == high:
        return 0.5
    if math.isinf(high - low):  # e.g. (-1.7e308, 1.7e308): the width itself is no float
        return (position / 2 - low / 2) / (high / 2 - low / 2)
    return (position - low) / (high - low)
