"""Litters: several offspring side by side, of which one is evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace
from typing import TYPE_CHECKING
from typing import cast

import numpy as np

from optuna_propulate.operators.base import offspring


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from optuna_propulate.breeders.base import Breeder
    from optuna_propulate.breeders.context import BreedingContext
    from optuna_propulate.evolution.individual import Individual

    Row = NDArray[np.float64]
    Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Litter:
    """Offspring as places in the unit interval, cheaper by far than individuals.

    Args:
        rows: Shape ``(n, n_columns)``, as of the context's ``GeneMatrix``; NaN is no gene.
        make: Called with a child's index and its row, which may have got more genes meanwhile;
            returns the individual.
    """

    rows: Rows
    make: Callable[[int, Row], Individual]

    def __len__(self) -> int:
        return len(self.rows)

    def child(self, index: int) -> Individual:
        """Return one of the offspring as an individual."""
        return self.make(index, self.rows[index])

    @classmethod
    def of_parents(
        cls,
        context: BreedingContext,
        rows: Rows,
        parents: Callable[[int], Sequence[Individual]],
        operator: str,
    ) -> Litter:
        """Return a litter of one way to breed.

        Args:
            context: Its matrix has the columns of the rows.
            rows: Shape ``(n, n_columns)``.
            parents: Returns the parents of a child, at least one, by its index.
            operator: The name of what made the children.
        """

        def make(index: int, row: Row) -> Individual:
            return offspring(context.matrix.genes(row), parents(index), operator)

        return cls(rows, make)

    @classmethod
    def of_individuals(cls, context: BreedingContext, children: Sequence[Individual]) -> Litter:
        """Return a litter of individuals that have been made already."""
        for child in children:
            context.matrix.admit(child)
        rows = context.matrix.rows(children)
        before = rows.copy()

        def make(index: int, row: Row) -> Individual:
            child = children[index]
            stays = np.abs(row - before[index]) < 1e-12
            if stays.sum() == len(child.genes):
                return child
            new = context.matrix.genes(np.where(stays, np.nan, row))
            return replace(child, genes={**child.genes, **new})

        return cls(rows, make)

    @classmethod
    def together(cls, litters: Sequence[Litter]) -> Litter:
        """Return one litter of the children of several."""
        starts = np.cumsum([0, *map(len, litters)])

        def make(index: int, row: Row) -> Individual:
            part = int(np.searchsorted(starts, index, side="right")) - 1
            return litters[part].make(index - int(starts[part]), row)

        return cls(np.vstack([litter.rows for litter in litters]), make)


def litter_of(
    breeder: Breeder, context: BreedingContext, n: int, rng: np.random.Generator
) -> Litter:
    """Return ``n`` offspring of any breeder side by side, to be compared by somebody else.

    One that makes many at little more than the cost of one has a method ``litter(context, n,
    rng)``; others are asked ``n`` times.
    """
    litter = getattr(breeder, "litter", None)
    if litter is not None:
        return cast("Litter", litter(context, n, rng))
    children = [breeder.propose(context, rng) for _ in range(n)]
    return Litter.of_individuals(context, children)
