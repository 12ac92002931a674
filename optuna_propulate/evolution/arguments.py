"""Checks of what a user gives, each with an error that names the argument."""

from __future__ import annotations

import math
import operator
from typing import Any


def check_integer(name: str, value: Any, least: int) -> int:
    """Return an integer as an ``int``.

    Args:
        name: The argument's name.
        value: What was given.
        least: The least that is allowed.

    Raises:
        TypeError: If it is no integer.
        ValueError: If it is less than allowed.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, but got {value!r}.") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, but got {number}.")
    return number


def check_seconds(name: str, value: Any) -> None:
    """Check a time in seconds.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is negative, or not a number.
    """
    if not check_number(name, value) >= 0.0:
        raise ValueError(f"{name} must not be negative, but got {value}.")


def check_probability(name: str, value: Any) -> float:
    """Return a probability.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is not in [0, 1].
    """
    if not 0.0 <= check_number(name, value) <= 1.0:
        raise ValueError(f"{name} must be in [0, 1], but got {value}.")
    return float(value)


def check_number(name: str, value: Any) -> float:
    """Return a number as a ``float``.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is NaN.
    """
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{name} must be a number, but got {value!r}.")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, but got {value!r}.") from None
    if math.isnan(number):
        raise ValueError(f"{name} must be a number, but got {value!r}.")
    return number
