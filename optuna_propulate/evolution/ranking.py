"""Rankings: which of two individuals is better."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import TypeAlias


if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna_propulate.evolution.individual import Individual

Ranking: TypeAlias = "Callable[[Individual], Any]"
"""Maps an individual to a key: the smaller, the better; equal for one and the same only."""


def by_loss(individual: Individual) -> tuple[float, float, float, int, int]:
    """Rank individuals with one objective by their loss; ties by number and worker.

    Feasible ones come first, then complete ones, then those that were pruned later, as in
    Optuna's TPE; then loss decides.

    Reference:
        Deb, An efficient constraint handling method for genetic algorithms, 2000.
    """
    return (individual.violation, -individual.last_step, individual.loss, *individual.id)
