"""The goal: when a search is good enough, or gets no better, over all ranks."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_propulate.evolution.arguments import check_integer
from optuna_propulate.evolution.arguments import check_number
from optuna_propulate.optimize.budget import BEST
from optuna_propulate.optimize.budget import ENDED_BY
from optuna_propulate.optimize.budget import SINCE_BEST


if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from optuna_propulate.optimize.budget import Budget
    from optuna_propulate.optimize.loop import Callback
    from optuna_propulate.parallel.team import AnyTeam

_TARGET, _PATIENCE = 1, 2


class Goal:
    """Closes a budget when the target is reached, or patience has run out.

    The best loss and the number of evaluations since it was found are on rank 0. Any rank
    changes them by single one-sided operations, so that each evaluation is counted once, in one
    order for all ranks. Collective: every rank builds it.

    Args:
        study: The study, of one objective; its best trial of before counts.
        team: Whose ranks search.
        budget: What is closed.
        target: A value that is good enough; ``None`` for none.
        patience: After how many trials in a row, none better than the best, the search ends, at
            least 1; ``None`` for never. None that is infeasible, pruned or failed is better.
    """

    def __init__(
        self,
        study: optuna.Study,
        team: AnyTeam,
        budget: Budget,
        target: float | None,
        patience: int | None,
    ) -> None:
        self._budget, self._target, self._patience = budget, target, patience
        self._is_set = target is not None or patience is not None
        if not self._is_set:
            return
        self._sign = 1.0 if study.direction == StudyDirection.MINIMIZE else -1.0
        self._enough = -math.inf if target is None else self._sign * target
        team.from_root(lambda: self._begin(study))

    @property
    def callbacks(self) -> tuple[Callback, ...]:
        """What every rank has to call after its trials."""
        return (self._count,) if self._is_set else ()

    @property
    def reached(self) -> str | None:
        """Why the search ended, in words; ``None`` if it was not for this."""
        ended_by = self._budget.counters.get(ENDED_BY)
        if ended_by == _TARGET:
            return f"the target of {self._target:g} was reached"
        if ended_by == _PATIENCE:
            return f"{self._patience} trials in a row were no better than the best"
        return None

    def _begin(self, study: optuna.Study) -> None:
        best = _best_value(study)
        loss = math.inf if best is None else self._sign * best
        self._budget.counters.put(BEST, _ordered(loss))
        self._look(loss)

    def _count(self, study: optuna.Study, trial: FrozenTrial) -> None:
        loss = math.inf
        is_feasible = all(amount <= 0.0 for amount in trial.constraints.values())
        if trial.state == TrialState.COMPLETE and trial.value is not None and is_feasible:
            loss = self._sign * trial.value
        self._look(loss)
        counters, place = self._budget.counters, _ordered(loss)
        if place < counters.lower(BEST, place):
            counters.put(SINCE_BEST, 0)
        elif counters.add(SINCE_BEST, 1) + 1 == self._patience:
            self._end(_PATIENCE)

    def _look(self, loss: float) -> None:
        """End the search if a loss is low enough."""
        if loss <= self._enough and loss < math.inf:
            self._end(_TARGET)

    def _end(self, reason: int) -> None:
        self._budget.counters.put(ENDED_BY, reason)
        self._budget.close()


def check_goal(target: float | None, patience: int | None, n_objectives: int = 1) -> None:
    """Check what a search may end by.

    Raises:
        TypeError: If ``target`` is no number, or ``patience`` no integer.
        ValueError: If ``target`` is NaN, ``patience`` is below 1, or there are several objectives.
    """
    if target is not None:
        check_number("target", target)
    if patience is not None:
        check_integer("patience", patience, 1)
    if n_objectives > 1 and (target is not None or patience is not None):
        raise ValueError("target and patience need a study of one objective.")


def _best_value(study: optuna.Study) -> float | None:
    try:
        return study.best_value
    except ValueError:  # none is complete
        return None


def _ordered(value: float) -> int:
    """Return an integer of 64 bits for each float, in their order."""
    (bits,) = struct.unpack("<q", struct.pack("<d", value + 0.0))  # no negative zero
    return int(bits) if bits >= 0 else -int(bits & 0x7FFF_FFFF_FFFF_FFFF)
