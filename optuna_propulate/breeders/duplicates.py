"""Operators around an operator: what its offspring lack is inherited, duplicates are avoided."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna_propulate.breeders.context import BreedingContext
from optuna_propulate.evolution.genes import is_ordered
from optuna_propulate.operators.mutation import PointMutation


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from optuna_propulate.breeders.context import Birth
    from optuna_propulate.evolution.genes import Gene
    from optuna_propulate.evolution.individual import Individual
    from optuna_propulate.operators.base import Operator


Names = tuple[str, ...]


Values = tuple[float, ...]


_N_REMEMBERED = 10_000


_N_BRANCHES = 64


@dataclass(frozen=True)
class AvoidDuplicates:
    """Mutates offspring that were evaluated before, or are now.

    One gene is drawn anew, up to ``n_tries`` times: a small discrete space may be exhausted.
    Otherwise crossover alone would fill the pool of a search in few dimensions with copies.

    Args:
        operator: What makes the offspring.
        n_tries: How often a duplicate is mutated; at least 1.

    Raises:
        ValueError: If ``n_tries`` is below 1.
    """

    operator: Operator
    n_tries: int = 10

    def __post_init__(self) -> None:
        if self.n_tries < 1:
            raise ValueError(f"n_tries must be at least 1, but got {self.n_tries}.")

    def __call__(
        self, individuals: Sequence[Individual], rng: np.random.Generator
    ) -> Sequence[Individual]:
        context = BreedingContext.of(individuals)
        known = context.recall(self, KnownSettings)
        return [
            self._new(child, known, context.pending, rng) for child in self.operator(context, rng)
        ]

    def _new(
        self,
        child: Individual,
        known: KnownSettings,
        pending: Sequence[Individual],
        rng: np.random.Generator,
    ) -> Individual:
        under_way = {_setting(one) for one in pending}
        for _ in range(self.n_tries):
            if not (known.holds(child) or (under_way and _setting(child) in under_way)):
                break
            (child,) = PointMutation(probability=1.0)([child], rng)
        return child


class KnownSettings:
    """The settings of the latest births, by the genes' names."""

    def __init__(self) -> None:
        self._values: dict[Names, OrderedDict[Values, None]] = {}

    def holds(self, child: Individual) -> bool:
        """Tell whether a birth had the child's genes, as far as that one asked for them."""
        own, setting = _setting(child)
        if setting in self._values.get(own, ()):
            return True
        return any(
            len(names) < len(own)
            and child.genes.keys() >= set(names)
            and _values(child, names) in values
            for names, values in self._values.items()
        )

    def hear(self, birth: Birth) -> None:
        names, setting = _setting(birth.individual)
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
