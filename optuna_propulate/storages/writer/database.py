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
from optuna_propulate.storages.sql.jobs import read_mark
from optuna_propulate.storages.sql.jobs import read_marks
from optuna_propulate.storages.sql.open import open_rdb
from optuna_propulate.storages.sql.sqlite_file import watch_file
from optuna_propulate.storages.sql.write import BulkWriter
from optuna_propulate.storages.wire.changes import pack_trial
from optuna_propulate.storages.writer.best import BestTrials
from optuna_propulate.storages.writer.jobs import BEAT_EVERY
from optuna_propulate.storages.writer.jobs import StudyLockedError
from optuna_propulate.storages.writer.jobs import UndecidedError
from optuna_propulate.storages.writer.jobs import UninvitedError
from optuna_propulate.storages.writer.jobs import Watch
from optuna_propulate.storages.writer.jobs import first_free_worker
from optuna_propulate.storages.writer.jobs import is_gone
from optuna_propulate.storages.writer.jobs import own_process
from optuna_propulate.storages.writer.questions import Questions
from optuna_propulate.storages.writer.questions import without_mark
from optuna_propulate.storages.writer.stale_trials import fail_stale
from optuna_propulate.storages.writer.study_writer import Outcome
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
    from typing import TypeVar

    from optuna.storages import RDBStorage
    from sqlalchemy import Connection

    from optuna_propulate.storages.wire.changes import Change

    T = TypeVar("T")

News = list[list[Any]]

_CLAIMED_AHEAD = 0.5  # in seconds: about a transaction's pause
_MOST_AHEAD = 5000  # trials
_BLOCKS_AT_ONCE = 4
_MOST_STARTED = 1000  # longer ago, nobody asks again whether a waiting trial was taken up here

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
        n_workers: How many workers it has.
        file: Device and inode of SQLite's file, if it was opened before; then the database need
            not be there yet.
        starter: The process that starts this one again if it ends; ``None`` for nobody.

    Attributes:
        note: What a user should know about the database; empty for nothing.
        urgent: What all ranks should know at once; whoever tells them empties it.

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
        n_workers: int = 1,
        is_known: bool = False,
        file: tuple[int, int] | None = None,
        starter: int | None = None,
    ) -> None:
        self._who = own_process(starter)
        self._url, self._engine_kwargs = url, engine_kwargs
        self._retry, self._job, self._n_workers = retry, job, n_workers
        self._rdb: RDBStorage | None = None
        self.note = ""
        self.urgent: News = []
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
        self._watches: dict[int, Watch] = {}
        self._closing: set[int] = set()  # studies of which a rank was asked to close the numbering
        self._closed_at: dict[int, int] = {}  # and what it has said
        self._others: dict[int, dict[str, Any]] = {}  # the marks of other jobs, as last seen
        self._claimed_at: dict[int, tuple[float, float, int]] = {}
        self._n_waited = 0
        self._started: dict[int, str] = {}  # when waiting trials were taken up here, by id
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
            "claim": self._claim,
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
        """Leave the studies to other jobs, and close all connections."""
        for study_id, study_writer in self._study_writers.items():
            with (
                suppress(SQLAlchemyError, StudyLockedError, DeletedError),
                self._engine.begin() as connection,
            ):
                self._lock(connection, study_id)
                if not study_writer.is_stale:
                    study_writer.leave(connection)
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
            base: The number of the job's first trial in it, -1 if it shares the study with
                other jobs; ``None`` if it adds no trials, and tells of some that have rows.
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
        self._closing.clear()

    def poll(self) -> News:
        """Look for what others have added or finished; return what all ranks should know."""
        for study_id, study_writer in list(self._study_writers.items()):
            with self._studies.engine.connect() as connection:
                marks = read_marks(connection, study_id)
                added, outcome = study_writer.poll(connection)
            try:
                if added or study_writer.numbering.claims:
                    self.urgent += self._write_some(study_id, [])
                self.urgent += self._news(study_id, outcome)
                self._meet(study_id, marks)
            except DeletedError:
                self._forget(study_id)
        news, self.urgent = self.urgent, []
        return news

    def closed(self, study_id: int, index: int) -> None:
        """Note the index of the first trial of this job that shares its study."""
        self._closed_at[study_id] = index

    def _meet(self, study_id: int, marks: dict[str, dict[str, Any]]) -> None:
        """Take note of other jobs: share the study with them, bury the dead, hear of their best.

        Args:
            study_id: The study.
            marks: What jobs have left in the study, this one among them.
        """
        marks.pop(self._job, None)
        before = self._others.get(study_id, {})
        dead = self._watches.setdefault(study_id, Watch()).dead(marks)
        for job in dead:
            with self._engine.begin() as connection:
                self._lock(connection, study_id)
                self._bury(connection, study_id, marks.pop(job))
        if before.keys() - marks.keys():  # what they have not used waits
            with self._studies.engine.connect() as connection:
                outcome = self._study_writers[study_id].look_for_waiting(connection)
            self.urgent += self._news(study_id, outcome)
        known = {mark.get("best") for mark in before.values()}
        best: list[Any] = [mark.get("best") for mark in marks.values()]
        best = [identity for identity in best if identity not in {None, *known}]
        self.urgent += self._news(study_id, Outcome(complete=dict.fromkeys(best)))
        self._others[study_id] = marks
        if marks and self._study_writers[study_id].numbering.is_open:
            self._share(study_id)

    def _share(self, study_id: int) -> None:
        """Close the numbering: another job wants to add trials."""
        index = self._closed_at.get(study_id)
        if index is not None:
            written = self._transact(
                study_id,
                lambda w, c: w.close(c, index) if w.numbering.is_open else w.write(c, []),
            )
            self._closed_at.pop(study_id, None)
            self.urgent += self._news(study_id, written)
        elif study_id not in self._closing:
            self._closing.add(study_id)
            self.urgent.append(["close", study_id])

    def _bury(self, connection: Connection, study_id: int, mark: dict[str, Any]) -> None:
        """Fail what a dead job has left running, unless it is alive, or another job does so.

        Args:
            connection: A connection that has locked the study.
            study_id: The study.
            mark: What the job had left when it was taken for dead.
        """
        job = mark.get("job", "")
        now = read_marks(connection, study_id).get(job)
        if now is None or now.get("beat") != mark.get("beat"):
            return
        bulk = BulkWriter(connection)
        gives_back = is_gone(mark) if "beat" in mark else True
        fail_stale(bulk, connection, study_id, mark, self._retry, gives_back=gives_back)
        bulk.unmark(study_id, job)

    def _claim(
        self,
        study_id: int,
        index: int,
        end: int,
        place: int,
        closed_at: int | None,
        most: int | None,
        n_total: int | None,
    ) -> tuple[Any, News]:
        """Claim numbers for the trials of a job that shares its study.

        Args:
            study_id: The study.
            index: The index of a trial that is about to start.
            end: The first index that has no number yet, as far as the rank knows.
            place: The counter of the job's trials.
            closed_at: The index of the first trial that was started beside other jobs; ``None``
                if the job has never been alone.
            most: For how many more trials the job has any use; ``None`` if that is not known.
            n_total: How many trials the study may have; ``None`` for no limit.

        Returns:
            The blocks that were claimed last, of which the news tell all ranks.

        Raises:
            UndecidedError: If the database cannot be reached just now.
        """
        try:
            study_writer = self._open_study_writer(study_id, -1, place)
            if study_writer.numbering.is_open and closed_at is not None:
                self._closed_at[study_id] = closed_at
                self._share(study_id)
            if index >= study_writer.next_index or study_writer.is_stale:
                n_ahead = self._ahead(study_id, index + 1 - study_writer.next_index, most)
                outcome = self._transact(
                    study_id, lambda w, c: w.claim(c, index, end, n_ahead, n_total)
                )
                self._claimed_at[study_id] = time.monotonic(), *self._claimed_at[study_id][1:]
                blocks = self._study_writers[study_id].blocks[-_BLOCKS_AT_ONCE:]
                self.urgent += [*self._news(study_id, outcome), ["blocks", study_id, blocks]]
        except _UNWRITABLE as error:
            raise UndecidedError(reason_of(error)) from error
        return self._study_writers[study_id].blocks[-_BLOCKS_AT_ONCE:], []

    def _ahead(self, study_id: int, n: int, most: int | None) -> int:
        """Return for how many more trials to claim numbers: what starts within half a second.

        Nothing where trials are slow, and twice as many as last time at most, so that next to
        nothing is claimed in vain. The time that a claim itself takes does not count: where many
        jobs wait for one another, each is to claim more at a time rather than less.

        Args:
            study_id: The study.
            n: How many have been asked for now.
            most: How many it may be; ``None`` for no limit.
        """
        now = time.monotonic()
        since, rate, n_ahead = self._claimed_at.get(study_id, (now - 1.0, 0.0, 0))
        rate = (rate + max(0, n + n_ahead) / max(now - since, 1e-3)) / 2
        n_ahead = min(
            int(rate * _CLAIMED_AHEAD),
            2 * max(1, n + n_ahead),
            _MOST_AHEAD if most is None else most,
        )
        self._claimed_at[study_id] = now, rate, n_ahead
        return n_ahead

    def beat(self) -> None:
        """Show other jobs that this one is alive, for each study that was not written lately."""
        now = time.monotonic()
        for study_id in [i for i, at in self._beat_at.items() if now - at >= BEAT_EVERY]:
            self._beat_at[study_id] = now  # once, also where the database is away
            try:
                self._transact(study_id, lambda w, c: w.write(c, []))
            except DeletedError:
                self._forget(study_id)

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
            written = self._transact(study_id, lambda w, c: w.write(c, changes))
            return self._news(study_id, written)
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
        mark = read_mark(connection, study_id, self._job)
        if study_id not in self._lost and mark is not None and not mark.get("is_waiting"):
            return
        study_writer = self._study_writers.get(study_id)
        if study_id in self._lost or study_writer is None:
            self._lost.add(study_id)  # for good: its numbers are another job's
        elif not study_writer.numbering.is_open:
            return  # the numbers that it has claimed are its own all the same
        raise StudyLockedError(
            "Another job has taken over this study, as this one did not write for a while."
        )

    def _goes_on(self, connection: Connection, study_writer: StudyWriter) -> StudyWriter:
        """Lock a study; return its writer, or the one that goes on for it.

        Raises:
            DeletedError: If there is no such study.
            UndecidedError: If another job took this one for dead, and the ranks have not said yet
                which numbers they have used.
            UninvitedError: If that other job is alone in the study as far as it knows.
        """
        study_id = study_writer.study_id
        self._lock(connection, study_id, is_added_to=False)
        mark = read_mark(connection, study_id, self._job)
        if mark is not None and not mark.get("is_waiting"):
            return study_writer.again(connection) if study_writer.is_stale else study_writer
        if study_writer.numbering.is_open and study_id not in self._closed_at:
            if study_id not in self._closing:
                self._closing.add(study_id)
                self.urgent.append(["close", study_id])
            raise UndecidedError("another job took this one for dead, which joins again")
        if self._is_anothers(connection, study_id):
            raise UninvitedError("another job took this one for dead, and does not share yet")
        return study_writer.rejoined(connection, self._closed_at.get(study_id, 0))

    def _is_anothers(self, connection: Connection, study_id: int) -> bool:
        """Tell whether another job is alone in a study as far as it knows; it is locked."""
        marks = read_marks(connection, study_id)
        marks.pop(self._job, None)
        return any(mark.get("is_open", True) for mark in marks.values())

    def _transact(self, study_id: int, act: Callable[[StudyWriter, Connection], T]) -> T:
        """Let the writer of a study do something in one transaction; return what that returns."""
        before = study_writer = self._study_writers[study_id]
        claims, is_begun, is_written = before.numbering.claims, False, False
        try:
            with self._engine.begin() as connection:
                study_writer = self._goes_on(connection, before)
                is_begun = True
                done = act(study_writer, connection)
                is_written = True
        except UninvitedError:
            with self._engine.begin() as connection:
                self._wait_for_others(connection, study_id)
            raise
        except BaseException:
            before.is_stale |= is_begun  # was it committed? A new one will see
            if not is_written:  # if it was committed, the numbers are given
                before.numbering.claimed(claims)
            raise
        study_writer.n_written = study_writer.numbering.n_settled
        if study_writer is not before:  # which may not have told
            self.urgent.append(["waiting", study_id, list(study_writer.waiting.items())])
        self._study_writers[study_id] = study_writer
        self._beat_at[study_id] = time.monotonic()
        return done

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
        if better is None:
            return news
        study_writer.best = better[0]
        return [*news, ["best", study_id, better]]

    def _begin(self, study_id: int, base: int | None, place: int | None) -> tuple[Any, News]:
        """Let ranks add trials to a study; needs no database once a rank of the job has begun.

        Returns:
            The number of the job's first trial, whether other jobs were there when it began,
            blocks of numbers, and the number of its first worker; a counter, what is waiting, the
            best trial, the study's name and system attributes; host and writing process of each
            other job.

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
        numbers = [study_writer.base, study_writer.is_late, study_writer.blocks]
        numbers.append(study_writer.first_worker)
        others = [
            [m.get("host"), m.get("process")] for m in self._others.get(study_id, {}).values()
        ]
        return [numbers, place, waiting, best, name, attributes, others], []

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
            StudyLockedError: If another job has taken over, as this one did not write for long.
            UndecidedError: If another job is alone there as far as it knows.
        """
        if study_id in self._study_writers:
            return self._study_writers[study_id]
        directions = self._studies.get_study_directions(study_id)
        attributes = self._studies.get_study_system_attrs(study_id)
        self._judge(study_id)
        with self._engine.begin() as connection:
            is_open: bool | None = False
            if base is None:
                base, place, is_open = self._join(connection, study_id)
            elif base >= 0:
                self._lock(connection, study_id)
            else:  # another writer of this job was there, and shared the study
                self._lock(connection, study_id, is_added_to=False)
                is_open = None if self._is_anothers(connection, study_id) else False
            place = self._n_begun if place is None else place
            marks = read_marks(connection, study_id)
            own = marks.pop(self._job, {})
            workers = first_free_worker(marks.values(), self._n_workers), self._n_workers
            study_writer = StudyWriter(
                connection,
                study_id,
                base,
                self._job,
                place,
                is_open=bool(is_open),
                who={**self._who, "workers": own.get("workers", workers)},
            )
            study_writer.was_given_up |= base is not None and study_writer.is_unmarked
            if is_open is None:
                self._wait_for_others(connection, study_id)
            else:
                study_writer.mark(BulkWriter(connection))
        if is_open is None:  # and that is committed
            raise UndecidedError
        if base is not None:  # the writer before may not have told
            self.urgent.append(["waiting", study_id, list(study_writer.waiting.items())])
        self._best.begin(study_id, directions)
        self._attributes[study_id] = without_mark(attributes)
        self._places[study_id] = place
        self._n_begun = max(self._n_begun, place + 1)
        self._study_writers[study_id] = study_writer
        self._beat_at[study_id] = time.monotonic()
        return study_writer

    def _join(
        self, connection: Connection, study_id: int
    ) -> tuple[int | None, int | None, bool | None]:
        """Lock a study to which this job adds trials from now on.

        Returns:
            Number and counter of the first trial, if another writer of this job was there before;
            whether this job is alone, or ``None`` if another one thinks that it is.

        Raises:
            UndecidedError: If the study is locked.
        """
        watch = self._watches.setdefault(study_id, Watch())
        try:
            self._lock(connection, study_id, is_added_to=False)
            marks = read_marks(connection, study_id)
        except OperationalError as error:
            raise UndecidedError(reason_of(error)) from error
        own = marks.pop(self._job, None)
        if own is not None and not own.get("is_waiting"):
            return own["base"], own["place"], own["is_open"]
        for job in watch.dead(marks):
            self._bury(connection, study_id, marks.pop(job))
        self._others[study_id] = marks
        if any(
            mark.get("is_open", True) and not mark.get("is_waiting") for mark in marks.values()
        ):
            return None, None, None
        return None, None, not marks

    def _wait_for_others(self, connection: Connection, study_id: int) -> None:
        """Show that this job wants to add trials; who is alone in the study will share it."""
        self._n_waited += 1
        mark = {
            **self._who,
            "study_id": study_id,
            "job": self._job,
            "beat": -self._n_waited,
            "is_open": False,
            "is_waiting": True,
            "best": None,
        }
        BulkWriter(connection).mark(study_id, self._job, mark)

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
            is_claimed = bulk.claim_waiting(identity, start)
            if is_claimed:
                bulk.own([identity], self._job)
        if is_claimed:
            self._started[identity] = start
            if len(self._started) > _MOST_STARTED:
                self._started.pop(next(iter(self._started)))
        with self._studies.engine.connect() as connection:
            trial = reading.read_trial(connection, identity)
        packed = None if trial is None else pack_trial(trial)
        is_ours = start == self._started.get(identity)  # MySQL keeps whole seconds only
        if packed is None or packed[2] != "RUNNING" or not (is_ours or packed[3] == start):
            packed = None  # somebody else's
        if study_writer is not None and packed is not None:
            study_writer.taken_up(identity)
        elif study_writer is not None:
            study_writer.waiting.pop(identity, None)
        return packed, [["taken", study_id, identity]]

    def _forget(self, study_id: int) -> None:
        """Forget a study that is deleted: SQLite gives its id to the next one."""
        of_study: list[dict[int, Any]] = [
            self._study_writers, self._watches, self._judges, self._beat_at, self._asked,
            self._places, self._names, self._attributes, self._others, self._closed_at,
            self._claimed_at,
        ]  # fmt: skip
        for known in of_study:
            known.pop(study_id, None)
        self._lost.discard(study_id)
        self._closing.discard(study_id)
        self._best.forget(study_id)
