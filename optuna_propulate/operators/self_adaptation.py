"""Steps whose width evolves with the individuals that take them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna_propulate.evolution.genes import Gene
from optuna_propulate.evolution.genes import from_unit
from optuna_propulate.evolution.genes import is_ordered
from optuna_propulate.evolution.genes import n_values
from optuna_propulate.evolution.genes import to_unit
from optuna_propulate.operators.base import SIGMA
from optuna_propulate.operators.base import changed


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from optuna_propulate.evolution.individual import Individual


@dataclass(frozen=True)
class SelfAdaptiveMutation:
    """Moves a random number of genes by normal steps, whose width each individual inherits.

    The width is multiplied by a log-normal factor first, and the offspring carries the outcome:
    widths that lead to good individuals spread with them. Half of the time one gene moves in the
    mean, else a share drawn anew; steps are reflected at the bounds, discrete genes move by a
    whole value at least, categories are drawn anew.

    Args:
        sigma: The width of an individual that inherits none, as a fraction of the range.
        learning_rate: The standard deviation of the factor's logarithm; above 0.

    Raises:
        ValueError: If ``sigma`` or ``learning_rate`` is not above 0.

    Reference:
        Schwefel, Numerical Optimization of Computer Models, 1981; Beyer and Schwefel, Evolution
        strategies: a comprehensive introduction, Natural Computing 1, 2002.
    """

    sigma: float = 0.1
    learning_rate: float = 0.5

    def __post_init__(self) -> None:
        for name in ("sigma", "learning_rate"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be above 0, but got {getattr(self, name)}.")

    def __call__(
        self, individuals: Sequence[Individual], rng: np.random.Generator
    ) -> Sequence[Individual]:
        return [self._mutate(individual, rng) for individual in individuals]

    def _mutate(self, individual: Individual, rng: np.random.Generator) -> Individual:
        if not individual.genes:
            return individual
        inherited = individual.lineage.strategy.get(SIGMA, self.sigma)
        sigma = inherited * math.exp(self.learning_rate * rng.normal())
        sigma = min(max(sigma, 1e-12), 0.5)
        genes = dict(individual.genes)
        for name in self._moving(sorted(genes), rng):
            genes[name] = _moved(genes[name], sigma * rng.normal(), rng)
        return changed(individual, genes, type(self).__name__, sigma=sigma)

    def _moving(self, names: list[str], rng: np.random.Generator) -> list[str]:
        share = 1.0 / len(names) if rng.random() < 0.5 else rng.random()
        draws = rng.random(len(names)).tolist()
        moving = [name for name, draw in zip(names, draws, strict=True) if draw < share]
        return moving or [names[int(rng.integers(len(names)))]]


def _moved(gene: Gene, step: float, rng: np.random.Generator) -> Gene:
    if not is_ordered(gene.distribution):
        return gene.redrawn(rng)
    n = n_values(gene.distribution)
    if n < 2:
        return _stepped(gene, step)
    step = math.copysign(max(abs(step), 1.0 / n), step)
    for longer in (1.0, 4.0, 16.0, 64.0):  # the first bins of log-scaled integers are wide
        for toward in (step * longer, -step * longer):  # a bound reflects to the same value
            moved = _stepped(gene, toward)
            if moved.value != gene.value:
                return moved
    return gene.redrawn(rng)


def _stepped(gene: Gene, step: float) -> Gene:
    """Return the gene moved by a step in the unit interval, reflected at its ends."""
    unit = abs(to_unit(gene.value, gene.distribution) + step)
    unit = 2.0 - unit if unit > 1.0 else unit
    return Gene(from_unit(min(max(unit, 0.0), 1.0), gene.distribution), gene.distribution)
