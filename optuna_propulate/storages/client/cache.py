"""The cache: the other ranks' trials, read when somebody asks for them."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING
from typing import Any

from optuna_propulate._optuna_compat import trial_id_of
from optuna_propulate.storages.sql.jobs import read_marks
from optuna_propulate.storages.sql.read import read_trials
from optuna_propulate.storages.sql.read import read_trials_after
from optuna_propulate.storages.sql.read import uncollected


if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.trial import FrozenTrial
    from sqlalchemy import Engine


class TrialCache:
    """Holds all trials of a study that are committed, and reads what is new.

    A trial that has ended is read once; one that has not is read again, and so is one that floats:
    a trial which another client has added beside a job keeps changing its number until the job
    has settled it.

    Args:
        engine: Opens the reading connection.
        study_id: The study.
        claim: Called with a trial as the database holds it; gives it the id by which this
            process knows it. Returns whether it should be left out for now: this process has a
            later state of it.
    """

    def __init__(
        self, engine: Engine, study_id: int, claim: Callable[[FrozenTrial], bool]
    ) -> None:
        self._engine, self._study_id, self._claim = engine, study_id, claim
        self._last_id = -1
        self._again: dict[int, int | None] = {}  # the numbers where they were, by id
        self._ids: dict[int, int] = {}  # the database's, by number
        self._kept: deque[FrozenTrial] = deque()
        self.by_number: dict[int, FrozenTrial] = {}
        self._read_at = -float("inf")
        self.lock = threading.Lock()
        """Is held by the thread that reads; nothing else waits for the database."""

    def refresh(self, interval: float) -> None:
        """Read what is new, unless that was done less than ``interval`` seconds ago.

        The lock is held.
        """
        if time.monotonic() - self._read_at < interval:
            return
        with uncollected(), self._engine.connect() as connection:
            marks = read_marks(connection, self._study_id)  # before the rows: may only be older
            mark = next((mark for mark in marks.values() if mark.get("is_open", True)), None)
            again = dict(self._again)
            for trial in read_trials_after(connection, self._study_id, self._last_id):
                self._last_id = max(self._last_id, trial_id_of(trial))
                self._put(trial, mark)
            for trial in read_trials(connection, sorted(again)):
                again.pop(trial_id_of(trial))
                self._put(trial, mark)
            for identity in again:
                self._take_away(identity)
        self._read_at = time.monotonic()

    def expire(self) -> None:
        """Let the next refresh read whatever its interval: this process has written something."""
        self._read_at = -float("inf")

    def keep(self, trial: FrozenTrial) -> None:
        """Keep a trial of this process that has ended and is committed."""
        self._kept.append(trial)

    def snapshot(self) -> dict[int, FrozenTrial]:
        """Return all trials by their numbers; the lock is held."""
        while self._kept:
            trial = self._kept.popleft()
            self._ids.pop(trial.number, None)
            self.by_number[trial.number] = trial
        return self.by_number.copy()

    def _put(self, trial: FrozenTrial, mark: dict[str, Any] | None) -> None:
        identity, number, floats = trial_id_of(trial), trial.number, _floats(trial, mark)
        self._take_away(identity)
        if self._claim(trial):
            self._again[identity] = None
            return
        if floats or not trial.state.is_finished():
            self._again[identity] = number
        self._ids[number] = identity
        self.by_number[number] = trial

    def _take_away(self, identity: int) -> None:
        """Forget a trial where it was; it has another number now, or has been deleted."""
        number = self._again.pop(identity, None)
        if number is not None and self._ids.get(number) == identity:
            del self._ids[number], self.by_number[number]


def _floats(trial: FrozenTrial, mark: dict[str, Any] | None) -> bool:
    """Tell whether the trial's number may still change."""
    if mark is None or "n_settled" not in mark:
        return False
    return bool(trial_id_of(trial) > mark["last_id"] or trial.number >= mark["n_settled"])
