"""What ranks ask of the database, and what they change of studies through Optuna's own storage."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_propulate._optuna_compat import study_id_of
from optuna_propulate.storages.sql import read as reading
from optuna_propulate.storages.sql.write import MARK
from optuna_propulate.storages.wire.changes import pack_trial
from optuna_propulate.storages.wire.changes import unpack_trial


if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.storages import RDBStorage


class Questions:
    """Answers what needs no lock on a study.

    Args:
        rdb: Returns Optuna's own storage.

    Attributes:
        answers: What answers each call, by the call's name.
    """

    def __init__(self, rdb: Callable[[], RDBStorage]) -> None:
        self._rdb = rdb
        self.answers: dict[str, Callable[..., Any]] = {
            "add_trial": self._add_trial,
            "best": self._best,
            "count": self._count,
            "id_of_number": self._id_of_number,
            "ping": self._ping,
            "read": self._read,
            "read_number": self._read_number,
            "study": self._study,
            "waiting": self._waiting,
        }

    def _ping(self) -> None:
        """Return nothing: whoever calls has heard, by then, what was said before."""

    def _add_trial(self, study_id: int, packed: list[Any] | None) -> int:
        """Add a trial as any client of Optuna does; return its id."""
        template = None if packed is None else unpack_trial(packed)
        return self._rdb().create_new_trial(study_id, template)

    def _best(self, study_id: int) -> list[Any]:
        return pack_trial(self._rdb().get_best_trial(study_id))

    def _count(self, study_id: int) -> int:
        with self._rdb().engine.connect() as connection:
            return reading.count_trials(connection, study_id)

    def _id_of_number(self, study_id: int, number: int) -> int | None:
        with self._rdb().engine.connect() as connection:
            return reading.id_of_number(connection, study_id, number)

    def _read(self, identity: int) -> list[Any] | None:
        """Return the study of a trial, and the trial; ``None`` if there is none."""
        with self._rdb().engine.connect() as connection:
            study_id = reading.study_of(connection, identity)
            trial = reading.read_trial(connection, identity)
        return None if trial is None else [study_id, pack_trial(trial)]

    def _read_number(self, study_id: int, number: int) -> list[Any] | None:
        identity = self._id_of_number(study_id, number)
        found = None if identity is None else self._read(identity)
        return found and found[1]

    def _waiting(self, study_id: int) -> list[tuple[int, int]]:
        with self._rdb().engine.connect() as connection:
            return list(reading.trials_in_state(connection, study_id, TrialState.WAITING).items())

    def _study(self, method: str, arguments: list[Any]) -> Any:
        """Call Optuna's own storage about studies."""
        rdb = self._rdb()
        if method == "create_new_study":
            directions = [StudyDirection[name] for name in arguments[0]]
            return rdb.create_new_study(directions, arguments[1])
        if method == "get_study_directions":
            return [direction.name for direction in rdb.get_study_directions(*arguments)]
        if method == "get_all_studies":
            return [
                [study_id_of(s), s.study_name, [d.name for d in s.directions], s.user_attrs,
                 without_mark(s.system_attrs)]
                for s in rdb.get_all_studies()
            ]  # fmt: skip
        if method == "get_study_system_attrs":
            return without_mark(rdb.get_study_system_attrs(*arguments))
        return getattr(rdb, method)(*arguments)


def without_mark(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return a study's system attributes without the marks of jobs."""
    return {key: value for key, value in attributes.items() if not key.startswith(MARK)}
