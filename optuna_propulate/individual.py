"""Individuals: finished trials as evolution sees them, and the offspring that become trials."""

from __future__ import annotations

import math
from dataclasses import dataclass
from dataclasses import field
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna_propulate.genes import Gene

RankKey = tuple[float, float, int, int]
"""What individuals are ordered by, from best to worst; see ``Individual.rank_key``."""

UNNUMBERED = -1
"""The number of an individual that is no trial yet."""

NO_WORKER = -1
"""The worker of an individual that no worker of ours evaluated."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """Which operators and which parents made a trial.

    Args:
        operators: The names of the operators that changed something, in order.
        parents: The trial numbers of the parents; empty for a random individual.
        homes: The island of each parent, in the order of ``parents``.
    """

    operators: tuple[str, ...] = ()
    parents: tuple[int, ...] = ()
    homes: tuple[int, ...] = ()

    def then(self, operator: str) -> Lineage:
        """Return the lineage after one more operator."""
        return Lineage((*self.operators, operator), self.parents, self.homes)


@dataclass(frozen=True, slots=True)
class Individual:
    """A finished trial as evolution sees it, or an offspring that is yet to be evaluated.

    Args:
        genes: Parameter name to gene.
        loss: The objective value in smaller-is-better form; infinity before the evaluation.
        number: The trial's number in its study.
        island: The island that evaluated it.
        worker: The worker that evaluated it; ``NO_WORKER`` if none of ours did.
        generation: 0 for a random individual, else one more than the latest of its parents.
        violation: The sum of the constraint values above 0; 0 for a feasible trial.
        lineage: Where it comes from; empty once it is a trial, since the study records it.
    """

    genes: Mapping[str, Gene]
    loss: float = math.inf
    number: int = UNNUMBERED
    island: int = 0
    worker: int = NO_WORKER
    generation: int = 0
    violation: float = 0.0
    lineage: Lineage = field(default_factory=Lineage)

    @property
    def rank_key(self) -> RankKey:
        """The order of individuals: feasible first, then by loss; ties by number and worker.

        No two individuals share a key, even where each rank has a study with numbers of its own.

        Reference:
            Deb, An efficient constraint handling method for genetic algorithms, 2000.
        """
        return (self.violation, self.loss, self.number, self.worker)
