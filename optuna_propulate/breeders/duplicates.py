"""Offspring that were not evaluated before."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from optuna_propulate.breeders.base import breeder_of
from optuna_propulate.evolution.arguments import check_integer
from optuna_propulate.evolution.genes import is_ordered
from optuna_propulate.operators.mutation import PointMutation


if TYPE_CHECKING:
    import numpy as np

    from optuna_propulate.breeders.base import Breeder
    from optuna_propulate.breeders.base import Evaluation
    from optuna_propulate.breeders.context import BreedingContext
    from optuna_propulate.evolution.genes import Gene
    from optuna_propulate.evolution.individual import Individual
    from optuna_propulate.operators import Operator

Names = tuple[str, ...]
Values = tuple[float, ...]

_N_REMEMBERED = 10_000
_N_BRANCHES = 64


class AvoidDuplicates:
    """Mutates offspring that were evaluated before, or are now.

    One gene is drawn anew, up to ``n_tries`` times: a small discrete space may be exhausted.
    Otherwise crossover alone would fill the pool of a search in few dimensions with copies.

    Args:
        operators: What makes the offspring.
        n_tries: How often a duplicate is mutated; at least 1.

    Raises:
        ValueError: If ``n_tries`` is below 1.
    """

    def __init__(self, operators: Operator | Breeder, n_tries: int = 10) -> None:
        check_integer("n_tries", n_tries, 1)
        self._breeder = breeder_of(operators)
        self._n_tries = n_tries
        self._known = KnownSettings()

    def propose(self, context: BreedingContext, rng: np.random.Generator) -> Individual:
        child = self._breeder.propose(context, rng)
        under_way = {_setting(one) for one in context.pending}
        for _ in range(self._n_tries):
            if not (self._known.holds(child) or (under_way and _setting(child) in under_way)):
                break
            (child,) = PointMutation(probability=1.0)([child], rng)
        return child

    def observe(self, evaluation: Evaluation) -> None:
        self._known.add(evaluation.individual)
        self._breeder.observe(evaluation)


class KnownSettings:
    """The settings of the latest evaluations, by the genes' names."""

    def __init__(self) -> None:
        self._values: dict[Names, OrderedDict[Values, None]] = {}

    def holds(self, child: Individual) -> bool:
        """Tell whether one that is known has the child's genes, as far as it asked for them."""
        own, setting = _setting(child)
        if setting in self._values.get(own, ()):
            return True
        return any(
            len(names) < len(own)
            and child.genes.keys() >= set(names)
            and _values(child, names) in values
            for names, values in self._values.items()
        )

    def add(self, individual: Individual) -> None:
        """Remember the setting of an individual that was evaluated."""
        names, setting = _setting(individual)
        if not names:
            return
        values = self._values.pop(names, None) or OrderedDict()
        self._values[names] = values  # now the latest
        values[setting] = None
        if len(self._values) > _N_BRANCHES:
            del self._values[next(iter(self._values))]
        while len(values) > _N_REMEMBERED // len(self._values):
            values.popitem(last=False)  # a plain dict would search for its first one


def _setting(individual: Individual) -> tuple[Names, Values]:
    names = tuple(sorted(individual.genes))
    return names, _values(individual, names)


def _values(individual: Individual, names: Names) -> Values:
    """Return what tells settings apart; choices themselves may be lists, or NaN."""
    return tuple([_number(individual.genes[name]) for name in names])


def _number(gene: Gene) -> float:
    value, distribution = gene.value, gene.distribution
    return value if is_ordered(distribution) else distribution.to_internal_repr(value)
