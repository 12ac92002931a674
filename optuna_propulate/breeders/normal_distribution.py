"""A normal distribution that learns from generations of ranked points, as CMA-ES does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np


if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]
    Matrix = NDArray[np.float64]

_LEAST_WIDTH = 1e-13
_MOST_SIGMA = 0.5


def generation_size(n_dimensions: int) -> int:
    """Return how many points a generation has, at least (eq. 48)."""
    return 4 + int(3 * math.log(n_dimensions))


@dataclass(frozen=True)
class Rates:
    """The weights of a generation's points, and how fast is learnt from it (table 1)."""

    weights: Vector
    n_parents: int
    mu_eff: float
    c_1: float
    c_mu: float
    c_sigma: float
    d_sigma: float
    c_c: float
    mean_norm: float


@lru_cache(maxsize=256)
def rates(n: int, size: int) -> Rates:
    """Return the rates for ``n`` dimensions and generations of ``size`` points."""
    raw = math.log((size + 1) / 2) - np.log(np.arange(1, size + 1))
    mu = size // 2
    good, bad = raw[:mu], raw[mu:]
    mu_eff = float(good.sum() ** 2 / (good**2).sum())
    mu_eff_bad = float(bad.sum() ** 2 / (bad**2).sum())
    c_1 = 2.0 / ((n + 1.3) ** 2 + mu_eff)
    c_mu = min(1.0 - c_1 - 1e-8, 2.0 * (mu_eff - 2.0 + 1.0 / mu_eff) / ((n + 2) ** 2 + mu_eff))
    most = min(
        1.0 + c_1 / c_mu,
        1.0 + 2.0 * mu_eff_bad / (mu_eff + 2.0),
        (1.0 - c_1 - c_mu) / (n * c_mu),
    )
    negative = most / float(np.abs(raw[raw < 0.0]).sum())
    c_sigma = (mu_eff + 2.0) / (n + mu_eff + 5.0)
    return Rates(
        weights=np.where(raw >= 0.0, raw / raw[raw > 0.0].sum(), negative * raw),
        n_parents=mu,
        mu_eff=mu_eff,
        c_1=c_1,
        c_mu=c_mu,
        c_sigma=c_sigma,
        d_sigma=1.0 + 2.0 * max(0.0, math.sqrt((mu_eff - 1.0) / (n + 1)) - 1.0) + c_sigma,
        c_c=(4.0 + mu_eff / n) / (n + 4.0 + 2.0 * mu_eff / n),
        mean_norm=math.sqrt(n) * (1.0 - 1.0 / (4 * n) + 1.0 / (21 * n * n)),
    )


class AdaptiveNormal:
    """A normal distribution; its mean, width and shape follow the better points of generations.

    Points need not have been drawn from it: those that are too far off are moved nearer.

    Args:
        mean: Shape ``(n,)``.
        sigma: The standard deviation in each direction, above 0.

    Reference:
        Hansen, The CMA evolution strategy: a tutorial, arXiv:1604.00772 (equations by number);
        Hansen, Injecting external solutions into CMA-ES, arXiv:1110.4181.
    """

    def __init__(self, mean: Vector, sigma: float) -> None:
        n = len(mean)
        self.mean, self.sigma = mean, sigma
        self._covariance = np.eye(n)
        self._axes, self._widths = np.eye(n), np.ones(n)
        self._path_sigma, self._path = np.zeros(n), np.zeros(n)
        self._n_generations = 0

    @property
    def has_converged(self) -> bool:
        """Whether it is too narrow for floats, or too flat for its eigenvectors."""
        widest, narrowest = float(self._widths.max()), float(self._widths.min())
        return self.sigma * widest < _LEAST_WIDTH or widest > 1e7 * narrowest

    def draw(self, n_points: int, rng: np.random.Generator) -> Matrix:
        """Draw points, shape ``(n_points, n)`` (eqs. 38 to 40)."""
        steps = self._widths * rng.normal(size=(n_points, len(self.mean)))
        points: Matrix = self.mean + self.sigma * (steps @ self._axes.T)
        return points

    def learn(self, points: Matrix) -> None:
        """Move towards the better points of a generation.

        Args:
            points: Shape ``(n_points, n)``, the best first; NaN counts as the mean.
        """
        n, r = len(self.mean), rates(len(self.mean), len(points))
        steps = np.where(np.isnan(points), 0.0, (points - self.mean) / self.sigma)
        lengths = np.linalg.norm((steps @ self._axes) / self._widths, axis=1)
        farthest = math.sqrt(n) + 2.0 * n / (n + 2.0)
        shrunk = np.minimum(1.0, farthest / np.maximum(lengths, 1e-300))
        steps, lengths = steps * shrunk[:, None], lengths * shrunk

        step = r.weights[: r.n_parents] @ steps[: r.n_parents]  # eq. 41
        self.mean = self.mean + self.sigma * step  # eq. 42

        whitened = self._axes @ ((self._axes.T @ step) / self._widths)
        self._path_sigma = (1.0 - r.c_sigma) * self._path_sigma + math.sqrt(
            r.c_sigma * (2.0 - r.c_sigma) * r.mu_eff
        ) * whitened  # eq. 43
        norm = float(np.linalg.norm(self._path_sigma))
        change = (r.c_sigma / r.d_sigma) * (norm / r.mean_norm - 1.0)
        self.sigma = min(self.sigma * math.exp(min(1.0, change)), _MOST_SIGMA)  # eq. 44

        self._n_generations += 1
        unbiased = math.sqrt(1.0 - (1.0 - r.c_sigma) ** (2 * self._n_generations))
        follows = 1.0 if norm / unbiased < (1.4 + 2.0 / (n + 1)) * r.mean_norm else 0.0
        self._path = (1.0 - r.c_c) * self._path + follows * math.sqrt(
            r.c_c * (2.0 - r.c_c) * r.mu_eff
        ) * step  # eq. 45
        weights = np.where(
            r.weights >= 0.0, r.weights, r.weights * n / np.maximum(lengths**2, 1e-8)
        )  # eq. 46
        kept = 1.0 + r.c_1 * (1.0 - follows) * r.c_c * (2.0 - r.c_c)
        self._covariance = (
            (kept - r.c_1 - r.c_mu * r.weights.sum()) * self._covariance
            + r.c_1 * np.outer(self._path, self._path)
            + r.c_mu * (steps.T * weights) @ steps
        )  # eq. 47
        self._decompose()

    def _decompose(self) -> None:
        self._covariance = 0.5 * (self._covariance + self._covariance.T)
        variances, self._axes = np.linalg.eigh(self._covariance)
        self._widths = np.sqrt(np.maximum(variances, 1e-20))
