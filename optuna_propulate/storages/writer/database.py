"""The database as the writer sees it: Optuna's storage for studies, a writer for each study."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING
from typing import Any

import sqlalchemy as sa
from optuna.exceptions import DuplicatedStudyError
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import SQLAlchemyError

from optuna_propulate.storages.sql import read as reading
from optuna_propulate.storages.sql.dialects.sqlite import choose_journal
from optuna_propulate.storages.sql.engine import connect_engine
from optuna_propulate.storages.sql.open import open_rdb
from optuna_propulate.storages.sql.sqlite_file import watch_file
from optuna_propulate.storages.sql.write import BulkWriter
from optuna_propulate.storages.wire.changes import pack_trial
from optuna_propulate.storages.writer.best import BestTrials
from optuna_propulate.storages.writer.questions import Questions
from optuna_propulate.storages.writer.questions import without_mark
from optuna_propulate.storages.writer.study_lock import BEAT_EVERY
from optuna_propulate.storages.writer.study_lock import Contender
from optuna_propulate.storages.writer.study_lock import StudyLockedError
from optuna_propulate.storages.writer.study_lock import UndecidedError
from optuna_propulate.storages.writer.study_writer import StudyWriter
from optuna_propulate.storages.writer.study_writer import merged
from optuna_propulate.storages.writer.study_writer import write_about
from optuna_propulate.storages.writer.unfit import DeletedError
from optuna_propulate.storages.writer.unfit import Judge
from optuna_propulate.storages.writer.unfit import failed
from optuna_propulate.storages.writer.unfit import reason_of
from optuna_propulate.storages.writer.unfit import write_fit


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping
    from collections.abc import Sequence

    from optuna.storages import RDBStorage
    from sqlalchemy import Connection

    from optuna_propulate.storages.wire.changes import Change
    from optuna_propulate.storages.writer.study_writer import Outcome

News = list[list[Any]]

_UNWRITABLE = (SQLAlchemyError, StorageInternalError)
"""What is raised where the database is away, and where it will never take what is asked."""

_FORGIVEN = (KeyError, ValueError, RuntimeError, DuplicatedStudyError, StorageInternalError)


class RefusedError(Exception):
    """What a call raised, by the name of its class; the rank raises it again."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Database:
    """Holds the connections to a database, and a writer for each study being written.

    Args:
        url: An SQLAlchemy URL.
        engine_kwargs: As for ``sqlalchemy.create_engine``.
        retry: How often a trial that a killed job has left running is run again.
        job: Tells the job from all others.
        file: Device and inode of SQLite's file, if it was opened before; then the database need
            not be there yet.

    Attributes:
        note: What a user should know about the database; empty for nothing.

    Raises:
        StorageInternalError: If it cannot be opened; its password is not shown.
    """

    def __init__(
        self,
        url: str,
        engine_kwargs: Mapping[str, Any] | None,
        retry: int = 0,
        job: str = "",
        *,
        is_known: bool = False,
        file: tuple[int, int] | None = None,
    ) -> None:
        self._url, self._engine_kwargs = url, engine_kwargs
        self._retry, self._job = retry, job
        self._rdb: RDBStorage | None = None
        self.note = ""
        self.file = file
        if not is_known:
            self._rdb = open_rdb(url, engine_kwargs)
        self._engine = connect_engine(url, engine_kwargs, writing=True)
        if not is_known:
            self.note = choose_journal(self._engine) or ""
        self.file = watch_file(self._engine, file)
        if self._rdb is not None:
            watch_file(self._rdb.engine, self.file)
        self._study_writers: dict[int, StudyWriter] = {}
        self._contenders: dict[int, Contender] = {}
        self._lost: set[int] = set()
        self._judges: dict[int, Judge] = {}
        self._beat_at: dict[int, float] = {}
        self._asked: dict[int, int] = {}
        self._n_begun = 0
        self._places: dict[int, int] = {}
        self._names: dict[int, str] = {}
        self._best = BestTrials(lambda: self._studies)
        self._attributes: dict[int, dict[str, Any]] = {}  # as they were when the job began
        self._answers = Questions(lambda: self._studies).answers
        self._calls: dict[str, Callable[..., tuple[Any, News]]] = {
            "begin": self._begin,
            "claim_waiting": self._claim_waiting,
            "leave": self._leave,
        }

    @property
    def _studies(self) -> RDBStorage:
        """Optuna's own storage; a writer that goes on for another opens it once it is needed.

        Raises:
            StorageInternalError: If it cannot be opened.
        """
        if self._rdb is None:
            with self._engine.connect():  # fails if SQLite's file is gone: nobody makes a new one
                self._rdb = open_rdb(self._url, self._engine_kwargs)
            watch_file(self._rdb.engine, self.file)
        return self._rdb

    def close(self) -> None:
        """Let other jobs add trials to the studies, and close all connections."""
        for study_id, study_writer in self._study_writers.items():
            with suppress(SQLAlchemyError, StudyLockedError), self._engine.begin() as connection:
                self._lock(connection, study_id)
                if not study_writer.is_stale:
                    study_writer.mark(BulkWriter(connection), released=True)
        if self._rdb is not None:
            self._rdb.remove_session()
            self._rdb.engine.dispose()
        self._engine.dispose()

    def call(self, method: str, arguments: list[Any]) -> tuple[Any, News]:
        """Do what a rank calls for; return its result, and what all ranks should know.

        Raises:
            RefusedError: If it cannot be done.
            UndecidedError: If it cannot be done yet.
        """
        try:
            if method in self._calls:
                return self._calls[method](*arguments)
            if method == "study" and arguments[0] == "delete_study":
                self._forget(arguments[1][0])
            return self._answers[method](*arguments), []
        except UndecidedError:
            raise
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

    def write(
        self, study_id: int, base: int | None, place: int, changes: list[Change]
    ) -> tuple[News, list[tuple[Change, str]]]:
        """Write changes; return what all ranks should know, and what was not fit to be written.

        Args:
            study_id: The study.
            base: The number of the job's first trial in it; ``None`` if the job adds no trials,
                and tells of some that have rows.
            place: The counter of its trials.
            changes: What ranks told.

        Returns:
            News; the changes that the database does not take and never will, with the reasons.

        Raises:
            SQLAlchemyError: If the database cannot be reached.
            StudyLockedError: If another job adds trials to the study.
        """
        try:
            if base is not None or study_id in self._study_writers:
                self._open_study_writer(study_id, base, place)
            judge = self._judge(study_id)
            fit, unfit = [], []
            for key, change in merged(changes).items():
                objection = judge.objection(change)
                if key in judge.refused or objection:
                    unfit.append((change, objection))
                else:
                    fit.append(change)
            news, more = write_fit(
                fit,
                lambda some: self._write_some(study_id, some),
                lambda: self._takes_anything(study_id),
            )
            return news + self._refuse(study_id, unfit + more), unfit + more
        except (KeyError, DeletedError):
            self._forget(study_id)
            return [["refused", study_id, None, "it has been deleted"]], []

    def claimed(self, study_id: int, numbers: list[int]) -> None:
        """Note numbers that a rank claimed for trials which others added."""
        self._asked[study_id] = max(0, self._asked.get(study_id, 0) - len(numbers))
        if study_id in self._study_writers:
            self._study_writers[study_id].numbering.claimed(numbers)

    def name_of(self, study_id: int) -> str:
        """Return the name of a study that was written to; asks no database."""
        return self._names.get(study_id, "")

    def forget_claims(self) -> None:
        """Ask again for numbers: the rank that was asked has gone, perhaps."""
        self._asked.clear()

    def poll(self) -> News:
        """Look for what others have added or finished; return what all ranks should know."""
        news: News = []
        for study_id, study_writer in list(self._study_writers.items()):
            with self._studies.engine.connect() as connection:
                added, outcome = study_writer.poll(connection)
            if added or study_writer.numbering.claims:
                news += self._write_some(study_id, [])
            news += self._news(study_id, outcome)
        return news

    def beat(self) -> None:
        """Show other jobs that this one is alive, for each study that was not written lately."""
        now = time.monotonic()
        for study_id in [i for i, at in self._beat_at.items() if now - at >= BEAT_EVERY]:
            self._beat_at[study_id] = now  # once, also where the database is away
            self._transact(study_id, [])

    def _judge(self, study_id: int) -> Judge:
        """Return the judge of a study's trials; ``KeyError`` if there is no such study."""
        if study_id not in self._judges:
            self._names[study_id] = self._studies.get_study_name_from_id(study_id)
            with self._studies.engine.connect() as connection:
                known = reading.first_distributions(connection, study_id)
            self._judges[study_id] = Judge(known)
        return self._judges[study_id]

    def _write_some(self, study_id: int, changes: Sequence[Change]) -> News:
        """Write changes in one transaction; return what all ranks should know."""
        if study_id in self._study_writers:
            return self._news(study_id, self._transact(study_id, changes))
        with self._engine.begin() as connection:
            self._lock(connection, study_id, is_added_to=False)
            self._amend(connection, study_id, changes)
        return []

    def _takes_anything(self, study_id: int) -> bool:
        """Tell whether the database can be written, what was just refused apart."""
        try:
            with self._engine.begin() as connection:
                self._lock(connection, study_id, is_added_to=False)
                BulkWriter(connection).probe(study_id)
        except (SQLAlchemyError, DeletedError):
            return False
        return True

    def _refuse(self, study_id: int, unfit: Sequence[tuple[Change, str]]) -> News:
        """Let trials fail that the database does not take; tell of each once."""
        news: News = []
        refused = self._judge(study_id).refused
        for change, reason in unfit:
            key = change.number if change.identity is None else (change.identity,)
            if key not in refused:
                news += self._write_some(study_id, [failed(change, reason)])
                news.append(["refused", study_id, change.number, reason])
                refused.add(key)
        return news

    def _amend(self, connection: Connection, study_id: int, changes: Sequence[Change]) -> None:
        """Write about trials that have rows, though this job adds none to the study."""
        bulk = BulkWriter(connection)
        numbers = [change.number for change in changes if change.identity is None]
        ids = reading.ids_of_numbers(connection, study_id, numbers)
        there = [(change.identity or ids.get(change.number), change) for change in changes]
        known = [(identity, change) for identity, change in there if identity is not None]
        bulk.update_trials([(c.state, c.start, c.complete, i) for i, c in known])
        write_about(bulk, known, is_new=False)

    def _lock(self, connection: Connection, study_id: int, *, is_added_to: bool = True) -> None:
        """Lock a study, and check that this job may add trials to it.

        Raises:
            DeletedError: If there is no such study.
            StudyLockedError: If another job has taken it over.
        """
        if not BulkWriter(connection).lock_study(study_id):
            raise DeletedError
        if not is_added_to:
            return
        mark = reading.read_mark(connection, study_id)
        if study_id in self._lost or mark is None or mark.get("job") != self._job:
            self._lost.add(study_id)  # for good: its numbers are another job's
            raise StudyLockedError(
                "Another job has taken over this study, as this one did not write for a while."
            )

    def _transact(self, study_id: int, changes: Sequence[Change]) -> Outcome:
        study_writer = self._study_writers[study_id]
        claims, is_written = study_writer.numbering.claims, False
        try:
            with self._engine.begin() as connection:
                self._lock(connection, study_id)
                if study_writer.is_stale:
                    study_writer = StudyWriter(
                        connection,
                        study_id,
                        study_writer.base,
                        job=self._job,
                        place=study_writer.place,
                    )
                    study_writer.numbering.claimed(claims)
                outcome = study_writer.write(connection, changes)
                is_written = True
        except BaseException:
            study_writer = self._study_writers[study_id]
            study_writer.is_stale = True  # was it committed? A new one will see
            if not is_written:  # if it was committed, the numbers are given
                study_writer.numbering.claimed(claims)
            raise
        self._study_writers[study_id] = study_writer
        self._beat_at[study_id] = time.monotonic()
        return outcome

    def _news(self, study_id: int, outcome: Outcome) -> News:
        news: News = []
        study_writer = self._study_writers[study_id]
        if outcome.waiting:
            study_writer.waiting.update(outcome.waiting)
            news.append(["waiting", study_id, list(outcome.waiting.items())])
        n_unclaimed = study_writer.numbering.n_unclaimed
        if n_unclaimed > self._asked.get(study_id, 0):
            news.append(["claim", study_id, n_unclaimed - self._asked.get(study_id, 0)])
            self._asked[study_id] = n_unclaimed
        better = self._best.better(study_id, outcome.complete)
        return news if better is None else [*news, ["best", study_id, better]]

    def _begin(self, study_id: int, base: int | None, place: int | None) -> tuple[Any, News]:
        """Let ranks add trials to a study; needs no database once a rank of the job has begun.

        Returns:
            The number of the job's first trial, a counter, what is waiting, the best trial, the
            study's name and system attributes.

        Args:
            study_id: The study.
            base: The number of the job's first trial, if it has begun with another writer.
            place: The counter, likewise.
        """
        try:
            study_writer = self._open_study_writer(study_id, base, place)
        except _UNWRITABLE as error:
            self._raise_if_away(error)
            study_writer = self._open_study_writer(
                study_id, base, place
            )  # it has just come back, perhaps
        waiting = list(study_writer.waiting.items())
        name, attributes = self._names[study_id], self._attributes[study_id]
        place, best = self._places[study_id], self._best.of(study_id)
        return [study_writer.base, place, waiting, best, name, attributes], []

    def _raise_if_away(self, error: Exception) -> None:
        """Raise ``UndecidedError`` if the database cannot be reached, or is locked, just now."""
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.select(1))
        except _UNWRITABLE as failure:
            raise UndecidedError(reason_of(failure)) from error

    def _open_study_writer(
        self, study_id: int, base: int | None, place: int | None
    ) -> StudyWriter:
        """Return the writer of a study; this job is the one that adds trials to it from now on.

        Raises:
            KeyError: If there is no such study.
            StudyLockedError: If another job adds trials to it.
            UndecidedError: If that is not known yet.
        """
        if study_id in self._study_writers:
            return self._study_writers[study_id]
        directions = self._studies.get_study_directions(study_id)
        attributes = self._studies.get_study_system_attrs(study_id)
        self._judge(study_id)
        with self._engine.begin() as connection:
            if base is None:
                base, place = self._take_over(connection, study_id)
            else:
                self._lock(connection, study_id)
            place = self._n_begun if place is None else place
            study_writer = StudyWriter(connection, study_id, base, self._retry, self._job, place)
            study_writer.mark(BulkWriter(connection))
        self._best.begin(study_id, directions)
        self._attributes[study_id] = without_mark(attributes)
        self._places[study_id] = place
        self._n_begun = max(self._n_begun, place + 1)
        self._study_writers[study_id] = study_writer
        self._beat_at[study_id] = time.monotonic()
        return study_writer

    def _take_over(self, connection: Connection, study_id: int) -> tuple[int | None, int | None]:
        """Lock a study to which this job adds trials from now on.

        Returns:
            Number and counter of the first trial, if another writer of this job was there before.

        Raises:
            StudyLockedError: If another job adds trials to it.
            UndecidedError: If that is not known yet.
        """
        contender = self._contenders.pop(study_id, None) or Contender()
        try:
            self._lock(connection, study_id, is_added_to=False)
            mark = reading.read_mark(connection, study_id)
            if mark is None or mark.get("study_id") != study_id:  # or copied from another study
                return None, None
            if mark.get("job") == self._job:
                return mark["base"], mark["place"]
            contender.judge(mark)
        except UndecidedError:
            self._contenders[study_id] = contender
            raise
        except OperationalError as error:
            if not contender.is_patient:
                raise
            self._contenders[study_id] = contender
            raise UndecidedError from error
        return None, None

    def _leave(self, study_id: int, numbers: list[int]) -> tuple[Any, News]:
        """Let trials of this job run on when it ends, as another process will tell them."""
        study_writer = self._study_writers[study_id]
        with self._engine.begin() as connection:
            self._lock(connection, study_id)
            ids = reading.ids_of_numbers(connection, study_id, numbers)
            BulkWriter(connection).own(list(ids.values()), None)
        study_writer.given_up(ids.values())
        return None, []

    def _claim_waiting(self, identity: int, start: str) -> tuple[Any, News]:
        """Set a waiting trial to running; return it if it runs for whoever gave this start."""
        with self._engine.begin() as connection:
            study_id = reading.study_of(connection, identity)
            if study_id is None:
                raise KeyError(f"No trial with id {identity} exists.")
            study_writer = self._study_writers.get(study_id)
            bulk = BulkWriter(connection)
            if bulk.claim_waiting(identity, start) and study_writer is not None:
                bulk.own([identity], self._job)
        with self._studies.engine.connect() as connection:
            trial = reading.read_trial(connection, identity)
        packed = None if trial is None else pack_trial(trial)
        if packed is None or packed[2] != "RUNNING" or packed[3] != start:
            packed = None  # somebody else's
        if study_writer is not None and packed is not None:
            study_writer.taken_up(identity)
        elif study_writer is not None:
            study_writer.waiting.pop(identity, None)
        return packed, [["taken", study_id, identity]]

    def _forget(self, study_id: int) -> None:
        """Forget a study that is deleted: SQLite gives its id to the next one."""
        of_study: list[dict[int, Any]] = [
            self._study_writers, self._contenders, self._judges, self._beat_at, self._asked,
            self._places, self._names, self._attributes,
        ]  # fmt: skip
        for known in of_study:
            known.pop(study_id, None)
        self._lost.discard(study_id)
        self._best.forget(study_id)
