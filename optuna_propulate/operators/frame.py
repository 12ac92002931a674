"""A frame: the genes of many individuals as columns of a matrix in the unit interval."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from optuna.distributions import CategoricalDistribution

from optuna_propulate.genes import Gene
from optuna_propulate.genes import from_unit
from optuna_propulate.genes import n_values


if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from optuna.distributions import BaseDistribution

    from optuna_propulate.individual import Individual

_LOOKED_AT_ANEW = 64


class Frame:
    """The genes that some individual is known to have, each a column.

    Individuals of different branches of a conditional space have different genes; what one lacks
    is NaN in its row. Columns are only ever added.

    Attributes:
        names: The name of each column.
        is_category: Whether a column holds categories, shape ``(n_columns,)``.
        ordered: Which columns do not, shape ``(n_ordered,)``.
        n_values: How many values a discrete column has, 0 for a continuous one.
        is_discrete: Whether every column is discrete.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.is_category: NDArray[np.bool_] = np.zeros(0, dtype=bool)
        self.ordered: NDArray[np.intp] = np.zeros(0, dtype=np.intp)
        self.n_values: NDArray[np.float64] = np.zeros(0)
        self.is_discrete = True
        self._distributions: dict[str, BaseDistribution] = {}
        self._columns: dict[tuple[str, ...], NDArray[np.intp]] = {}
        self._all: tuple[str, ...] | None = None  # the names of those that have every gene
        self._until_next_look = 0

    @property
    def n_columns(self) -> int:
        """How many genes are known."""
        return len(self.names)

    def include(self, individual: Individual) -> None:
        """Add the genes that were not known, and take over the ranges of all."""
        for name, gene in individual.genes.items():
            self._distributions[name] = gene.distribution
        self._until_next_look -= 1
        if len(self._distributions) > len(self.names) or self._until_next_look < 0:
            self._look()

    def row(self, individual: Individual) -> NDArray[np.float64]:
        """Return an individual's genes, shape ``(n_columns,)``, as a new array."""
        if individual.names is self._all:
            return np.array(individual.units)
        columns = self._columns_of(individual)
        row = np.full(len(self.names), np.nan)
        row[columns] = individual.units
        return row

    def rows(self, individuals: Sequence[Individual]) -> NDArray[np.float64]:
        """Return the genes of individuals, shape ``(n_individuals, n_columns)``."""
        everything = self._all
        places = [individual.place for individual in individuals]
        if places and all(names is everything for names, _ in places):
            return np.array([units for _, units in places])
        for individual in individuals:
            self._columns_of(individual)  # may add columns, of which every row has to know
        rows = np.full((len(individuals), len(self.names)), np.nan)
        for row, individual in zip(rows, individuals, strict=True):
            row[self._columns_of(individual)] = individual.units
        return rows

    def genes(self, row: Sequence[float] | NDArray[np.float64]) -> dict[str, Gene]:
        """Return the genes at places of the unit interval; NaN is no gene."""
        units = row.tolist() if isinstance(row, np.ndarray) else row
        return {
            name: Gene(from_unit(min(max(unit, 0.0), 1.0), distribution), distribution)
            for name, unit in zip(self.names, units, strict=True)
            if not math.isnan(unit)
            for distribution in (self._distributions[name],)
        }

    def _columns_of(self, individual: Individual) -> NDArray[np.intp]:
        names = individual.names
        columns = self._columns.get(names)
        if columns is None:
            if not self._distributions.keys() >= set(names):
                self.include(individual)
            place = {name: column for column, name in enumerate(self.names)}
            columns = np.array([place[name] for name in names], dtype=np.intp)
            self._columns[names] = columns
            if list(names) == self.names:
                self._all = names
        return columns

    def _look(self) -> None:
        """Note which kinds the columns are; now and then, as a study may change a range."""
        known = set(self.names)
        if added := sorted(name for name in self._distributions if name not in known):
            self.names += added
            self._all = None
        distributions = [self._distributions[name] for name in self.names]
        self.is_category = np.array(
            [isinstance(distribution, CategoricalDistribution) for distribution in distributions],
            dtype=bool,
        )
        self.ordered = np.flatnonzero(~self.is_category)
        self.n_values = np.array([n_values(one) for one in distributions], dtype=float)
        self.is_discrete = bool(self.n_values.all())
        self._until_next_look = _LOOKED_AT_ANEW
