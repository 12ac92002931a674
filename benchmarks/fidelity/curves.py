"""Learning curves to search on: real ones of digits, and made ones that end at tables' losses.

The tables that can be had offline hold what a training came to, not its way there. Theirs is
made: a power law, of a steepness of its own for each setting, so that curves cross, with noise
that is gone at the last epoch. All losses are regrets: 0 for the best setting of the table after
its last epoch, 1 for the median one.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.distributions import IntDistribution

from benchmarks.fidelity.digits import GRID
from benchmarks.quality.tables import table


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import optuna
    from numpy.typing import NDArray
    from optuna.distributions import BaseDistribution

N_EPOCHS = 27
MADE = ("car", "slice_localization", "cifar10")
DIGITS = "digits"
NAMES = (*MADE, DIGITS)


@dataclass(frozen=True)
class Curves:
    """A search problem whose trials report a loss after each epoch.

    Args:
        space: The distribution of each parameter; ordered ones are indices into their values.
        curve: Called with an index for each parameter; returns the losses, shape ``(N_EPOCHS,)``.
    """

    space: dict[str, BaseDistribution]
    curve: Callable[[tuple[int, ...]], NDArray[np.float64]]

    def of(self, trial: optuna.Trial) -> list[float]:
        """Return the losses of the parameters that a trial suggests."""
        places = tuple(_suggested(trial, *one) for one in self.space.items())
        return [float(loss) for loss in self.curve(places)]


def _suggested(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> int:
    if isinstance(distribution, CategoricalDistribution):
        value = trial.suggest_categorical(name, distribution.choices)
        return distribution.choices.index(value)
    assert isinstance(distribution, IntDistribution)
    return trial.suggest_int(name, distribution.low, distribution.high)


@cache
def curves(name: str, digits: Path) -> Curves:
    """Return a problem by its name, one of ``NAMES``.

    Args:
        name: Its name.
        digits: The file of ``digits.trained``.
    """
    if name == DIGITS:
        return _of_digits(np.load(digits))
    ends = table(name)

    def curve(place: tuple[int, ...]) -> NDArray[np.float64]:
        rng = np.random.default_rng((zlib.crc32(name.encode()), *place))
        return made(float(ends.losses[place]), rng)

    return Curves(ends.space, curve)


def made(end: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a learning curve that ends at a loss, shape ``(N_EPOCHS,)``."""
    epochs = np.arange(1, N_EPOCHS + 1)
    steepness, height = rng.uniform(0.3, 2.0), rng.uniform(0.5, 2.0)
    left = (epochs**-steepness - N_EPOCHS**-steepness) / (1.0 - N_EPOCHS**-steepness)
    noise = 0.05 * rng.normal(size=N_EPOCHS) * np.linspace(1.0, 0.0, N_EPOCHS)
    return np.asarray(end + left * height + noise)


def _of_digits(losses: NDArray[Any]) -> Curves:
    ends = losses[..., -1]
    best, median = float(ends.min()), float(np.median(ends))
    regrets = (losses - best) / (median - best)
    space: dict[str, BaseDistribution] = {
        name: IntDistribution(0, len(values) - 1) for name, values in GRID.items()
    }
    return Curves(space, lambda place: regrets[place])
