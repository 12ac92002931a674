"""Operators around an operator: what its offspring lack is inherited, duplicates are avoided."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from typing import TYPE_CHECKING

from optuna_propulate.genes import n_values
from optuna_propulate.operators.base import Operator
from optuna_propulate.operators.base import check_probability
from optuna_propulate.operators.knowledge import Knowledge
from optuna_propulate.operators.mutation import PointMutation


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from optuna_propulate.individual import Individual
    from optuna_propulate.operators.knowledge import Birth

Key = tuple[tuple[str, float], ...]

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
    """Mutates offspring that were evaluated before, or are now, where all genes are discrete.

    One gene is drawn anew, up to ``n_tries`` times: a small space may be exhausted.

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
        children = self.operator(knowledge, rng)
        if not knowledge.frame.is_discrete:
            return children
        known = knowledge.recall(self, KnownSettings)
        return [self._new(child, known, knowledge.pending, rng) for child in children]

    def _new(
        self,
        child: Individual,
        known: KnownSettings,
        pending: Sequence[Individual],
        rng: np.random.Generator,
    ) -> Individual:
        under_way = {_key(one) for one in pending}
        for _ in range(self.n_tries):
            if not (known.holds(child) or _key(child) in under_way):
                break
            (child,) = PointMutation(probability=1.0)([child], rng)
        return child


class KnownSettings:
    """The settings of the latest births whose genes are all discrete, by the genes' names."""

    def __init__(self) -> None:
        self._keys: dict[frozenset[str], dict[Key, None]] = {}

    def holds(self, child: Individual) -> bool:
        """Tell whether a birth had the child's genes, as far as that one asked for them."""
        return any(_key(child, names) in keys for names, keys in self._keys.items())

    def hear(self, birth: Birth) -> None:
        genes = birth.individual.genes
        if not genes or not all(n_values(gene.distribution) for gene in genes.values()):
            return
        names = frozenset(genes)
        keys = self._keys.pop(names, {})
        self._keys[names] = keys  # now the latest
        keys[_key(birth.individual)] = None
        if len(keys) > _N_REMEMBERED:
            del keys[next(iter(keys))]
        if len(self._keys) > _N_BRANCHES:
            del self._keys[next(iter(self._keys))]


def _key(individual: Individual, names: frozenset[str] | None = None) -> Key:
    """Return what tells settings apart; choices themselves may be lists, which have no hash."""
    genes = individual.genes
    asked = genes.keys() if names is None else names & genes.keys()
    return tuple(
        (name, genes[name].distribution.to_internal_repr(genes[name].value))
        for name in sorted(asked)
    )
