"""Mutation: some genes of each individual are drawn anew or moved by a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.distributions import IntDistribution

from optuna_propulate.evolution.arguments import check_probability
from optuna_propulate.evolution.genes import is_ordered
from optuna_propulate.operators.base import changed


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from optuna_propulate.evolution.genes import Gene
    from optuna_propulate.evolution.individual import Individual


@dataclass(frozen=True)
class PointMutation:
    """Draws ``n_genes`` genes anew, uniformly in the unit interval.

    Args:
        probability: How likely an individual is mutated.
        n_genes: How many different genes then change, or the least and the most, of which any
            number is equally likely; all of them if there are fewer.

    Raises:
        ValueError: If ``probability`` is not in [0, 1], ``n_genes`` is below 1, or its least is
            above its most.
    """

    probability: float = 0.4
    n_genes: int | tuple[int, int] = 1

    def __post_init__(self) -> None:
        check_probability("probability", self.probability)
        least, most = self._range
        if not 1 <= least <= most:
            raise ValueError(
                f"n_genes must be at least 1, or a pair in order, but got {self.n_genes}."
            )

    @property
    def _range(self) -> tuple[int, int]:
        return (self.n_genes, self.n_genes) if isinstance(self.n_genes, int) else self.n_genes

    def __call__(
        self, individuals: Sequence[Individual], rng: np.random.Generator
    ) -> Sequence[Individual]:
        return [self._mutate(individual, rng) for individual in individuals]

    def _mutate(self, individual: Individual, rng: np.random.Generator) -> Individual:
        if not individual.genes or rng.random() >= self.probability:
            return individual
        genes = dict(individual.genes)
        names = sorted(genes)
        least, most = self._range
        n_genes = least if least == most else int(rng.integers(least, most + 1))
        for name in _some(names, n_genes, rng):
            genes[name] = genes[name].redrawn(rng)
        return changed(individual, genes, type(self).__name__)


def _some(names: list[str], n: int, rng: np.random.Generator) -> list[str]:
    """Draw ``n`` different names."""
    if n == 1:
        return [names[int(rng.random() * len(names))]]  # a fifth of a permutation's time
    return [names[index] for index in rng.permutation(len(names))[:n].tolist()]


@dataclass(frozen=True)
class IntervalMutation:
    """Moves one float or integer gene by a normal step in the unit interval, clipped to it.

    Args:
        probability: How likely an individual is mutated.
        sigma_factor: The step's standard deviation as a fraction of the range, on the log
            scale where the distribution is log-scaled; above 0.
        integers: Whether integer genes are moved too, by whole steps.

    Raises:
        ValueError: If ``probability`` is not in [0, 1] or ``sigma_factor`` is not above 0.

    Reference:
        Taubert et al., Massively Parallel Genetic Optimization through Asynchronous Propagation
        of Populations, ISC 2023, arXiv:2301.08713 (there in the linear range).
    """

    probability: float = 0.4
    sigma_factor: float = 0.05
    integers: bool = True

    def __post_init__(self) -> None:
        check_probability("probability", self.probability)
        if not self.sigma_factor > 0.0:
            raise ValueError(f"sigma_factor must be above 0, but got {self.sigma_factor}.")

    def __call__(
        self, individuals: Sequence[Individual], rng: np.random.Generator
    ) -> Sequence[Individual]:
        return [self._mutate(individual, rng) for individual in individuals]

    def _mutate(self, individual: Individual, rng: np.random.Generator) -> Individual:
        if rng.random() >= self.probability:
            return individual
        names = sorted(name for name, gene in individual.genes.items() if self._moves(gene))
        if not names:
            return individual
        name = names[int(rng.integers(len(names)))]
        step = float(rng.normal(0.0, self.sigma_factor))
        genes = {**individual.genes, name: individual.genes[name].stepped(step)}
        return changed(individual, genes, type(self).__name__)

    def _moves(self, gene: Gene) -> bool:
        if isinstance(gene.distribution, IntDistribution):
            return self.integers
        return is_ordered(gene.distribution)
