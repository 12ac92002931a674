"""The database as the writer sees it: Optuna's own storage for studies, ledgers for trials."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.exceptions import StorageInternalError
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy.exc import DataError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import IntegrityError
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.exc import SQLAlchemyError

from optuna_propulate.storages import reading
from optuna_propulate.storages.engine import choose_journal
from optuna_propulate.storages.engine import connect_engine
from optuna_propulate.storages.ledger import UNFIT
from optuna_propulate.storages.ledger import Ledger
from optuna_propulate.storages.protocol import pack_trial
from optuna_propulate.storages.rdb import open_rdb
from optuna_propulate.storages.schema import MARK
from optuna_propulate.storages.schema import Writing
from optuna_propulate.storages.tenure import Tenure


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from optuna_propulate.storages.ledger import Outcome
    from optuna_propulate.storages.protocol import Change

News = list[list[Any]]

_RENEWED_EVERY = 60.0  # in seconds; MySQL closes what is idle
_FORGIVEN = (KeyError, ValueError, RuntimeError, DuplicatedStudyError, StorageInternalError)


class RefusedError(Exception):
    """What a call raised, by the name of its class; the rank raises it again."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class _DeletedError(Exception):
    """The study to be written to is gone."""


class Database:
    """Holds the connections to a database, and a ledger for each study being written.

    Args:
        url: An SQLAlchemy URL.
        engine_kwargs: As for ``sqlalchemy.create_engine``.
        retry: How often a trial that a killed job has left running is run again.

    Attributes:
        note: What a user should know about the database; empty for nothing.

    Raises:
        StorageInternalError: If it cannot be opened; its password is not shown.
    """

    def __init__(self, url: str, engine_kwargs: Mapping[str, Any] | None, retry: int = 0) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._studies = open_rdb(url, engine_kwargs)
        self._engine = connect_engine(url, engine_kwargs, writing=True)
        self.note = choose_journal(self._engine) or ""
        self._retry = retry
        self._tenure = Tenure(self._studies.engine)
        self._ledgers: dict[int, Ledger] = {}
        self._asked: dict[int, int] = {}
        self._renewed = time.monotonic()
        self._n_begun = 0
        self._places: dict[int, int] = {}
        self._names: dict[int, str] = {}
        self._best: dict[int, tuple[float, int]] = {}
        self._signs: dict[int, float] = {}
        self._calls: dict[str, Callable[..., tuple[Any, News]]] = {
            "begin": self._begin,
            "best": self._best_of,
            "count": self._count,
            "ping": self._ping,
            "take_up": self._take_up,
            "read": self._read,
            "read_number": self._read_number,
            "waiting": self._waiting,
            "distribution": self._distribution,
            "id_of_number": self._id_of_number,
            "study": self._study,
        }

    def close(self) -> None:
        """Close all connections."""
        self._tenure.close()
        self._studies.remove_session()
        self._studies.engine.dispose()
        self._engine.dispose()

    def call(self, method: str, arguments: list[Any]) -> tuple[Any, News]:
        """Do what a rank calls for; return its result, and what all ranks should know.

        Raises:
            RefusedError: If it cannot be done.
        """
        try:
            return self._calls[method](*arguments)
        except KeyError as error:
            raise RefusedError("KeyError", str(error.args[0] if error.args else error)) from error
        except _FORGIVEN as error:
            kind = next(k.__name__ for k in _FORGIVEN if isinstance(error, k))
            raise RefusedError(kind, str(error)) from error
        except SQLAlchemyError as error:
            text = str(getattr(error, "orig", None) or error)
            raise RefusedError("StorageInternalError", text) from error
        except Exception as error:  # nothing that a rank asks for may end the writer
            raise RefusedError("StorageInternalError", repr(error)) from error

    def write(self, study_id: int, base: int, place: int, changes: list[Change]) -> News:
        """Write changes in one transaction; return what all ranks should know.

        Args:
            study_id: The study.
            base: The number of the job's first trial in it.
            place: The counter of its trials.
            changes: What ranks told.

        Raises:
            DBAPIError: If the database cannot be reached.
            TakenError: If another job adds trials to the study.
        """
        try:
            self._open_ledger(study_id, base, place)
        except KeyError:
            return [["refused", f"study {study_id} has been deleted"]]
        try:
            outcome = self._transact(study_id, changes, carefully=False)
        except (DataError, IntegrityError, ProgrammingError, *UNFIT):  # one of them is not fit
            outcome = self._transact(study_id, changes, carefully=True)
        except _DeletedError:
            del self._ledgers[study_id]
            return [["refused", f"study {study_id} has been deleted"]]
        return self._news(study_id, outcome)

    def claimed(self, study_id: int, numbers: list[int]) -> None:
        """Note numbers that a rank claimed for trials which others added."""
        self._asked[study_id] = max(0, self._asked.get(study_id, 0) - len(numbers))
        if study_id in self._ledgers:
            self._ledgers[study_id].numbering.claimed(numbers)

    def name_of(self, study_id: int) -> str:
        """Return the name of a study that was begun; asks no database."""
        return self._names[study_id]

    def forget_claims(self) -> None:
        """Ask again for numbers: the rank that was asked has gone, perhaps."""
        self._asked.clear()

    def poll(self) -> News:
        """Look for what others have added or finished; return what all ranks should know."""
        news: News = []
        if time.monotonic() > self._renewed + _RENEWED_EVERY:
            self._renewed = time.monotonic()
            self._tenure.renew()
        for study_id, ledger in list(self._ledgers.items()):
            with self._studies.engine.connect() as connection:
                added, outcome = ledger.poll(connection)
            if added or ledger.numbering.claims:
                news += self.write(study_id, ledger.base, self._places[study_id], [])
            news += self._news(study_id, outcome)
        return news

    def _transact(self, study_id: int, changes: list[Change], *, carefully: bool) -> Outcome:
        ledger = self._ledgers[study_id]
        claims, is_written = ledger.numbering.claims, False
        if ledger.is_stale:
            self._tenure.renew()
        try:
            with self._engine.begin() as connection:
                if not Writing(connection).lock_study(study_id):
                    raise _DeletedError
                if ledger.is_stale:
                    ledger = Ledger(connection, study_id, ledger.base)
                    ledger.numbering.claimed(claims)
                outcome = ledger.write(connection, changes, carefully=carefully)
                is_written = True
        except BaseException:
            ledger = self._ledgers[study_id]
            ledger.is_stale = True  # was it committed? A new one will see
            if not is_written:  # if it was committed, the numbers are given
                ledger.numbering.claimed(claims)
            raise
        self._ledgers[study_id] = ledger
        return outcome

    def _news(self, study_id: int, outcome: Outcome) -> News:
        news: News = []
        ledger = self._ledgers[study_id]
        if outcome.waiting:
            ledger.waiting.update(outcome.waiting)
            news.append(["waiting", study_id, list(outcome.waiting.items())])
        n_unclaimed = ledger.numbering.n_unclaimed
        if n_unclaimed > self._asked.get(study_id, 0):
            news.append(["claim", study_id, n_unclaimed - self._asked.get(study_id, 0)])
            self._asked[study_id] = n_unclaimed
        news += [["refused", f"trial {n}: {why}"] for n, why in outcome.refused.items()]
        return news + self._better(study_id, outcome.complete)

    def _better(self, study_id: int, complete: Mapping[int, float | None]) -> News:
        """Return the best of these trials if it is better than all before."""
        sign = self._signs.get(study_id)
        if sign is None or not complete:
            return []
        best = self._best.get(study_id)
        try:
            return self._better_than(study_id, sign, best, complete)
        except DBAPIError:  # others are better informed by the next one
            return []

    def _better_than(
        self,
        study_id: int,
        sign: float,
        best: tuple[float, int] | None,
        complete: Mapping[int, float | None],
    ) -> News:
        known = {i: value for i, value in complete.items() if value is not None}
        for identity in complete.keys() - known.keys():
            with self._studies.engine.connect() as connection:
                for trial in reading.read_trials(connection, [identity]):
                    if trial.values:
                        known[identity] = trial.values[0]
        ranked = min(((sign * value, identity) for identity, value in known.items()), default=None)
        if ranked is None or (best is not None and ranked[0] >= best[0]):
            return []
        self._best[study_id] = ranked
        return [["best", study_id, self._packed(ranked[1])]]

    def _packed(self, identity: int) -> list[Any] | None:
        with self._studies.engine.connect() as connection:
            trial = next(reading.read_trials(connection, [identity]), None)
        return None if trial is None else pack_trial(trial)

    def _begin(self, study_id: int, base: int | None, place: int | None) -> tuple[Any, News]:
        """Let ranks add trials to a study; return the number of the first, and a counter.

        Args:
            study_id: The study.
            base: The number of the job's first trial, if it has begun with another writer.
            place: The counter, likewise.
        """
        ledger = self._open_ledger(study_id, base, place)
        best = self._best.get(study_id)
        waiting = list(ledger.waiting.items())
        packed = None if best is None else self._packed(best[1])
        return [ledger.base, self._places[study_id], waiting, packed], []

    def _open_ledger(self, study_id: int, base: int | None, place: int | None) -> Ledger:
        if study_id in self._ledgers:
            return self._ledgers[study_id]
        directions = self._studies.get_study_directions(study_id)
        self._names[study_id] = self._studies.get_study_name_from_id(study_id)
        self._tenure.claim(study_id)
        with self._engine.begin() as connection:
            writing = Writing(connection)
            writing.lock_study(study_id)
            ledger = Ledger(connection, study_id, base, self._retry)
            ledger.mark(writing)
        self._best.pop(study_id, None)
        if len(directions) == 1:
            self._signs[study_id] = -1.0 if directions[0] == StudyDirection.MAXIMIZE else 1.0
            self._note_best(study_id)
        self._places[study_id] = self._n_begun if place is None else place
        self._n_begun = max(self._n_begun, self._places[study_id] + 1)
        self._ledgers[study_id] = ledger
        return ledger

    def _note_best(self, study_id: int) -> None:
        try:
            best = self._studies.get_best_trial(study_id)
        except ValueError:  # there is none yet
            return
        assert best.value is not None
        self._best[study_id] = (self._signs[study_id] * best.value, best._trial_id)

    def _ping(self) -> tuple[Any, News]:
        """Return nothing: whoever calls has heard, by then, what was said before."""
        return None, []

    def _count(self, study_id: int) -> tuple[Any, News]:
        with self._studies.engine.connect() as connection:
            return reading.count_trials(connection, study_id), []

    def _best_of(self, study_id: int) -> tuple[Any, News]:
        return pack_trial(self._studies.get_best_trial(study_id)), []

    def _take_up(self, identity: int, start: str) -> tuple[Any, News]:
        """Set a waiting trial to running; return whether it runs for whoever gave this start."""
        with self._engine.begin() as connection:
            study_id = reading.study_of(connection, identity)
            ledger = None if study_id is None else self._ledgers.get(study_id)
            taken = Writing(connection).take_up(identity, start)
            if taken and ledger is not None and not ledger.is_stale:
                ledger.taken_up(identity)
                ledger.mark(Writing(connection))  # should the job be killed now, it is its own
        packed = None if taken else self._packed(identity)
        if packed is not None:  # done before, by a writer that could not say so any more
            taken = packed[2] == "RUNNING" and packed[3] == start
        if taken and ledger is not None:
            ledger.taken_up(identity)
        elif ledger is not None:
            ledger.waiting.pop(identity, None)
        return taken, [["taken", study_id, identity]]

    def _read(self, identity: int) -> tuple[Any, News]:
        """Return the study of a trial, and the trial; ``None`` if there is none."""
        with self._studies.engine.connect() as connection:
            study_id = reading.study_of(connection, identity)
        packed = self._packed(identity)
        return None if packed is None else [study_id, packed], []

    def _read_number(self, study_id: int, number: int) -> tuple[Any, News]:
        with self._studies.engine.connect() as connection:
            identity = reading.id_of_number(connection, study_id, number)
        return None if identity is None else self._packed(identity), []

    def _id_of_number(self, study_id: int, number: int) -> tuple[Any, News]:
        with self._studies.engine.connect() as connection:
            return reading.id_of_number(connection, study_id, number), []

    def _waiting(self, study_id: int) -> tuple[Any, News]:
        with self._studies.engine.connect() as connection:
            waiting = reading.trials_in_state(connection, study_id, TrialState.WAITING)
        return list(waiting.items()), []

    def _distribution(self, study_id: int, name: str) -> tuple[Any, News]:
        with self._studies.engine.connect() as connection:
            return reading.first_distribution(connection, study_id, name), []

    def _study(self, method: str, arguments: list[Any]) -> tuple[Any, News]:
        """Call Optuna's own storage about studies."""
        if method == "create_new_study":
            directions = [StudyDirection[name] for name in arguments[0]]
            return self._studies.create_new_study(directions, arguments[1]), []
        if method == "get_study_directions":
            return [d.name for d in self._studies.get_study_directions(*arguments)], []
        if method == "get_all_studies":
            return [
                [s._study_id, s.study_name, [d.name for d in s.directions], s.user_attrs,
                 _without_mark(s.system_attrs)]
                for s in self._studies.get_all_studies()
            ], []  # fmt: skip
        if method == "get_study_system_attrs":
            return _without_mark(self._studies.get_study_system_attrs(*arguments)), []
        if method == "delete_study":
            self._ledgers.pop(arguments[0], None)
        return getattr(self._studies, method)(*arguments), []


def _without_mark(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return a study's system attributes as whoever set them knows them."""
    return {key: value for key, value in attributes.items() if key != MARK}
