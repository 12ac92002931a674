"""The budget: how many trials all ranks together may still start."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from optuna_propulate.evolution.arguments import check_integer
from optuna_propulate.evolution.arguments import check_seconds


if TYPE_CHECKING:
    from optuna_propulate.parallel.team import AnyTeam

_UNLIMITED = 2**61
_CLOSED = 2**62
_STARTED, _FINISHED, _SIGNAL = 0, 1, 2
BEST, SINCE_BEST, ENDED_BY = 3, 4, 5
"""The counters of a goal."""
_TOLD_EVERY = 0.1  # in seconds, how many trials have finished


def check_limits(
    n_trials: int | None,
    timeout: float | None,
    stop_grace: float | None,
    n_trials_total: int | None = None,
) -> None:
    """Check what ends a search.

    Raises:
        TypeError: If a number of trials is no integer, or a time no number.
        ValueError: If one is negative or not a number.
    """
    for name, number in (("n_trials", n_trials), ("n_trials_total", n_trials_total)):
        if number is not None:
            check_integer(name, number, 0)
    for name, seconds in (("timeout", timeout), ("stop_grace", stop_grace)):
        if seconds is not None:
            check_seconds(name, seconds)


class Budget:
    """Holds the number of trials that a job may still start, on rank 0.

    Any rank and thread claims from it by a one-sided operation. Collective: every rank builds it
    and frees it.

    Args:
        team: Whose ranks share the budget.
        n_trials: How many trials all ranks together start; ``None`` for no limit.

    Attributes:
        counters: What is counted, which ``Goal`` counts as well.
    """

    def __init__(self, team: AnyTeam, n_trials: int | None) -> None:
        self._limit = _UNLIMITED if n_trials is None else n_trials
        self.counters = team.counters(6)
        self._lock = threading.Lock()
        self._untold, self._told_at = 0, 0.0

    def claim(self) -> bool:
        """Claim one trial; return whether there was one left."""
        return self.counters.add(_STARTED, 1) < self._limit

    def n_left(self) -> int:
        """Return how many trials are left to claim."""
        return max(0, self._limit - self.counters.get(_STARTED))

    def close(self) -> None:
        """Leave nothing to claim, on any rank."""
        self.counters.put(_STARTED, _CLOSED)

    def interrupt(self, number: int) -> None:
        """Leave nothing to claim, as a signal with this number was received."""
        self.counters.put(_SIGNAL, number)
        self.close()

    def interrupted_by(self) -> int:
        """Return the number of the signal that some rank received; 0 for none."""
        return self.counters.get(_SIGNAL)

    def note_finished(self) -> None:
        """Count a trial that finished; of many in a short time, rank 0 hears together."""
        with self._lock:
            self._untold += 1
            is_due = time.monotonic() >= self._told_at + _TOLD_EVERY
        if is_due:
            self.share_finished()

    def share_finished(self) -> None:
        """Let rank 0 know of all trials that have finished here."""
        with self._lock:
            n, self._untold, self._told_at = self._untold, 0, time.monotonic()
        if n:
            self.counters.add(_FINISHED, n)

    def n_finished(self) -> int:
        """Return how many trials have finished on all ranks."""
        return self.counters.get(_FINISHED)

    def free(self) -> None:
        """Give the counters back; collective."""
        self.counters.free()
