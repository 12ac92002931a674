"""A rank's view of the database: its own trials in memory, the others' as far as asked for."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from optuna_propulate._optuna_compat import set_trial_id
from optuna_propulate._optuna_compat import trial_id_of
from optuna_propulate.storages.client.cache import TrialCache
from optuna_propulate.storages.client.claims import Claims
from optuna_propulate.storages.client.handover import Handover
from optuna_propulate.storages.client.live import LiveTrial
from optuna_propulate.storages.client.live import copy_trial
from optuna_propulate.storages.client.others import TrialsOfOthers
from optuna_propulate.storages.client.reader import Reader
from optuna_propulate.storages.client.studies import DECIDED_WITHIN
from optuna_propulate.storages.client.studies import Studies
from optuna_propulate.storages.client.study import ALIASES
from optuna_propulate.storages.client.study import StudyView
from optuna_propulate.storages.client.write_buffer import WriteBuffer
from optuna_propulate.storages.sql.read import read_trials
from optuna_propulate.storages.sql.read import read_trials_after
from optuna_propulate.storages.wire.changes import pack_trial
from optuna_propulate.storages.wire.changes import unpack_change
from optuna_propulate.storages.wire.changes import unpack_trial
from optuna_propulate.storages.wire.times import utc
from optuna_propulate.storages.writer.spill import Spill


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping
    from typing import TypeVar

    from optuna.trial import FrozenTrial

    from optuna_propulate.parallel.counters import Counters
    from optuna_propulate.storages.client.writer_handle import WriterHandle
    from optuna_propulate.storages.wire.changes import Change

    T = TypeVar("T")

_logger = optuna.logging.get_logger("optuna." + __name__)

_N_RECENT = 256  # trials of this rank that are committed, and may be asked for once more
_READ_PAUSE = 0.5  # in seconds, before a rank tries again to read what its sampler goes on from
_READ_TIMEOUT = 2.0  # in seconds, to hear whether the writer can read the database
_SYNC_TIMEOUT = 10.0  # in seconds, to hear what a child process has told


class RankClient:
    """Holds the trials of this rank that are not committed, and its connection to the writer.

    Args:
        handle: The writer, and the counters of trial numbers.
        url: The database's URL.
        flush_interval: In seconds.
        refresh_interval: In seconds.
        commit_timeout: In seconds.
        engine_kwargs: As for ``sqlalchemy.create_engine``.
        handover: What the rank knew whose trials this process goes on with; ``None`` for a rank.
    """

    def __init__(
        self,
        handle: WriterHandle,
        url: str,
        *,
        flush_interval: float,
        refresh_interval: float,
        commit_timeout: float,
        engine_kwargs: Mapping[str, Any],
        handover: Handover | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self.is_guest = handover is not None
        self.is_shared = False  # whether other processes may change this rank's trials
        self._handle: WriterHandle | None = handle
        self._flush_interval, self._refresh_interval = flush_interval, refresh_interval
        self._commit_timeout = commit_timeout
        self._reader = Reader(url, engine_kwargs)
        self.studies = Studies(self, refresh_interval, commit_timeout)
        self.claims = Claims(self, commit_timeout)
        self._live: dict[int, tuple[StudyView, LiveTrial]] = {}
        self._recent: OrderedDict[int, tuple[StudyView, LiveTrial]] = OrderedDict()
        self._seen: dict[int, tuple[float, StudyView, FrozenTrial]] = {}
        if handover is not None:
            self._go_on(handover)
        self._own_buffer: WriteBuffer | None = self._opened(handle)

    @property
    def _buffer(self) -> WriteBuffer:
        """What there is to tell; a forked child opens its own when it needs one."""
        buffer = self._own_buffer
        if buffer is not None:
            return buffer
        with self.lock:
            if self._own_buffer is None:
                if self._handle is None:
                    raise StorageInternalError("The storage has been closed.")
                self._own_buffer = self._opened(self._handle)
            return self._own_buffer

    def _opened(self, handle: WriterHandle) -> WriteBuffer:
        return WriteBuffer(
            handle,
            self,
            self._flush_interval,
            self._commit_timeout,
            is_guest=self.is_guest,
        )

    @property
    def is_away(self) -> bool:
        """Whether the database is known to be away, so that nothing is worth waiting for it."""
        return self._buffer.is_away or self._reader.is_resting

    @property
    def starts_writer(self) -> bool:
        """Whether this process has started the writer: rank 0, or a process alone."""
        return self._handle is not None and self._handle.is_starter

    @property
    def is_writer_away(self) -> bool:
        """Whether the writer, or its database, is known to be away."""
        return self._buffer.is_away

    @property
    def is_hurried(self) -> bool:
        """Whether nobody is to wait for the database any more."""
        return self._buffer.is_hurried

    def call(self, method: str, *arguments: Any, timeout: float | None = None) -> Any:
        """Let the writer do something, and wait for its result."""
        return self._buffer.connection.call(method, *arguments, timeout=timeout)

    def pass_on(self, *, at_once: bool) -> None:
        """Tell the writer all changes, if at once; a child process waits until it has them.

        Raises:
            StorageInternalError: In a child process, if the writer cannot be told.
        """
        if self.is_guest:
            self._buffer.deliver()
        elif at_once:
            self._buffer.send()

    def commit(self, *, is_patient: bool = True) -> None:
        """Wait until all changes are committed; in vain only with a warning.

        Args:
            is_patient: Whether to wait once more in an outage in which a ``tell`` has waited.
        """
        if not self._buffer.commit(is_patient=is_patient) and not self._buffer.is_away:
            self._buffer.warn(
                f"Not everything was committed within {self._commit_timeout:g} s; the search "
                "goes on, and the writer goes on trying."
            )

    def hurry(self) -> None:
        """Let nobody wait for a commit from now on."""
        self._buffer.hurry()

    def wait_for_room(self) -> None:
        """Wait while the database does not keep up."""
        self._buffer.wait_for_room()

    def note(self, study: StudyView, live: LiveTrial) -> None:
        """Note that a trial has changed."""
        with self.lock:
            self._buffer.note(study, live)

    def forget(self, study_id: int) -> None:
        """Forget a study that was deleted."""
        with self.lock:
            study = self.studies.forget(study_id)
            self._live = {i: found for i, found in self._live.items() if found[0] is not study}
            self._recent.clear()
            self._seen.clear()

    def has_waiting(self, study: StudyView) -> bool:
        """Tell whether a trial waits in the database just now, and know it if it does."""
        waiting = dict(self.call("waiting", study.study_id))
        if self.claims.is_shared(study):  # else it may wait for its number
            with self.lock:
                study.waiting.replace(waiting)
        return bool(waiting)

    @property
    def counters(self) -> Counters:
        """What all ranks of the job count together.

        Raises:
            StorageInternalError: If the storage has been closed.
        """
        if self._handle is None:
            raise StorageInternalError("The storage has been closed.")
        return self._handle.counters

    def answer(self, message: list[Any]) -> None:
        """Tell the writer something that it does not acknowledge."""
        self._buffer.connection.answer(message)

    def add(self, study: StudyView, live: LiveTrial) -> None:
        """Add a trial of this rank; the lock is held."""
        study.own(live.trial.number)
        self._live[trial_id_of(live.trial)] = (study, live)
        self._buffer.note(study, live)

    def enqueue(self, study: StudyView, trial: FrozenTrial) -> int:
        """Add a trial that anybody may take up to a study that other jobs add trials to."""
        identity = int(self.call("add_trial", study.study_id, pack_trial(trial)))
        number = self._fetch(identity)[1][1]
        with self.lock:
            study.waiting.add({identity: number})
        return identity

    def release(self, study: StudyView, live: LiveTrial) -> None:
        """Forget a trial that the database holds as it is."""
        with self.lock:
            self._live.pop(trial_id_of(live.trial), None)
            if study.cache is not None:
                study.cache.expire()

    def find(self, trial_id: int) -> tuple[StudyView, LiveTrial] | None:
        """Return a trial that is in this rank's memory, and may be changed."""
        return self._live.get(trial_id)

    def remembered(self, trial_id: int) -> tuple[StudyView, LiveTrial] | None:
        """Return a trial that is in this rank's memory, or has just been committed."""
        return self._live.get(trial_id) or self._recent.get(trial_id)

    def hear_children(self) -> None:
        """Hear what child processes have told of this rank's trials.

        While the database is away, the writer may not answer: they are heard as it comes to it.
        """
        if self.is_shared and not self._buffer.is_away:
            try:
                self._buffer.connection.receipt(_SYNC_TIMEOUT)
            except StorageInternalError:
                return  # the writer waits for its database; it will say so later

    def read(self, trial_id: int) -> tuple[StudyView, FrozenTrial]:
        """Return a trial as the database holds it, at most ``refresh_interval`` old.

        Raises:
            KeyError: If there is no such trial.
        """
        seen = self._seen.get(trial_id)
        if seen is not None and time.monotonic() < seen[0]:
            return seen[1], copy_trial(seen[2])
        study, packed = self._fetch(trial_id)
        trial = unpack_trial(packed)
        set_trial_id(trial, trial_id)
        with self.lock:
            if len(self._seen) >= 1024:
                self._seen.clear()
            self._seen[trial_id] = (time.monotonic() + self._refresh_interval, study, trial)
        return study, copy_trial(trial)

    def adopt(self, trial_id: int) -> tuple[StudyView, LiveTrial]:
        """Take a trial of the database into this rank's memory, to change it.

        Raises:
            KeyError: If there is no such trial.
        """
        study, packed = self._fetch(trial_id)
        return study, self._adopt(study, trial_id, packed)

    def claim_waiting(self, trial_id: int) -> bool:
        """Set a waiting trial to running, and take it into memory; return whether it was waiting.

        A database that is away lets nobody take up a trial; it goes on waiting.
        """
        study, identity = self._place_of(trial_id)
        self.studies.begin(study)
        with self.lock:
            study.waiting.remove(identity)
            self._seen.pop(trial_id, None)
        try:
            packed = self.call("claim_waiting", identity, utc(datetime.now()))
        except StorageInternalError:
            with self.lock:
                study.waiting.add({identity: 0})
            return False
        if packed is not None:
            self._adopt(study, trial_id, packed)
        return packed is not None

    def waiting_trials(self, study: StudyView, *, afresh: bool) -> list[FrozenTrial]:
        """Return the trials that anybody may take up, in the order of their numbers.

        Args:
            study: The study.
            afresh: Whether they are all read again.

        Raises:
            StorageInternalError: If they are to be read afresh and cannot be.
        """
        if self.is_away and not afresh:
            return []  # nobody could take one up
        try:
            self._read_waiting(study, afresh=afresh)
        except StorageInternalError:
            if afresh:
                raise
            return []
        with self.lock:
            return study.waiting.in_order()

    def _read_waiting(self, study: StudyView, *, afresh: bool) -> None:
        if self.is_guest or not study.has_begun:
            waiting = dict(self.call("waiting", study.study_id))
            with self.lock:
                study.waiting.replace(waiting)
        with self.lock:
            if afresh:
                study.waiting.expire()
            unread = study.waiting.unread
        if not unread:
            return
        with self._reader.connect() as connection:
            trials = list(read_trials(connection, unread))
        there = {trial_id_of(t) for t in trials if t.state == TrialState.WAITING}
        with self.lock:
            for identity in set(unread) - there:
                study.waiting.remove(identity)
            study.waiting.read(trial for trial in trials if trial_id_of(trial) in there)

    def all_trials(self, study: StudyView, *, afresh: bool) -> list[FrozenTrial]:
        """Return all trials in the order of their numbers; the others' as of the last refresh.

        Args:
            study: The study.
            afresh: Whether those of a database that is away are worth an error; else the last
                that are known are returned.

        Raises:
            StorageInternalError: If ``afresh``, and the database cannot be read.
        """
        with self.lock:
            if study.cache is None:
                study.cache = TrialCache(
                    self._reader.engine, study.study_id, lambda trial: self._claim(study, trial)
                )
            cache = study.cache
        with cache.lock:
            if afresh or not self.is_away:
                try:
                    with self._reader.reading():
                        cache.refresh(self._refresh_interval)
                except StorageInternalError:
                    if afresh:
                        raise
            with self.lock:
                trials = cache.snapshot()
                for there, live in self._live.values():
                    if there is study:
                        trials[live.trial.number] = copy_trial(live.trial)
        return [trials[number] for number in sorted(trials)]

    def finished_elsewhere(
        self, study: StudyView, is_wanted: Callable[[int], bool], *, of_job: bool
    ) -> list[FrozenTrial] | None:
        """Return trials of others that have finished; looks once in ``refresh_interval``.

        Args:
            study: The study.
            is_wanted: Which of them are worth it, by their numbers.
            of_job: Whether those of other ranks of the job count as this process's own.

        Returns:
            ``None`` while no other job adds trials.
        """
        numbers = study.numbers
        if numbers is None or study.base != -1:
            return None
        now = time.monotonic()
        if now < study.others_at or self.is_away:
            return []
        study.others_at = now + self._refresh_interval
        others = study.others = study.others or TrialsOfOthers(study.study_id, study.directions[0])
        closed_at = self.claims.closed_at(study) if of_job else None

        def is_ours(number: int) -> bool:
            return numbers.holds(number, closed_at) if of_job else study.is_own(number)

        try:
            with self._reader.connect() as connection:
                return others.read(connection, is_ours, is_wanted)
        except StorageInternalError:
            return []

    def refresh(self, study: StudyView) -> None:
        """Know what is committed, or, while the database is away, what was.

        The writer tells of the best before it answers.

        Raises:
            StorageInternalError: If the storage has been closed.
        """
        if not self._buffer.is_away:
            with suppress(StorageInternalError):
                self.call("ping")
        with self.lock:
            self._seen.clear()
            study.others_at = 0.0
            study.attributes = {
                kind: (-float("inf"), known) for kind, (_, known) in study.attributes.items()
            }
            if study.cache is not None:
                study.cache.expire()

    def read_all(self, study: StudyView) -> list[FrozenTrial]:
        """Return all trials that are committed, in the order of their numbers.

        A process that adds trials waits while the database is away, as its sampler goes on from
        what is there. Another one, and one that is in a hurry, does not.

        Raises:
            StorageInternalError: If the database cannot be read, and nobody waits for it: also
                where the writer could read it for ``commit_timeout``, and for 30 s at least.
        """
        patience = max(self._commit_timeout, DECIDED_WITHIN)
        known_away_at = time.monotonic()
        while True:
            try:
                return self._read_all(study)
            except StorageInternalError as error:
                if not study.has_begun or self._buffer.is_hurried:
                    raise
                if self._is_away_for_writer(study):
                    known_away_at = time.monotonic()
                elif time.monotonic() > known_away_at + patience:
                    raise
                self._buffer.warn(f"{error}; the first trial waits for it.")
            time.sleep(_READ_PAUSE)

    def _is_away_for_writer(self, study: StudyView) -> bool:
        """Ask the writer whether it cannot read the database either; it may write nothing now."""
        try:
            self.call("count", study.study_id, timeout=_READ_TIMEOUT)
        except StorageInternalError:  # also where it is too busy with the database to answer
            return self._buffer.connection.broken is None
        return False

    def _read_all(self, study: StudyView) -> list[FrozenTrial]:
        trials = []
        with self._reader.connect() as connection:
            for trial in read_trials_after(connection, study.study_id, -1):
                self._claim(study, trial)
                trials.append(trial)
        return sorted(trials, key=lambda trial: trial.number)

    def save(self) -> Path | None:
        """See to it that nothing of this process is lost if the job ends now.

        Returns:
            The file that holds what neither the database nor the writer has; ``None`` if there
            is nothing of the kind.
        """
        assert self._handle is not None
        if self._buffer.commit() or self._buffer.has_received_all():
            return None
        told: dict[str, list[Change]] = {}
        for _, _, study_id, _, _, distributions, packed in self._buffer.uncommitted():
            study = self.studies.known(study_id)
            if study is not None:  # else it was deleted
                changes = [unpack_change(one, distributions) for one in packed]
                told.setdefault(study.name, []).extend(changes)
        if not told:
            return None
        try:
            return _spilled(self._handle.spill_folder, self._handle.job, told)
        except OSError:  # e.g. a folder of another machine
            return _spilled(Path(tempfile.gettempdir()), self._handle.job, told)

    def close(self) -> None:
        """Commit what is left, and leave the writer."""
        if self._own_buffer is not None and self._own_buffer.connection.broken is None:
            if not self.is_guest:
                self._leave()
            self._own_buffer.connection.close()
        self._reader.close()
        self._handle = None

    def handover(self) -> Handover | None:
        """Return what a copy in another process needs to go on with the trials of this one.

        ``None`` once the storage has been closed.
        """
        handle = self._handle
        if handle is None:
            return None
        self.is_shared = True
        with self.lock:
            studies = [
                (s.study_id, s.place, s.directions, s.name, s.numbers, s.counter)
                for s in self.studies
            ]
            trials = [
                (study.study_id, copy_trial(live.trial))
                for study, live in self._live.values()
                if live.identity is None and not live.trial.state.is_finished()
            ]
        return Handover(
            handle.address, handle.token, handle.job, handle.spill_folder,
            tuple(studies), tuple(trials),
        )  # fmt: skip

    def become_guest(self) -> None:
        """Leave all to the parent in a forked child, which is a guest of the writer from now on.

        The child has the parent's memory and descriptors, but none of its threads.
        """
        self.lock = threading.RLock()  # a thread that this process has not may hold the other
        self.is_guest, self.is_shared = True, False
        if self._own_buffer is not None:
            self._own_buffer.forget(self.lock)
            self._own_buffer = None
        if self._handle is not None:
            self._handle.forget()
        self._reader.forget()
        for _, live in self._live.values():
            live.forget_changes()
        for study in self.studies:
            study.cache = None

    def _go_on(self, handover: Handover) -> None:
        """Know the studies and the running trials of the rank."""
        self.studies.go_on(handover.studies)
        for study_id, trial in handover.trials:
            study, live = self.studies.known(study_id), LiveTrial(trial)
            assert study is not None
            live.forget_changes()
            study.own(trial.number)
            self._live[trial_id_of(trial)] = (study, live)

    def _leave(self) -> None:
        """Save what is left, and let the writer know which trials another process will tell."""
        try:
            path = self.save()
            for study in self.studies:
                numbers = [
                    live.trial.number
                    for there, live in self._live.values()
                    if there is study and not live.trial.state.is_finished()
                ]
                if numbers and path is None:
                    self.call("leave", study.study_id, numbers, timeout=_SYNC_TIMEOUT)
        except (StorageInternalError, OSError) as error:
            _logger.error(f"The last trials may be lost: {error}")
            return
        if path is not None:
            _logger.error(
                f"The last trials are not in the database, but in {path}: "
                "`optuna-propulate import` puts them in."
            )

    def _fetch(self, trial_id: int) -> tuple[StudyView, list[Any]]:
        if trial_id < ALIASES:
            found = self.call("read", trial_id)
            if found is not None:
                return self.studies.get(found[0]), found[1]
        else:
            study, number = self._numbered(trial_id)
            packed = self.call("read_number", study.study_id, number)
            if packed is not None:
                return study, packed
        raise KeyError(f"No trial with id {trial_id} exists.")

    def _numbered(self, alias: int) -> tuple[StudyView, int]:
        """Return the study and the number of a trial that this rank has started."""
        for study in self.studies:
            number = study.number_of(alias)
            if number is not None and study.is_own(number):
                return study, number
        raise KeyError(f"No trial with id {alias} exists.")

    def _place_of(self, trial_id: int) -> tuple[StudyView, int]:
        """Return the study of a trial that waits, and its id in the database."""
        for study in self.studies:
            if trial_id in study.waiting:
                return study, trial_id
        study, packed = self._fetch(trial_id)
        return study, packed[0]

    def _adopt(self, study: StudyView, trial_id: int, packed: list[Any]) -> LiveTrial:
        trial = unpack_trial(packed)
        live = LiveTrial(trial, trial_id_of(trial))
        set_trial_id(trial, trial_id)
        with self.lock:
            self._seen.pop(trial_id, None)
            if not trial.state.is_finished():
                self._live[trial_id] = (study, live)
        return live

    def _claim(self, study: StudyView, trial: FrozenTrial) -> bool:
        """Give a trial that was read the id by which it is known here.

        Returns:
            Whether a later state of it, or another trial of its number, is in memory.
        """
        if trial_id_of(trial) in self._live:
            return True
        if study.is_own(trial.number):
            set_trial_id(trial, study.alias(trial.number))
        return trial_id_of(trial) in self._live

    def forget_committed(self, study: StudyView, ended: list[LiveTrial]) -> None:
        """Let go of trials that have ended and are committed; the lock is held."""
        for live in ended:
            self._live.pop(trial_id_of(live.trial), None)
            self._recent[trial_id_of(live.trial)] = (study, live)
            if study.cache is not None:
                study.cache.keep(live.trial)
        while len(self._recent) > _N_RECENT:
            self._recent.popitem(last=False)

    @property
    def begun(self) -> list[StudyView]:
        """The studies that this process adds trials to; none in a child process."""
        return [] if self.is_guest else [study for study in self.studies if study.has_begun]

    def hear(self, message: list[Any]) -> None:
        """Take in what the writer says to all ranks: called by the connection's thread."""
        kind, study_id, *rest = message
        study = self.studies.known(study_id)
        if study is None:
            return
        with self.lock:
            if kind == "waiting":
                study.waiting.add({identity: number for identity, number in rest[0]})
            elif kind == "taken":
                study.waiting.remove(rest[0])
            elif kind == "best" and rest[0] is not None and study.has_begun:
                study.note_if_best(unpack_trial(rest[0]))
            elif kind == "told":
                self._hear_child(study, *rest)
            elif kind == "blocks" and study.numbers is not None:
                for block in rest[0]:
                    study.numbers.add(*block)
        if study.numbers is None or self._handle is None:
            return
        if kind == "close":
            self.answer(["closed", study_id, self.claims.closed_at(study)])
        elif kind == "claim" and (numbers := self.claims.for_strangers(study, rest[0])):
            self.answer(["numbers", study_id, list(numbers)])

    def _hear_child(
        self, study: StudyView, distributions: list[str], changes: list[list[Any]]
    ) -> None:
        """Take in what a child process has told of trials of this rank; the lock is held."""
        for packed in changes:
            change = unpack_change(packed, distributions)
            if not study.is_own(change.number):  # also where this rank has not begun
                continue
            _, live = self._live.get(study.alias(change.number), (None, None))
            if live is not None and not live.trial.state.is_finished():
                live.hear(change)
                self._buffer.note(study, live)


def _spilled(folder: Path, job: str, told: Mapping[str, list[Change]]) -> Path:
    """Write changes, by the name of their study, to a file in a folder; return its path."""
    spill = Spill(folder, job)
    for name, changes in told.items():
        spill.add(name, changes)
    return spill.path
