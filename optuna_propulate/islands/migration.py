"""Migration policies: who travels between islands, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna_propulate.operators import Operator
from optuna_propulate.operators import SelectBest
from optuna_propulate.operators.base import check_probability


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence

    import numpy as np

    from optuna_propulate.individual import Individual


@dataclass(frozen=True)
class Pollination:
    """Copies of an island's individuals travel; the originals stay.

    On the receiving island a migrant joins the population and the worst individual leaves it.

    Args:
        probability: How likely a worker sends migrants after an evaluation of its own, in
            [0, 1].
        emigrants: Called with the topology's entry, the number of individuals to send; returns
            the selection operator, e.g. ``SelectBest`` or ``SelectUniform``.

    Raises:
        ValueError: If ``probability`` is not in [0, 1].

    Reference:
        Taubert et al., Massively Parallel Genetic Optimization through Asynchronous Propagation
        of Populations, ISC 2023, arXiv:2301.08713.
    """

    probability: float = 0.1
    emigrants: Callable[[int], Operator] = SelectBest

    def __post_init__(self) -> None:
        check_probability("probability", self.probability)

    def departs(self, rng: np.random.Generator) -> bool:
        """Tell whether migrants leave after this evaluation."""
        return bool(rng.random() < self.probability)

    def select(
        self, population: Sequence[Individual], n: int, rng: np.random.Generator
    ) -> Sequence[Individual]:
        """Return the ``n`` migrants, or fewer if the population is smaller."""
        return self.emigrants(n)(population, rng)
