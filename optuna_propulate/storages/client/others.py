"""The finished trials of others, read while other jobs add trials to the study, too."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from optuna.study import StudyDirection

from optuna_propulate.storages.sql.read import first_values
from optuna_propulate.storages.sql.read import read_trials
from optuna_propulate.storages.sql.read import states_of
from optuna_propulate.storages.sql.read import trials_after


if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.trial import FrozenTrial
    from sqlalchemy import Connection

_UNFINISHED = ("RUNNING", "WAITING")
_LOOKED_AT = 2000  # unfinished trials, each time
_MOST_BEST, _MOST_RECENT = 100, 100  # trials that are read, each time


class TrialsOfOthers:
    """Finds the trials of a study that have finished, each once, however many there are.

    What others do may be more than this process can follow: of what it finds at a time, it reads
    the best and the last, and leaves out the others. Whoever breeds from a population of some
    dozens knows the best of all jobs all the same.

    Args:
        study_id: The study.
        direction: The direction of its first objective.
    """

    def __init__(self, study_id: int, direction: StudyDirection) -> None:
        self._study_id = study_id
        self._sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0
        self._last_id = -1
        self._unfinished: dict[int, int] = {}  # their numbers, by id

    def read(
        self,
        connection: Connection,
        is_ours: Callable[[int], bool],
        is_wanted: Callable[[int], bool],
    ) -> list[FrozenTrial]:
        """Return the trials of others that have finished since the last call, ordered by id.

        Args:
            connection: To the database.
            is_ours: Whether a trial is not another's, by its number.
            is_wanted: Called with the number of each trial of others once; whether to return it.
        """
        finished: list[int] = []
        looked_at = list(islice(self._unfinished, _LOOKED_AT))
        for identity, state in states_of(connection, looked_at).items():
            number = self._unfinished.pop(identity)
            if is_ours(number):  # it was claimed ahead, and has been started since
                continue
            if state in _UNFINISHED:
                self._unfinished[identity] = number  # looked at again after the others
            elif is_wanted(number):
                finished.append(identity)
        for identity, number, state in trials_after(connection, self._study_id, self._last_id):
            self._last_id = identity
            if is_ours(number):
                continue
            if state in _UNFINISHED:
                self._unfinished[identity] = number
            elif is_wanted(number):
                finished.append(identity)
        return list(read_trials(connection, self._chosen(connection, finished)))

    def _chosen(self, connection: Connection, finished: list[int]) -> list[int]:
        if len(finished) <= _MOST_BEST + _MOST_RECENT:
            return finished
        values = first_values(connection, finished)
        best = sorted(values, key=lambda identity: self._sign * values[identity])[:_MOST_BEST]
        return sorted({*best, *finished[-_MOST_RECENT:]})
