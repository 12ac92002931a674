"""Migration policies: who travels between islands, how often, and who makes room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import ClassVar
from typing import Protocol
from typing import TypeAlias

from optuna_propulate.evolution.arguments import check_probability
from optuna_propulate.operators import Operator
from optuna_propulate.operators import SelectBest
from optuna_propulate.operators import SelectWorst


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence

    import numpy as np

    from optuna_propulate.evolution.individual import Individual

Selection: TypeAlias = "Callable[[int], Operator]"
"""Called with a number of individuals, returns the operator that selects so many."""


class MigrationPolicy(Protocol):
    """Says who travels between islands, how often, and who makes room for them."""

    @property
    def probability(self) -> float:
        """How likely the island sends migrants in the time of one trial of each worker."""
        ...

    @property
    def leaves_home(self) -> bool:
        """Whether migrants leave for good; else copies travel, and replace others there."""
        ...

    def emigrants(self, n: int, /) -> Operator:
        """Return what selects ``n`` migrants, at most.

        It selects from the breeding pool, if copies travel, and if they leave for good from the
        individuals that the sending worker owns.
        """
        ...

    def replaced(self, n: int, /) -> Operator:
        """Return what selects the ``n`` individuals that make room for as many copies.

        It selects from the individuals that the receiving worker owns; "the worst" is the worst
        of these. Nobody asks if migrants leave for good.
        """
        ...


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
        replaced: Selects, from the individuals that the receiving worker owns, those that make
            room; called with how many. "The worst" is the worst that this worker owns.

    Raises:
        TypeError: If a selection cannot be called.
        ValueError: If ``probability`` is not in [0, 1].

    Reference:
        Taubert et al., Massively Parallel Genetic Optimization through Asynchronous Propagation
        of Populations, ISC 2023, arXiv:2301.08713.
    """

    leaves_home: ClassVar[bool] = False
    probability: float = 0.1
    emigrants: Selection = SelectBest
    replaced: Selection = SelectWorst

    def __post_init__(self) -> None:
        check_policy(self)


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

    leaves_home: ClassVar[bool] = True
    probability: float = 0.1
    emigrants: Selection = SelectBest

    def __post_init__(self) -> None:
        check_policy(self)

    def replaced(self, n: int) -> Operator:
        """Return what selects nobody: where all that come have left home, there is room."""
        return _nobody


def check_policy(policy: MigrationPolicy) -> MigrationPolicy:
    """Return a migration policy.

    Raises:
        TypeError: If it is none.
        ValueError: If its probability is not in [0, 1].
    """
    for name in ("probability", "leaves_home", "emigrants", "replaced"):
        if isinstance(policy, type) or not hasattr(policy, name):
            raise TypeError(
                "migration must be Pollination(...), Migration(...) or another object with "
                f"probability, leaves_home, emigrants and replaced, but got {policy!r}."
            )
    check_probability("probability", policy.probability)
    for name in ("emigrants", "replaced"):
        selection = getattr(policy, name)
        if not callable(selection):
            raise TypeError(
                f"{name} must be called with a number and return a selection, such as "
                f"SelectBest, but got {selection!r}."
            )
    return policy


def _nobody(individuals: Sequence[Individual], rng: np.random.Generator) -> Sequence[Individual]:
    return []
