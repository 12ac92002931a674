"""The operators of Propulate: those of its paper, and those of its package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna_propulate.evolution.arguments import check_probability
from optuna_propulate.operators.base import Pipeline
from optuna_propulate.operators.crossover import UniformCrossover
from optuna_propulate.operators.initialization import RandomInitialization
from optuna_propulate.operators.mutation import IntervalMutation
from optuna_propulate.operators.mutation import PointMutation
from optuna_propulate.operators.selection import SelectUniform


if TYPE_CHECKING:
    from optuna_propulate.operators.base import Operator


def crossover_and_mutation(
    *,
    crossover_probability: float = 0.7,
    mutation_probability: float = 0.4,
    random_probability: float = 0.1,
    sigma_factor: float = 0.05,
) -> Operator:
    """Return the operators of Propulate's paper, on the unit interval.

    Args:
        crossover_probability: How likely two parents are crossed, in [0, 1].
        mutation_probability: How likely each of the two mutations happens, in [0, 1].
        random_probability: How likely an offspring is replaced by a random one, in [0, 1].
        sigma_factor: The standard deviation of a mutation's step as a fraction of the range
            (the log-scaled range where the distribution is log-scaled), above 0.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Taubert et al., ISC 2023, arXiv:2301.08713, and ``get_default_propagator`` there.
    """
    return Pipeline(
        SelectUniform(2),
        UniformCrossover(check_probability("crossover_probability", crossover_probability)),
        PointMutation(check_probability("mutation_probability", mutation_probability)),
        IntervalMutation(mutation_probability, sigma_factor),
        RandomInitialization(check_probability("random_probability", random_probability)),
    )


def propulate_defaults(
    *,
    parent_share: float = 0.7,
    mutation_probability: float = 0.4,
    random_probability: float = 0.1,
    sigma_factor: float = 0.05,
) -> Operator:
    """Return operators with the semantics of Propulate 1.2's ``get_default_propagator``.

    They differ from ``crossover_and_mutation`` in three points: parents are always crossed, and
    the package's ``crossover_prob`` is the first parent's share of the genes; the interval
    mutation always happens; and it moves floats only, never integers. For comparisons with the
    package, whose offspring follow the same laws (``tests/reference``); steps are on the unit
    interval here too.

    Args:
        parent_share: How likely a gene comes from the first parent, in [0, 1].
        mutation_probability: How likely one gene is drawn anew, in [0, 1].
        random_probability: How likely an offspring is replaced by a random one, in [0, 1].
        sigma_factor: As for ``crossover_and_mutation``.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        ``propulate.utils.get_default_propagator`` of the package propulate 1.2.2.
    """
    return Pipeline(
        SelectUniform(2),
        UniformCrossover(1.0, parent_share),
        PointMutation(check_probability("mutation_probability", mutation_probability)),
        IntervalMutation(1.0, sigma_factor, integers=False),
        RandomInitialization(check_probability("random_probability", random_probability)),
    )
