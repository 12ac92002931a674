"""The genes of many individuals as columns of a matrix in the unit interval."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution

from optuna_propulate.evolution.genes import Gene
from optuna_propulate.evolution.genes import from_unit
from optuna_propulate.evolution.genes import is_ordered
from optuna_propulate.evolution.genes import n_values
from optuna_propulate.evolution.genes import to_unit


if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from optuna.distributions import BaseDistribution

    from optuna_propulate.evolution.individual import Individual

_MOST_BRANCHES = 1024


class GeneMatrix:
    """The genes that some individual is known to have, each a column.

    Individuals of different branches of a conditional space have different genes; what one lacks
    is NaN in its row. Columns are only ever added.

    Attributes:
        version: Raised whenever rows of before are no longer true.
        names: The name of each column.
        is_category: Whether a column holds categories, shape ``(n_columns,)``.
        ordered: Which columns do not, shape ``(n_ordered,)``.
        categories: The other columns, and how many choices each has.
        n_values: How many values a discrete column has, 0 for a continuous one.
        n_bins: The same where all values own equal bins, else 0, as for log-scaled integers.
    """

    def __init__(self) -> None:
        self.version = 0
        self.names: list[str] = []
        self.is_category: NDArray[np.bool_] = np.zeros(0, dtype=bool)
        self.ordered: NDArray[np.intp] = np.zeros(0, dtype=np.intp)
        self.categories: list[tuple[int, int]] = []
        self.n_values: NDArray[np.float64] = np.zeros(0)
        self.n_bins: NDArray[np.float64] = np.zeros(0)
        self._distributions: dict[str, BaseDistribution] = {}
        self._columns: dict[tuple[str, ...], NDArray[np.intp]] = {}
        self._all: tuple[str, ...] | None = None  # the names of those that have every gene
        self._moved: set[str] = set()  # columns whose range has changed

    @property
    def n_columns(self) -> int:
        """How many genes are known."""
        return len(self.names)

    def include(self, individual: Individual) -> None:
        """Add the genes that were not known, and take over the ranges of all."""
        changed = False
        for name, gene in individual.genes.items():
            before, now = self._distributions.get(name), gene.distribution
            self._distributions[name] = now
            if before is None:
                changed = True
            elif before is not now and _scale(before) != _scale(now):
                self._moved.add(name)
                changed = True
        if changed:
            self._look()

    def admit(self, individual: Individual) -> None:
        """Add the genes that were not known, but leave the ranges of the others as they are."""
        unknown = individual.genes.keys() - self._distributions.keys()
        if unknown:
            for name in unknown:
                self._distributions[name] = individual.genes[name].distribution
            self._look()

    def row(self, individual: Individual) -> NDArray[np.float64]:
        """Return an individual's genes, shape ``(n_columns,)``, as a new array."""
        if individual.names is self._all:
            return np.array(individual.units)
        return np.array(self.rows([individual])[0])

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
        for name in self._moved:
            self._place_anew(rows[:, self.names.index(name)], name, individuals)
        return rows

    def _place_anew(
        self, column: NDArray[np.float64], name: str, individuals: Sequence[Individual]
    ) -> None:
        """Overwrite a column by the values' places in the range of now; NaN if they have none."""
        distribution = self._distributions[name]
        for row, individual in enumerate(individuals):
            if name in individual.genes:
                value = individual.genes[name].value
                column[row] = _place(value, distribution)

    def snap(self, rows: NDArray[np.float64]) -> None:
        """Move places to the middles of their bins, in columns whose values own equal bins.

        Args:
            rows: Shape ``(n, n_columns)``; changed in place.
        """
        binned = self.n_bins > 0
        if binned.any():
            n_bins = self.n_bins[binned]
            bins = np.clip(np.floor(rows[:, binned] * n_bins), 0.0, n_bins - 1)
            rows[:, binned] = (bins + 0.5) / n_bins

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
            self.admit(individual)
            if len(self._columns) >= _MOST_BRANCHES:
                self._columns.clear()
            place = {name: column for column, name in enumerate(self.names)}
            columns = np.array([place[name] for name in names], dtype=np.intp)
            self._columns[names] = columns
            if list(names) == self.names and not self._moved:
                self._all = names
        return columns

    def _look(self) -> None:
        """Note which kinds the columns are."""
        self.version += 1
        known = set(self.names)
        self.names += sorted(name for name in self._distributions if name not in known)
        self._all = None
        self._columns.clear()
        distributions = [self._distributions[name] for name in self.names]
        self.is_category = np.array(
            [isinstance(distribution, CategoricalDistribution) for distribution in distributions],
            dtype=bool,
        )
        self.ordered = np.flatnonzero(~self.is_category)
        self.n_values = np.array([n_values(one) for one in distributions], dtype=float)
        self.categories = [
            (column, int(self.n_values[column]))
            for column in np.flatnonzero(self.is_category).tolist()
        ]
        is_log = np.array([getattr(one, "log", False) for one in distributions], dtype=bool)
        self.n_bins = np.where(is_log, 0.0, self.n_values)


def _scale(distribution: BaseDistribution) -> Any:
    """Return what places in the unit interval depend on; comparing distributions takes longer."""
    if not is_ordered(distribution):
        assert isinstance(distribution, CategoricalDistribution)
        return distribution.choices
    return (distribution.low, distribution.high, distribution.log, distribution.step)


def _place(value: Any, distribution: BaseDistribution) -> float:
    """Return the place of a value that another range held; NaN for a category that is no more."""
    if is_ordered(distribution):
        return to_unit(min(max(value, distribution.low), distribution.high), distribution)
    try:
        return to_unit(value, distribution)
    except ValueError:
        return math.nan
