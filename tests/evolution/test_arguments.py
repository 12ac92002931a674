"""What a user gives is taken, or refused with the argument's name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from optuna_propulate.evolution.arguments import check_integer
from optuna_propulate.evolution.arguments import check_probability
from optuna_propulate.evolution.arguments import check_seconds


pytestmark = pytest.mark.unit


@pytest.mark.parametrize("value", [2, 3, np.int64(7), 10**30])
def test_an_integer_is_taken(value: int) -> None:
    number = check_integer("n", value, 2)
    assert (number, type(number)) == (value, int)


@pytest.mark.parametrize("value", ["3", 2.0, None, [2], math.nan])
def test_what_is_no_integer_is_refused_by_name(value: Any) -> None:
    with pytest.raises(TypeError, match="n_dogs must be an integer, but got"):
        check_integer("n_dogs", value, 2)


def test_an_integer_below_the_least_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="n_dogs must be at least 2, but got 1"):
        check_integer("n_dogs", 1, 2)


@pytest.mark.parametrize("value", [0, 0.5, np.float32(3.0), math.inf])
def test_seconds_are_taken(value: float) -> None:
    check_seconds("timeout", value)


@pytest.mark.parametrize(
    ("value", "kind"),
    [(-1, ValueError), (math.nan, ValueError), ("1", TypeError), ([], TypeError)],
)
def test_what_is_no_time_is_refused_by_name(value: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="timeout must"):
        check_seconds("timeout", value)


@pytest.mark.parametrize("value", ["0.5", None, b"1"])
def test_a_probability_is_a_number(value: Any) -> None:
    with pytest.raises(TypeError, match="chance must be a number"):
        check_probability("chance", value)


@pytest.mark.parametrize("value", [0, 0.0, 0.3, 1.0, 1])
def test_a_probability_passes_unchanged(value: float) -> None:
    assert check_probability("chance", value) == value


@pytest.mark.parametrize("value", [-1e-9, 1.0 + 1e-9, -1, 2, math.inf, -math.inf, math.nan])
def test_what_is_no_probability_is_refused_by_name(value: float) -> None:
    with pytest.raises(ValueError, match=rf"chance must be .* but got {value}"):
        check_probability("chance", value)
