"""A rank's view of the database: its own trials in memory, the others' as far as asked for."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy.exc import DBAPIError

from optuna_propulate.storages.cache import TrialCache
from optuna_propulate.storages.engine import connect_engine
from optuna_propulate.storages.live import LiveTrial
from optuna_propulate.storages.live import copy_trial
from optuna_propulate.storages.outbox import Outbox
from optuna_propulate.storages.protocol import unpack_trial
from optuna_propulate.storages.protocol import utc
from optuna_propulate.storages.reading import read_trials_after
from optuna_propulate.storages.reading import uncollected
from optuna_propulate.storages.study_view import ALIASES
from optuna_propulate.storages.study_view import StudyView


if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna.trial import FrozenTrial
    from sqlalchemy import Engine

    from optuna_propulate.storages.office import Office

_logger = optuna.logging.get_logger("optuna." + __name__)


class RankView:
    """Holds the trials of this rank that are not committed, and its connection to the writer.

    Args:
        office: The writer, and the counters of trial numbers.
        url: The database's URL.
        flush_interval: In seconds.
        refresh_interval: In seconds.
        commit_timeout: In seconds.
        engine_kwargs: As for ``sqlalchemy.create_engine``.
    """

    def __init__(
        self,
        office: Office,
        url: str,
        *,
        flush_interval: float,
        refresh_interval: float,
        commit_timeout: float,
        engine_kwargs: Mapping[str, Any],
    ) -> None:
        self.lock = threading.RLock()
        self._office: Office | None = office
        self._counters = office.counters
        self._url, self._engine_kwargs = url, engine_kwargs
        self._refresh_interval, self._commit_timeout = refresh_interval, commit_timeout
        self._engine: Engine | None = None
        self._studies: dict[int, StudyView] = {}
        self._n_studies = 0
        self._live: dict[int, tuple[StudyView, LiveTrial]] = {}
        self._seen: dict[int, tuple[float, StudyView, FrozenTrial]] = {}
        self._outbox = Outbox(
            office,
            self.lock,
            self._hear,
            self._committed,
            flush_interval,
            commit_timeout,
        )

    def call(self, method: str, *arguments: Any) -> Any:
        """Let the writer do something, and wait for its result."""
        return self._outbox.link.call(method, *arguments)

    def call_study(self, method: str, *arguments: Any) -> Any:
        """Let the writer call Optuna's own storage about studies."""
        return self.call("study", method, list(arguments))

    def tell(self) -> None:
        """Tell the writer all changes."""
        self._outbox.tell()

    def commit(self) -> None:
        """Wait until all changes are committed; in vain only with a warning."""
        if not self._outbox.commit():
            _logger.warning(
                f"Not everything was committed within {self._commit_timeout:g} s; the search "
                "goes on, and the writer goes on trying."
            )

    def wait_for_room(self) -> None:
        """Wait while the database does not keep up."""
        self._outbox.wait_for_room()

    def note(self, study: StudyView, live: LiveTrial) -> None:
        """Note that a trial has changed."""
        with self.lock:
            self._outbox.note(study, live)

    def study(self, study_id: int) -> StudyView:
        """Return the view of a study; ``KeyError`` if there is none."""
        study = self._studies.get(study_id)
        if study is None:
            names = self.call_study("get_study_directions", study_id)
            with self.lock:
                if study_id not in self._studies:
                    directions = [StudyDirection[name] for name in names]
                    self._studies[study_id] = StudyView(study_id, self._n_studies, directions)
                    self._n_studies += 1
                study = self._studies[study_id]
        return study

    def forget(self, study_id: int) -> None:
        """Forget a study that was deleted."""
        with self.lock:
            study = self._studies.pop(study_id, None)
            self._live = {i: found for i, found in self._live.items() if found[0] is not study}
            self._seen.clear()

    def begin(self, study: StudyView) -> None:
        """Prepare for adding trials to a study."""
        if study.has_begun:
            return
        first_number, counter, waiting, best = self.call("begin", study.study_id, None, None)
        with self.lock:
            if study.has_begun:
                return
            study.first_number, study.counter = first_number, counter
            study.waiting.update(dict(waiting))
            if best is not None:
                study.note_if_best(unpack_trial(best))
            study.has_begun = True

    def claim_number(self, study: StudyView) -> int:
        """Return the number of the next trial."""
        number = study.first_number + self._counters.add(study.counter, 1)
        study.own(number)
        return number

    def add(self, study: StudyView, live: LiveTrial) -> None:
        """Add a trial of this rank; the lock is held."""
        self._live[live.trial._trial_id] = (study, live)
        self._outbox.note(study, live)

    def let_go(self, study: StudyView, live: LiveTrial) -> None:
        """Forget a trial that the database holds as it is."""
        with self.lock:
            self._live.pop(live.trial._trial_id, None)
            if study.cache is not None:
                study.cache.expire()

    def find(self, trial_id: int) -> tuple[StudyView, LiveTrial] | None:
        """Return a trial that is in this rank's memory."""
        return self._live.get(trial_id)

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
        trial._trial_id = trial_id
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
        self.begin(study)
        trial = unpack_trial(packed)
        live = LiveTrial(trial, trial._trial_id)
        trial._trial_id = trial_id
        with self.lock:
            self._seen.pop(trial_id, None)
            if not trial.state.is_finished():
                self._live[trial_id] = (study, live)
        return study, live

    def take_up(self, study: StudyView, trial: FrozenTrial) -> bool:
        """Set a waiting trial to running; return whether this call did so."""
        _, packed = self._fetch(trial._trial_id)
        identity = packed[0]
        with self.lock:
            study.waiting.pop(identity, None)
            self._seen.pop(trial._trial_id, None)
        return bool(self.call("take_up", identity, utc(datetime.now())))

    def waiting_trials(self, study: StudyView) -> list[FrozenTrial]:
        """Return the trials that anybody may take up, in the order of their numbers."""
        if not study.has_begun:
            study.waiting = dict(self.call("waiting", study.study_id))
        with self.lock:
            waiting = sorted(study.waiting, key=study.waiting.__getitem__)
        try:
            trials = [self.read(identity)[1] for identity in waiting]
        except StorageInternalError:  # the database is away; the search goes on without them
            return []
        return [trial for trial in trials if trial.state == TrialState.WAITING]

    def all_trials(self, study: StudyView) -> list[FrozenTrial]:
        """Return all trials in the order of their numbers; the others' as of the last refresh."""
        with self.lock:
            if study.cache is None:
                study.cache = TrialCache(
                    self._reading_engine(), study.study_id, lambda trial: self._claim(study, trial)
                )
            try:
                study.cache.refresh(self._refresh_interval)
            except DBAPIError as error:
                if not study.cache.by_number:
                    raise StorageInternalError(
                        f"The trials of others cannot be read: {error.orig}"
                    ) from None
            trials = dict(study.cache.by_number)
            for there, live in self._live.values():
                if there is study:
                    trials[live.trial._number] = copy_trial(live.trial)
        return [trials[number] for number in sorted(trials)]

    def refresh(self, study: StudyView) -> None:
        """Know what is committed: the writer tells of the best before it answers."""
        self.call("ping")
        with self.lock:
            self._seen.clear()
            if study.cache is not None:
                study.cache.expire()

    def read_all(self, study: StudyView) -> list[FrozenTrial]:
        """Return all trials that are committed, in the order of their numbers."""
        trials = []
        with uncollected(), self._reading_engine().connect() as connection:
            for trial in read_trials_after(connection, study.study_id, -1):
                self._claim(study, trial)
                trials.append(trial)
        return sorted(trials, key=lambda trial: trial.number)

    def close(self) -> None:
        """Commit what is left, and leave the writer."""
        self._outbox.close()
        if self._engine is not None:
            self._engine.dispose()
        self._office = None

    def disconnect(self) -> None:
        """Let go of everything in the child of a fork."""
        self.lock = threading.RLock()  # a thread that this process has not may hold the other
        self._outbox.forget(self.lock)
        if self._office is not None:
            self._office.forget()
        self._engine = None

    def _fetch(self, trial_id: int) -> tuple[StudyView, list[Any]]:
        if trial_id < ALIASES:
            found = self.call("read", trial_id)
            if found is not None:
                return self.study(found[0]), found[1]
        for study in list(self._studies.values()):
            number = study.number_of(trial_id)
            if number is not None and study.is_own(number):
                packed = self.call("read_number", study.study_id, number)
                if packed is not None:
                    return study, packed
        raise KeyError(f"No trial with id {trial_id} exists.")

    def _claim(self, study: StudyView, trial: FrozenTrial) -> bool:
        """Give a trial that was read the id by which it is known here.

        Returns:
            Whether a later state of it, or another trial of its number, is in memory.
        """
        if trial._trial_id in self._live:
            return True
        if study.is_own(trial.number):
            trial._trial_id = study.alias(trial.number)
        return trial._trial_id in self._live

    def _reading_engine(self) -> Engine:
        if self._engine is None:
            self._engine = connect_engine(self._url, self._engine_kwargs)
        return self._engine

    def _committed(self, study: StudyView, ended: list[LiveTrial]) -> None:
        for live in ended:
            self._live.pop(live.trial._trial_id, None)
            if study.cache is not None:
                study.cache.keep(live.trial)

    def _hear(self, message: list[Any]) -> None:
        kind, study_id, *rest = message
        study = self._studies.get(study_id)
        if study is None:
            return
        with self.lock:
            if kind == "waiting":
                study.waiting.update({identity: number for identity, number in rest[0]})
            elif kind == "taken":
                study.waiting.pop(rest[0], None)
            elif kind == "best" and rest[0] is not None and study.has_begun:
                study.note_if_best(unpack_trial(rest[0]))
        if kind == "claim" and study.has_begun:
            first = self._counters.add(study.counter, rest[0])
            numbers = [study.first_number + first + n for n in range(rest[0])]
            self._outbox.link.answer(["numbers", study_id, numbers])
