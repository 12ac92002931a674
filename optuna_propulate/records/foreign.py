"""The trials of a study that somebody else works at."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from optuna_propulate._optuna_compat import storage_of
from optuna_propulate._optuna_compat import study_id_of
from optuna_propulate.records.reading import found
from optuna_propulate.records.reading import read_trials


if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.study import Study
    from optuna.trial import FrozenTrial


_CHECKED_AT_ONCE = 32


class ForeignTrials:
    """Keeps the numbers of those unfinished trials of a study that nobody asked for here.

    A storage that knows which trials other jobs have added is asked for them. Of any other, the
    numbers tell that are skipped here.

    Args:
        of_job: Whether the other processes of the job tell of their trials themselves.

    Attributes:
        n_finished: How many trials had finished when the study was read.
    """

    def __init__(self, *, of_job: bool = False) -> None:
        self.n_finished = 0
        self._of_job = of_job
        self._is_shared = False  # whether the storage knows the trials of other jobs
        self._next_number = 0
        self._open: dict[int, None] = {}

    def read_all(self, study: Study) -> list[FrozenTrial]:
        """Read the whole study; return its finished trials and remember the unfinished ones."""
        trials = read_trials(study)
        self.note(len(trials), [trial.number for trial in trials if not trial.state.is_finished()])
        return [trial for trial in trials if trial.state.is_finished()]

    def note(self, n_trials: int, unfinished: Sequence[int]) -> None:
        """Note how many trials have been read, and the numbers of those that had not finished."""
        self._next_number, self.n_finished = n_trials, n_trials - len(unfinished)
        self._open = dict.fromkeys(unfinished)

    def asked(self, number: int) -> None:
        """Note a trial that was asked for here; numbers skipped before it are somebody else's."""
        if self._is_shared or self._of_job:
            return
        if number == self._next_number:
            self._next_number += 1
            return
        self._open.update(dict.fromkeys(range(self._next_number, number)))
        self._open.pop(number, None)
        self._next_number = max(self._next_number, number + 1)

    def finished(self, study: Study) -> list[FrozenTrial]:
        """Return those foreign trials that have finished by now.

        However many are unfinished, only a few of them are looked at, the others at later calls.
        """
        read = getattr(storage_of(study), "finished_elsewhere", None)
        trials = read and read(study_id_of(study), self._is_new, of_job=self._of_job)
        if trials is not None:
            self._is_shared = True
            return list(trials)
        return [] if self._of_job else self._checked(study)

    def _is_new(self, number: int) -> bool:
        if number >= self._next_number:
            return True
        is_open = number in self._open
        self._open.pop(number, None)
        return is_open

    def _checked(self, study: Study) -> list[FrozenTrial]:
        looked_at = list(islice(self._open, _CHECKED_AT_ONCE))
        trials = []
        for number in looked_at:
            del self._open[number]
            trial = found(study, number)
            if trial is not None and trial.state.is_finished():
                trials.append(trial)
            else:
                self._open[number] = None
        return trials
