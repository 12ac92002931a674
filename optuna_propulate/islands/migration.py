"""Migration policies: who travels between islands, how often, and who makes room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import ClassVar
from typing import TypeAlias

from optuna_propulate.operators import Operator
from optuna_propulate.operators import SelectBest
from optuna_propulate.operators import SelectWorst
from optuna_propulate.operators.base import check_probability


if TYPE_CHECKING:
    from collections.abc import Callable

Selection: TypeAlias = "Callable[[int], Operator]"
"""Called with a number of individuals, returns the operator that selects so many."""


@dataclass(frozen=True)
class Pollination:
    """Copies of the selected travel; the originals stay active at home.

    On the receiving island one worker owns each immigrant, and gives up one of its other
    individuals for it. A worker that owns nothing else gives up its next one. A copy changes
    nothing where the individual is active already, or is worse than all that its receiver keeps.

    Args:
        probability: How likely the island sends migrants in the time in which each of its n
            workers evaluates one trial, in [0, 1]: each draws with ``probability / n`` after each
            of its own.
        emigrants: Selects from the breeding pool; called with the topology's entry. E.g.
            ``SelectBest``, ``SelectWorst``, ``SelectUniform``, ``SelectTournament``.
        immigrants: Selects, from the individuals that the receiving worker owns, those that are
            replaced; called with how many. "The worst" is the worst that this worker owns.

    Raises:
        TypeError: If a selection cannot be called.
        ValueError: If ``probability`` is not in [0, 1].

    Reference:
        Taubert et al., Massively Parallel Genetic Optimization through Asynchronous Propagation
        of Populations, ISC 2023, arXiv:2301.08713.
    """

    name: ClassVar = "pollination"
    probability: float = 0.1
    emigrants: Selection = SelectBest
    immigrants: Selection = SelectWorst

    def __post_init__(self) -> None:
        check_probability("probability", self.probability)
        _check_selection("emigrants", self.emigrants)
        _check_selection("immigrants", self.immigrants)


@dataclass(frozen=True)
class Migration:
    """The selected leave home for good: they are active on the island they go to, and only there.

    Args:
        probability: As in ``Pollination``.
        emigrants: Selects from the individuals that the sending worker owns; called with the
            topology's entry. "The best" is the best that this worker owns.

    Raises:
        TypeError: If ``emigrants`` cannot be called.
        ValueError: If ``probability`` is not in [0, 1].

    Reference:
        As ``Pollination``.
    """

    name: ClassVar = "migration"
    probability: float = 0.1
    emigrants: Selection = SelectBest

    def __post_init__(self) -> None:
        check_probability("probability", self.probability)
        _check_selection("emigrants", self.emigrants)


MigrationPolicy: TypeAlias = Pollination | Migration


def _check_selection(name: str, selection: object) -> None:
    if not callable(selection):
        raise TypeError(
            f"{name} must be called with a number and return a selection, such as SelectBest, "
            f"but got {selection!r}."
        )
