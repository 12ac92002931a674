"""A choice among ways to breed by what each of them has achieved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna_propulate.breeders.base import breeder_of
from optuna_propulate.breeders.litter import Litter
from optuna_propulate.breeders.litter import litter_of
from optuna_propulate.evolution.arguments import check_integer


if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from optuna_propulate.breeders.base import Breeder
    from optuna_propulate.breeders.base import Evaluation
    from optuna_propulate.breeders.context import BreedingContext
    from optuna_propulate.breeders.litter import Row
    from optuna_propulate.evolution.individual import Individual
    from optuna_propulate.operators import Operator


class CreditChoice:
    """Chooses one of several ways to breed, each as often as its latest offspring were good.

    An offspring earns ``1 - rank / top`` if fewer than ``top`` individuals were better, else
    nothing; the credit of a way is what its offspring earned on average, the latest counting
    most. What is left of the probability after ``floors`` is shared out in proportion to credit.
    Offspring carry which way made them (``Lineage.choice``), so that all workers of an
    island learn from all evaluations there.

    Args:
        operators: The operators and breeders that are chosen among; at least one.
        floors: The least probability of each, which sum up to 1 at most.
        top: How many of the best individuals count.
        decay: How much of an offspring's weight is left after the next one, in (0, 1).

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Probability matching with rank-based rewards: Fialho et al., Analyzing bandit-based
        adaptive operator selection mechanisms, Annals of Mathematics and AI 60, 2010.
    """

    def __init__(
        self,
        operators: Sequence[Operator | Breeder],
        floors: Sequence[float],
        top: int = 20,
        decay: float = 0.98,
    ) -> None:
        if not operators or len(floors) != len(operators):
            raise ValueError(
                f"operators and floors must be as many, and not none, but got "
                f"{len(operators)} and {len(floors)}."
            )
        if min(floors) < 0.0 or sum(floors) > 1.0:
            raise ValueError(f"floors must not be negative or exceed 1, but got {floors}.")
        check_integer("top", top, 1)
        if not 0.0 < decay < 1.0:
            raise ValueError(f"decay must be in (0, 1), but got {decay}.")
        self._breeders = [breeder_of(one) for one in operators]
        self._floors = floors
        self._credits = Credits(len(operators), top, decay)

    def propose(self, context: BreedingContext, rng: np.random.Generator) -> Individual:
        choice = self._choose(rng.random())
        child = self._breeders[choice].propose(context, rng)
        return child.of(child.lineage.chosen(choice), child.island, child.worker)

    def litter(self, context: BreedingContext, n: int, rng: np.random.Generator) -> Litter:
        """Return ``n`` offspring side by side, each of a way of its own choice."""
        counts = rng.multinomial(n, self._probabilities()).tolist()
        parts = [
            self._chosen(choice, count, context, rng)
            for choice, count in enumerate(counts)
            if count
        ]
        return parts[0] if len(parts) == 1 else Litter.together(parts)

    def _chosen(
        self, choice: int, n: int, context: BreedingContext, rng: np.random.Generator
    ) -> Litter:
        litter = litter_of(self._breeders[choice], context, n, rng)

        def make(index: int, row: Row) -> Individual:
            child = litter.make(index, row)
            return child.of(child.lineage.chosen(choice), child.island, child.worker)

        return Litter(litter.rows, make)

    def observe(self, evaluation: Evaluation) -> None:
        self._credits.add(evaluation)
        for breeder in self._breeders:
            breeder.observe(evaluation)

    def _choose(self, draw: float) -> int:
        probabilities = self._probabilities()
        for choice, probability in enumerate(probabilities):
            draw -= probability
            if draw < 0.0:
                return choice
        return len(probabilities) - 1

    def _probabilities(self) -> list[float]:
        """Return how likely each way is, which sum up to 1."""
        means = self._credits.means
        share = (1.0 - sum(self._floors)) / sum(means)
        return [floor + share * mean for floor, mean in zip(self._floors, means, strict=True)]


class Credits:
    """What the offspring of each way have earned, the latest counting most.

    Every way starts with a few good offspring, so that it is tried. Instead of all older
    weights falling with each evaluation, those of the newer ones grow.

    Attributes:
        means: The mean earned by an offspring of each way, in (0, 1].
    """

    def __init__(self, n_ways: int, top: int, decay: float) -> None:
        self._top, self._growth = top, 1.0 / decay
        self._weight = 1.0
        self._earned = [1.0] * n_ways
        self._made = [1.5] * n_ways
        self.means = [1.0 / 1.5] * n_ways

    def add(self, evaluation: Evaluation) -> None:
        """Give whoever made an individual the credit for its rank."""
        choice = evaluation.individual.lineage.choice
        if not 0 <= choice < len(self._made):
            return  # nobody's, or that of an island with other ways
        self._weight *= self._growth
        self._made[choice] += self._weight
        if evaluation.rank < self._top:
            self._earned[choice] += self._weight * (1.0 - evaluation.rank / self._top)
        self.means[choice] = self._earned[choice] / self._made[choice]
        if self._weight > 1e100:
            self._earned = [max(earned / self._weight, 1e-100) for earned in self._earned]
            self._made = [max(made / self._weight, 1e-100) for made in self._made]
            self._weight = 1.0
