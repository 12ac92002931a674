"""Selection: which individuals become parents, emigrants, or the breeding pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from optuna_propulate.individual import Individual


@dataclass(frozen=True)
class SelectBest:
    """Keeps the best ``n`` individuals, best first; all of them if there are fewer.

    Raises:
        ValueError: If ``n`` is below 1.
    """

    n: int

    def __post_init__(self) -> None:
        _check_count(self.n)

    def __call__(
        self, individuals: Sequence[Individual], rng: np.random.Generator
    ) -> Sequence[Individual]:
        return sorted(individuals, key=lambda individual: individual.rank_key)[: self.n]


@dataclass(frozen=True)
class SelectUniform:
    """Draws ``n`` different individuals, each equally likely; all of them if there are fewer.

    Raises:
        ValueError: If ``n`` is below 1.
    """

    n: int

    def __post_init__(self) -> None:
        _check_count(self.n)

    def __call__(
        self, individuals: Sequence[Individual], rng: np.random.Generator
    ) -> Sequence[Individual]:
        chosen = rng.permutation(len(individuals))[: self.n]
        return [individuals[index] for index in chosen.tolist()]


def _check_count(n: int) -> None:
    if n < 1:
        raise ValueError(f"n must be at least 1, but got {n}.")
