"""The operators that a sampler uses if it is given none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna_propulate.breeders.cma_es import CovarianceSampling
from optuna_propulate.breeders.conditional import InheritMissing
from optuna_propulate.breeders.duplicates import AvoidDuplicates
from optuna_propulate.breeders.operator_selection import CreditChoice
from optuna_propulate.breeders.parzen import ParzenSampling
from optuna_propulate.breeders.startup import WarmUp
from optuna_propulate.operators.base import Pipeline
from optuna_propulate.operators.base import check_probability
from optuna_propulate.operators.crossover import UniformCrossover
from optuna_propulate.operators.initialization import RandomInitialization
from optuna_propulate.operators.mutation import IntervalMutation
from optuna_propulate.operators.mutation import PointMutation
from optuna_propulate.operators.selection import SelectBest
from optuna_propulate.operators.selection import SelectTournament
from optuna_propulate.operators.selection import SelectUniform


if TYPE_CHECKING:
    from collections.abc import Iterable

    from optuna_propulate.operators.base import Operator

N_RANDOM = 10
"""How many random trials come first, if the breeding pool is not smaller."""


def default_operator(population_size: int, *, n_workers: int = 1) -> Operator:
    """Return the operators that a sampler uses if it is given none.

    Three ways to breed, chosen by the credit of their latest offspring: crossover, with one gene
    drawn anew as often as not; Parzen estimators; and a normal distribution that follows the
    better births. The last is what smooth functions need, crossover what rugged ones do, and the
    densities pay where trials are few: on the tables of training runs, with 1 and 8 workers.
    ``SelfAdaptiveMutation`` or ``DifferentialMutation`` beside them do not better the mean rank
    (``benchmarks/results/ablation.md``).

    Args:
        population_size: The size of the breeding pool, at least 2.
        n_workers: How many workers the island has.

    Raises:
        ValueError: If ``population_size`` is below 2.
    """
    return choose_among(ways_to_breed(n_workers).values(), population_size)


def ways_to_breed(n_workers: int = 1) -> dict[str, tuple[Operator, float]]:
    """Return what ``default_operator`` chooses among, with the least probability of each.

    Args:
        n_workers: How many workers the island has.
    """
    densities = ParzenSampling()
    return {
        "genes": (Pipeline(SelectTournament(2), UniformCrossover(1.0), PointMutation(0.5)), 0.03),
        "densities": (densities, 0.03),
        "covariance": (CovarianceSampling(densities, n_births=max(4, n_workers // 8)), 0.15),
    }


def choose_among(ways: Iterable[tuple[Operator, float]], population_size: int) -> Operator:
    """Return random individuals first, then what the ways to breed give, chosen by credit.

    Args:
        ways: Operators with their least probabilities.
        population_size: The size of the breeding pool, at least 2.

    Raises:
        ValueError: If ``population_size`` is below 2, or the probabilities are out of range.
    """
    if population_size < 2:
        raise ValueError(f"population_size must be at least 2, but got {population_size}.")
    operators, floors = zip(*ways, strict=True)
    choice = CreditChoice(operators, floors)
    return WarmUp(min(N_RANDOM, population_size), AvoidDuplicates(InheritMissing(choice)))


def crossover_and_mutation(
    population_size: int,
    *,
    crossover_probability: float = 0.7,
    mutation_probability: float = 0.4,
    random_probability: float = 0.1,
    sigma_factor: float = 0.05,
) -> Operator:
    """Return the operators of Propulate's paper, on the unit interval.

    Args:
        population_size: The size of the breeding pool; random individuals until it is full.
        crossover_probability: How likely two parents are crossed, in [0, 1].
        mutation_probability: How likely each of the two mutations happens, in [0, 1].
        random_probability: How likely an offspring is replaced by a random one, in [0, 1].
        sigma_factor: Standard deviation of a step as a fraction of the range; above 0.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Taubert et al., ISC 2023, arXiv:2301.08713, and ``get_default_propagator`` there.
    """
    _check(population_size, crossover_probability, mutation_probability, random_probability)
    return WarmUp(
        population_size,
        Pipeline(
            SelectBest(population_size),
            SelectUniform(2),
            UniformCrossover(probability=crossover_probability),
            PointMutation(probability=mutation_probability),
            IntervalMutation(probability=mutation_probability, sigma_factor=sigma_factor),
            RandomInitialization(probability=random_probability),
        ),
    )


def propulate_defaults(
    population_size: int,
    *,
    crossover_probability: float = 0.7,
    mutation_probability: float = 0.4,
    random_probability: float = 0.1,
    sigma_factor: float = 0.05,
) -> Operator:
    """Return operators with the semantics of Propulate 1.2's ``get_default_propagator``.

    They differ from ``crossover_and_mutation`` in three points: parents are always crossed, with
    ``crossover_probability`` as the first parent's share of the genes; the interval mutation
    always happens; and it moves floats only, never integers. For comparisons with the package,
    whose offspring follow the same laws (``tests/reference``); steps are on the unit interval
    here too.

    Args:
        population_size: The size of the breeding pool; random individuals until it is full.
        crossover_probability: How likely a gene comes from the first parent, in [0, 1].
        mutation_probability: How likely one gene is drawn anew, in [0, 1].
        random_probability: How likely an offspring is replaced by a random one, in [0, 1].
        sigma_factor: Standard deviation of a step as a fraction of the range; above 0.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        ``propulate.utils.get_default_propagator`` of the package propulate 1.2.2.
    """
    _check(population_size, crossover_probability, mutation_probability, random_probability)
    return WarmUp(
        population_size,
        Pipeline(
            SelectBest(population_size),
            SelectUniform(2),
            UniformCrossover(probability=1.0, parent_share=crossover_probability),
            PointMutation(probability=mutation_probability),
            IntervalMutation(probability=1.0, sigma_factor=sigma_factor, integers=False),
            RandomInitialization(probability=random_probability),
        ),
    )


def _check(
    population_size: int,
    crossover_probability: float,
    mutation_probability: float,
    random_probability: float,
) -> None:
    if population_size < 2:
        raise ValueError(f"population_size must be at least 2, but got {population_size}.")
    check_probability("crossover_probability", crossover_probability)
    check_probability("mutation_probability", mutation_probability)
    check_probability("random_probability", random_probability)
