"""The trials of a study that somebody else works at."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from optuna_propulate.records.reading import found
from optuna_propulate.records.reading import read_trials


if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial


_CHECKED_AT_ONCE = 32


class ForeignTrials:
    """Keeps the numbers of those unfinished trials of a study that nobody asked for here."""

    def __init__(self) -> None:
        self._next_number = 0
        self._open: dict[int, None] = {}

    def read_all(self, study: Study) -> list[FrozenTrial]:
        """Read the whole study; return its finished trials and remember the unfinished ones."""
        trials = read_trials(study)
        self._next_number = len(trials)
        self._open = {trial.number: None for trial in trials if not trial.state.is_finished()}
        return [trial for trial in trials if trial.state.is_finished()]

    def asked(self, number: int) -> None:
        """Note a trial that was asked for here; numbers skipped before it are somebody else's."""
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
        if not self._open:
            return []
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
