"""The breeder that a sampler uses if it is given none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna_propulate.breeders.cma_es import CovarianceSampling
from optuna_propulate.breeders.conditional import InheritMissing
from optuna_propulate.breeders.duplicates import AvoidDuplicates
from optuna_propulate.breeders.operator_selection import CreditChoice
from optuna_propulate.breeders.recombination import Recombination
from optuna_propulate.breeders.screening import Screening
from optuna_propulate.breeders.startup import WarmUp
from optuna_propulate.evolution.arguments import check_integer


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable

    from optuna_propulate.breeders.base import Breeder
    from optuna_propulate.operators import Operator

N_RANDOM = 10
"""How many random trials come first, if the breeding pool is not smaller."""


def default_breeder(population_size: int, *, n_workers: int = 1) -> Breeder:
    """Return the breeder that a sampler uses if it is given none.

    Two ways to breed, chosen by the credit of their latest offspring: crossover, with one gene
    drawn anew half of the time, which rugged functions need; and a normal distribution that
    follows the better evaluations, which smooth ones do. Of twenty children that they breed
    (later fewer), the one is evaluated whose nearest evaluations were best. ``ParzenSampling``,
    ``SelfAdaptiveMutation`` or ``DifferentialMutation`` beside them do not better the mean rank
    (``benchmarks/results/ablation.md``).

    Args:
        population_size: The size of the breeding pool, at least 2.
        n_workers: How many workers the island has.

    Raises:
        ValueError: If ``population_size`` is below 2.
    """
    return choose_among(ways_to_breed(n_workers).values(), population_size)


def ways_to_breed(n_workers: int = 1) -> dict[str, tuple[Operator | Breeder, float]]:
    """Return what ``default_breeder`` chooses among, with the least probability of each.

    Args:
        n_workers: How many workers the island has.
    """
    covariance = CovarianceSampling(Recombination(), n_births=max(4, n_workers // 8))
    return {
        "genes": (Recombination(), 0.03),
        "covariance": (covariance, 0.15),
    }


def choose_among(
    ways: Iterable[tuple[Operator | Breeder, float]],
    population_size: int,
    *,
    screening: Callable[[Breeder], Breeder] = Screening,
) -> Breeder:
    """Return random individuals first, then what the ways to breed give, chosen by credit.

    Args:
        ways: Operators and breeders, with their least probabilities.
        population_size: The size of the breeding pool, at least 2.
        screening: Returns what proposes some of the children of a breeder.

    Raises:
        ValueError: If ``population_size`` is below 2, or the probabilities are out of range.
    """
    check_integer("population_size", population_size, 2)
    operators, floors = zip(*ways, strict=True)
    screened = screening(InheritMissing(CreditChoice(operators, floors)))
    return WarmUp(min(N_RANDOM, population_size), AvoidDuplicates(screened))
