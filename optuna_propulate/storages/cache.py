"""The cache: the other ranks' trials, read when somebody asks for them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from optuna_propulate.storages.reading import read_trials
from optuna_propulate.storages.reading import read_trials_after
from optuna_propulate.storages.reading import uncollected


if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.trial import FrozenTrial
    from sqlalchemy import Engine


class TrialCache:
    """Holds all trials of a study that are committed, and reads what is new.

    A trial that has ended is read once; one that has not is read again. As a trial that another
    client added may be renumbered, one whose number another has is read again, too.

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
        self._again: set[int] = set()
        self._moved: set[int] = set()
        self._ids: dict[int, int] = {}  # the database's, by number
        self.by_number: dict[int, FrozenTrial] = {}
        self._read_at = -float("inf")

    def refresh(self, interval: float) -> None:
        """Read what is new, unless that was done less than ``interval`` seconds ago."""
        if time.monotonic() - self._read_at < interval:
            return
        with uncollected(), self._engine.connect() as connection:
            again = sorted(self._again)
            for trial in read_trials_after(connection, self._study_id, self._last_id):
                self._last_id = max(self._last_id, trial._trial_id)
                self._put(trial)
            for trial in read_trials(connection, again):
                self._put(trial)
            moved, self._moved = self._moved, set()
            for trial in read_trials(connection, sorted(moved)):
                self._put(trial)
        self._read_at = time.monotonic()

    def expire(self) -> None:
        """Let the next refresh read whatever its interval: this process has written something."""
        self._read_at = -float("inf")

    def keep(self, trial: FrozenTrial) -> None:
        """Keep a trial of this process that has ended and is committed."""
        self.by_number[trial.number] = trial

    def _put(self, trial: FrozenTrial) -> None:
        identity, number = trial._trial_id, trial.number
        if self._claim(trial):
            self._again.add(identity)
            return
        if trial.state.is_finished():
            self._again.discard(identity)
        else:
            self._again.add(identity)
        other = self._ids.get(number)
        if other is not None and other != identity:
            self._moved.add(other)
        self._ids[number] = identity
        self.by_number[number] = trial
