"""Individuals: finished trials as evolution sees them, and the offspring that become trials."""

from __future__ import annotations

import math
from dataclasses import dataclass
from dataclasses import field
from functools import lru_cache
from typing import TYPE_CHECKING
from typing import TypeAlias

import numpy as np

from optuna_propulate.evolution.genes import to_unit


if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from optuna_propulate.evolution.genes import Gene

IndividualId: TypeAlias = tuple[int, int]
"""What tells individuals apart: the number of the trial, and the worker that evaluated it."""

UNNUMBERED = -1
"""The number of an individual that is no trial yet."""

NO_WORKER = -1
"""The worker of an individual that no worker of ours evaluated."""

NO_CHOICE = -1
"""The choice of a trial whose operators were not chosen among several."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """Which operators and which parents made a trial.

    Args:
        operators: The names of the operators that changed something, in order.
        parents: The trial numbers of the parents; empty for a random individual.
        homes: The island of each parent, in the order of ``parents``.
        strategy: The settings that operators drew for this trial, such as a step's width, by
            name; what the next ones draw follows those that succeeded.
        choice: Which of the operators that ``CreditChoice`` chooses among made the trial.
    """

    operators: tuple[str, ...] = ()
    parents: tuple[int, ...] = ()
    homes: tuple[int, ...] = ()
    strategy: Mapping[str, float] = field(default_factory=dict)
    choice: int = NO_CHOICE

    def then(self, operator: str, **strategy: float) -> Lineage:
        """Return the lineage after one more operator."""
        return Lineage(
            (*self.operators, operator),
            self.parents,
            self.homes,
            {**self.strategy, **strategy},
            self.choice,
        )

    def chosen(self, choice: int) -> Lineage:
        """Return the lineage with the choice that led to it."""
        return Lineage(self.operators, self.parents, self.homes, self.strategy, choice)


@dataclass(frozen=True, slots=True)
class Individual:
    """A finished trial as evolution sees it, or an offspring that is yet to be evaluated.

    Args:
        genes: Parameter name to gene.
        loss: The objective value in smaller-is-better form, of a pruned trial the last value that
            it reported; infinity before the evaluation.
        number: The trial's number in its study.
        island: The island that evaluated it.
        worker: The worker that evaluated it; ``NO_WORKER`` if none of ours did.
        generation: 0 for a random individual, else one more than the latest of its parents.
        violation: The sum of the constraint values above 0; 0 for a feasible trial.
        last_step: The last step that a pruned trial reported; infinity for a complete one.
        lineage: Where it comes from. Of one that another worker told of, the first parent at
            most is known, and no home; the study records the rest.
    """

    genes: Mapping[str, Gene]
    loss: float = math.inf
    number: int = UNNUMBERED
    island: int = 0
    worker: int = NO_WORKER
    generation: int = 0
    violation: float = 0.0
    last_step: float = math.inf
    lineage: Lineage = field(default_factory=Lineage)
    _place: tuple[tuple[str, ...], NDArray[np.float64]] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    def of(self, lineage: Lineage, island: int, worker: int) -> Individual:
        """Return the individual with another lineage, island and worker."""
        return Individual(
            self.genes,
            self.loss,
            self.number,
            island,
            worker,
            self.generation,
            self.violation,
            self.last_step,
            lineage,
        )

    @property
    def id(self) -> IndividualId:
        """Trial number and worker, different even where each rank has a study of its own."""
        return (self.number, self.worker)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the genes, sorted; as a rule the same object where they are equal."""
        return self.place[0]

    @property
    def units(self) -> NDArray[np.float64]:
        """The genes' places in the unit interval, in the order of ``names``."""
        return self.place[1]

    @property
    def place(self) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """Names and units."""
        if self._place is None:
            names = _the_same(tuple(sorted(self.genes)))
            genes = [self.genes[name] for name in names]
            units = np.array([to_unit(gene.value, gene.distribution) for gene in genes])
            units.flags.writeable = False
            object.__setattr__(self, "_place", (names, units))
            return names, units
        return self._place


@lru_cache(maxsize=1024)
def _the_same(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the first of equal names that this was called with."""
    return names
