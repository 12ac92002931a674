"""The nine functions of the Propulate paper, shifted for the quality benchmark.

Reference:
    Taubert et al., Massively Parallel Genetic Optimization through Asynchronous Propagation of
    Populations, ISC 2023, arXiv:2301.08713, and ``function_benchmark`` there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np


if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Function:
    """A function of ``n_dimensions`` floats, each within ``(-limit, limit)``.

    Args:
        name: Its name.
        n_dimensions: How many floats it takes.
        limit: The bound of each.
        value: Called with a vector of shape ``(n_dimensions,)``.
        best: Its smallest value.
        shift: How far, at most, the benchmark moves each coordinate of the optimum.
    """

    name: str
    n_dimensions: int
    limit: float
    value: Callable[[Vector], float]
    best: float = 0.0
    shift: float = 0.0


def sphere(x: Vector) -> float:
    return float(x @ x)


def rosenbrock(x: Vector) -> float:
    return float(np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2))


def step(x: Vector) -> float:
    return float(np.sum(np.trunc(np.maximum(x, -5.12))))


def quartic(x: Vector) -> float:
    """Return the function without its noise, which ``quartic_noise`` gives."""
    return float(np.arange(1, len(x) + 1) @ x**4)


def quartic_noise(n_dimensions: int, rng: np.random.Generator) -> float:
    return float(rng.normal(size=n_dimensions).sum())


def rastrigin(x: Vector) -> float:
    return float(10.0 * len(x) + np.sum(x**2 - 10.0 * np.cos(2.0 * math.pi * x)))


def griewank(x: Vector) -> float:
    waves = np.prod(np.cos(x / np.sqrt(np.arange(1, len(x) + 1))))
    return float(1.0 + x @ x / 4000.0 - waves)


def schwefel(x: Vector) -> float:
    return float(418.982887 * len(x) - np.sum(x * np.sin(np.sqrt(np.abs(x)))))


def bisphere(x: Vector) -> float:
    n = len(x)
    s = 1.0 - math.sqrt(1.0 / (2.0 * math.sqrt(n + 20.0) - 8.2))
    mu = -math.sqrt((2.5**2 - 1.0) / s)
    return float(min(np.sum((x - 2.5) ** 2), n + s * np.sum((x - mu) ** 2)))


def birastrigin(x: Vector) -> float:
    return bisphere(x) + float(10.0 * np.sum(1.0 - np.cos(2.0 * math.pi * (x - 2.5))))


FUNCTIONS = (
    Function("sphere", 2, 5.12, sphere, shift=3.0),
    Function("rosenbrock", 2, 2.048, rosenbrock, shift=0.8),
    Function("step", 5, 5.12, step, best=-25.0, shift=1.0),
    Function("quartic", 30, 1.28, quartic, shift=0.7),
    Function("rastrigin", 20, 5.12, rastrigin, shift=3.0),
    Function("griewank", 10, 600.0, griewank, shift=300.0),
    Function("schwefel", 10, 500.0, schwefel, shift=40.0),
    Function("bisphere", 30, 5.12, bisphere, shift=0.5),
    Function("birastrigin", 30, 5.12, birastrigin, shift=0.5),
)
