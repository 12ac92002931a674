"""A choice among operators by what each of them has achieved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna_propulate.breeders.context import BreedingContext


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from optuna_propulate.breeders.context import Birth
    from optuna_propulate.evolution.individual import Individual
    from optuna_propulate.operators.base import Operator


@dataclass(frozen=True)
class CreditChoice:
    """Chooses one of several operators, each as often as its latest offspring were good.

    An offspring earns ``1 - rank / top`` if fewer than ``top`` individuals were better, else
    nothing; an operator's credit is what its offspring earned on average, the latest counting
    most. What is left of the probability after ``floors`` is shared out in proportion to credit.
    Offspring carry which operator made them (``Lineage.choice``), so that all workers of an
    island learn from all births there.

    Args:
        operators: What is chosen among; at least one.
        floors: The least probability of each, which sum up to 1 at most.
        top: How many of the best individuals count.
        decay: How much of an offspring's weight is left after the next birth, in (0, 1).

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Probability matching with rank-based rewards: Fialho et al., Analyzing bandit-based
        adaptive operator selection mechanisms, Annals of Mathematics and AI 60, 2010.
    """

    operators: tuple[Operator, ...]
    floors: tuple[float, ...]
    top: int = 20
    decay: float = 0.98

    def __post_init__(self) -> None:
        if not self.operators or len(self.floors) != len(self.operators):
            raise ValueError(
                f"operators and floors must be as many, and not none, but got "
                f"{len(self.operators)} and {len(self.floors)}."
            )
        if min(self.floors) < 0.0 or sum(self.floors) > 1.0:
            raise ValueError(f"floors must not be negative or exceed 1, but got {self.floors}.")
        if self.top < 1:
            raise ValueError(f"top must be at least 1, but got {self.top}.")
        if not 0.0 < self.decay < 1.0:
            raise ValueError(f"decay must be in (0, 1), but got {self.decay}.")

    def __call__(
        self, individuals: Sequence[Individual], rng: np.random.Generator
    ) -> Sequence[Individual]:
        context = BreedingContext.of(individuals)
        credits = context.recall(self, lambda: Credits(len(self.operators), self.top, self.decay))
        choice = self._choose(credits.means, rng.random())
        return [
            child.of(child.lineage.chosen(choice), child.island, child.worker)
            for child in self.operators[choice](context, rng)
        ]

    def _choose(self, means: list[float], draw: float) -> int:
        share = (1.0 - sum(self.floors)) / sum(means)
        for choice, (floor, mean) in enumerate(zip(self.floors, means, strict=True)):
            draw -= floor + share * mean
            if draw < 0.0:
                return choice
        return len(means) - 1


class Credits:
    """What the offspring of each operator have earned, the latest counting most.

    Every operator starts with a few good offspring, so that it is tried. Instead of all older
    weights falling with each birth, those of the newer ones grow.

    Attributes:
        means: The mean earned by an offspring of each operator, in (0, 1].
    """

    def __init__(self, n_operators: int, top: int, decay: float) -> None:
        self._top, self._growth = top, 1.0 / decay
        self._weight = 1.0
        self._earned = [1.0] * n_operators
        self._made = [1.5] * n_operators
        self.means = [1.0 / 1.5] * n_operators

    def hear(self, birth: Birth) -> None:
        choice = birth.individual.lineage.choice
        if not 0 <= choice < len(self._made):
            return  # nobody's, or that of an island with other operators
        self._weight *= self._growth
        self._made[choice] += self._weight
        if birth.rank < self._top:
            self._earned[choice] += self._weight * (1.0 - birth.rank / self._top)
        self.means[choice] = self._earned[choice] / self._made[choice]
        if self._weight > 1e100:
            self._earned = [max(earned / self._weight, 1e-100) for earned in self._earned]
            self._made = [max(made / self._weight, 1e-100) for made in self._made]
            self._weight = 1.0
