"""Selection: which individuals become parents, emigrants, or the breeding pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna_propulate.evolution.arguments import check_integer
from optuna_propulate.evolution.ranking import by_loss


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from optuna_propulate.evolution.individual import Individual


@dataclass(frozen=True)
class SelectBest:
    """Keeps the best ``n`` individuals, best first; all of them if there are fewer.

    Raises:
        ValueError: If ``n`` is below 1.
    """

    n: int

    def __post_init__(self) -> None:
        check_integer("n", self.n, 1)

    def __call__(
        self, individuals: Sequence[Individual], rng: np.random.Generator
    ) -> Sequence[Individual]:
        return sorted(individuals, key=by_loss)[: self.n]


@dataclass(frozen=True)
class SelectWorst:
    """Keeps the worst ``n`` individuals, worst first; all of them if there are fewer.

    Raises:
        ValueError: If ``n`` is below 1.
    """

    n: int

    def __post_init__(self) -> None:
        check_integer("n", self.n, 1)

    def __call__(
        self, individuals: Sequence[Individual], rng: np.random.Generator
    ) -> Sequence[Individual]:
        return sorted(individuals, key=by_loss, reverse=True)[: self.n]


@dataclass(frozen=True)
class SelectTournament:
    """Draws ``n`` different individuals by tournament; all of them if there are fewer.

    Each place goes to the best of ``size`` individuals, drawn uniformly from those not selected
    yet.

    Raises:
        ValueError: If ``n`` or ``size`` is below 1.

    Reference:
        Goldberg and Deb, A comparative analysis of selection schemes used in genetic algorithms,
        FOGA 1991.
    """

    n: int
    size: int = 2

    def __post_init__(self) -> None:
        check_integer("n", self.n, 1)
        check_integer("size", self.size, 1)

    def __call__(
        self, individuals: Sequence[Individual], rng: np.random.Generator
    ) -> Sequence[Individual]:
        left = list(individuals)
        selected: list[Individual] = []
        while left and len(selected) < self.n:
            drawn = _different(self.size, len(left), rng)
            selected.append(left.pop(min(drawn, key=lambda place: by_loss(left[place]))))
        return selected


@dataclass(frozen=True)
class SelectUniform:
    """Draws ``n`` different individuals, each equally likely; all of them if there are fewer.

    Raises:
        ValueError: If ``n`` is below 1.
    """

    n: int

    def __post_init__(self) -> None:
        check_integer("n", self.n, 1)

    def __call__(
        self, individuals: Sequence[Individual], rng: np.random.Generator
    ) -> Sequence[Individual]:
        chosen = rng.permutation(len(individuals))[: self.n]
        return [individuals[index] for index in chosen.tolist()]


def _different(size: int, n: int, rng: np.random.Generator) -> Sequence[int]:
    """Return ``size`` different numbers below ``n``, drawn uniformly; all if there are fewer."""
    if size != 2 or n < 2:
        return [int(place) for place in rng.permutation(n)[:size]]
    first, second = int(rng.random() * n), int(rng.random() * (n - 1))  # a fifth of the time
    return first, second + (second >= first)
