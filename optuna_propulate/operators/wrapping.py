"""Operators around an operator: what its offspring lack is inherited, duplicates are avoided."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from dataclasses import replace
from typing import TYPE_CHECKING

from optuna_propulate.genes import is_ordered
from optuna_propulate.operators.base import Operator
from optuna_propulate.operators.base import check_probability
from optuna_propulate.operators.knowledge import Knowledge
from optuna_propulate.operators.mutation import PointMutation


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from optuna_propulate.genes import Gene
    from optuna_propulate.individual import Individual
    from optuna_propulate.operators.knowledge import Birth

Names = tuple[str, ...]
Values = tuple[float, ...]

_N_REMEMBERED = 10_000
_N_BRANCHES = 64


@dataclass(frozen=True)
class InheritMissing:
    """Completes offspring by genes that only other members of the pool have.

    In a conditional space the offspring may turn into a branch that its parents are not on;
    there it starts from what a member of that branch knows, instead of at random.

    Args:
        operator: What makes the offspring.
        probability: How likely each missing gene is inherited.

    Raises:
        ValueError: If ``probability`` is not in [0, 1].
    """

    operator: Operator
    probability: float = 0.9

    def __post_init__(self) -> None:
        check_probability("probability", self.probability)

    def __call__(
        self, individuals: Sequence[Individual], rng: np.random.Generator
    ) -> Sequence[Individual]:
        knowledge = Knowledge.of(individuals)
        return [
            child
            if len(child.genes) == knowledge.frame.n_columns or not child.lineage.parents
            else self._complete(child, knowledge, rng)
            for child in self.operator(knowledge, rng)
        ]

    def _complete(
        self, child: Individual, knowledge: Knowledge, rng: np.random.Generator
    ) -> Individual:
        genes = dict(child.genes)
        for name in knowledge.frame.names:
            if name in genes or rng.random() >= self.probability:
                continue
            donors = [member for member in knowledge if name in member.genes]
            if donors:
                genes[name] = donors[int(rng.integers(len(donors)))].genes[name]
        return replace(child, genes=genes)


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
        knowledge = Knowledge.of(individuals)
        known = knowledge.recall(self, KnownSettings)
        return [
            self._new(child, known, knowledge.pending, rng)
            for child in self.operator(knowledge, rng)
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
