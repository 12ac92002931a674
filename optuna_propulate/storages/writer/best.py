"""The best trial of each study, of which the writer tells all ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

from optuna.study import StudyDirection
from sqlalchemy.exc import DBAPIError

from optuna_propulate._optuna_compat import trial_id_of
from optuna_propulate.storages.sql.read import read_trial
from optuna_propulate.storages.sql.read import read_trials
from optuna_propulate.storages.wire.changes import pack_trial


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from optuna.storages import RDBStorage


class BestTrials:
    """Knows the best trial of each study that is written and has one objective.

    Args:
        rdb: Returns Optuna's own storage.
    """

    def __init__(self, rdb: Callable[[], RDBStorage]) -> None:
        self._rdb = rdb
        self._signs: dict[int, float] = {}
        self._best: dict[int, tuple[float, list[Any]]] = {}  # its loss, and the trial

    def begin(self, study_id: int, directions: list[StudyDirection]) -> None:
        """Know the best of a study from now on; there may be none yet."""
        self.forget(study_id)
        if len(directions) != 1:
            return
        self._signs[study_id] = -1.0 if directions[0] == StudyDirection.MAXIMIZE else 1.0
        try:
            best = self._rdb().get_best_trial(study_id)
        except ValueError:  # there is none yet
            return
        assert best.value is not None
        self._best[study_id] = self._signs[study_id] * best.value, pack_trial(best)

    def forget(self, study_id: int) -> None:
        """Know nothing of a study any more."""
        self._signs.pop(study_id, None)
        self._best.pop(study_id, None)

    def of(self, study_id: int) -> list[Any] | None:
        """Return the best trial, packed; ``None`` if none is known."""
        return self._best.get(study_id, (0.0, None))[1]

    def better(self, study_id: int, complete: Mapping[int, float | None]) -> list[Any] | None:
        """Return the best of these trials, packed, if it is better than all before.

        Args:
            study_id: The study.
            complete: The values of trials by their ids; ``None`` for one that is to be read.
        """
        if study_id not in self._signs or not complete:
            return None
        try:
            return self._better(study_id, self._signs[study_id], complete)
        except DBAPIError:  # others are better informed by the next one
            return None

    def _better(
        self, study_id: int, sign: float, complete: Mapping[int, float | None]
    ) -> list[Any] | None:
        known = {i: value for i, value in complete.items() if value is not None}
        with self._rdb().engine.connect() as connection:
            for trial in read_trials(connection, sorted(complete.keys() - known.keys())):
                if trial.values:
                    known[trial_id_of(trial)] = trial.values[0]
            loss, identity = min(
                ((sign * value, identity) for identity, value in known.items()),
                default=(float("inf"), None),
            )
            best = self._best.get(study_id)
            if identity is None or (best is not None and loss >= best[0]):
                return None
            found = read_trial(connection, identity)
        if found is None:
            return None
        self._best[study_id] = loss, pack_trial(found)
        return self._best[study_id][1]
