"""BatchedRDBStorage: trials in an RDB, written behind by one process for all ranks."""

from __future__ import annotations

import copy
import os
import time
import weakref
from datetime import datetime
from typing import TYPE_CHECKING
from typing import Any

from optuna.distributions import check_distribution_compatibility
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_propulate._optuna_compat import FrozenStudy
from optuna_propulate._optuna_compat import set_trial_id
from optuna_propulate.evolution.arguments import check_integer
from optuna_propulate.storages.client.live import LiveTrial
from optuna_propulate.storages.client.live import copy_trial
from optuna_propulate.storages.client.rank import RankClient
from optuna_propulate.storages.client.writer_handle import open_writer
from optuna_propulate.storages.client.writer_handle import visited_writer
from optuna_propulate.storages.sql.open import absolute_url
from optuna_propulate.storages.sql.open import shown
from optuna_propulate.storages.wire.changes import pack_trial
from optuna_propulate.storages.wire.changes import unpack_trial


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Container
    from collections.abc import Mapping
    from collections.abc import Sequence
    from pathlib import Path

    from mpi4py import MPI
    from optuna.distributions import BaseDistribution

    from optuna_propulate.storages.client.handover import Handover
    from optuna_propulate.storages.client.study import StudyView


class BatchedRDBStorage(BaseStorage):
    """Keeps trials in Optuna's own tables of an RDB, at a hundred times the speed.

    Whatever a trial does changes this process's memory and returns. Every ``flush_interval`` the
    changes go to the writer, a process of its own, which commits those of all ranks in one
    transaction. A trial that ran longer than ``flush_interval`` is committed before its ``tell``
    returns. What changes a study, rather than a trial, is written at once.

    A process always sees what it has written itself, and what others have written at most
    ``refresh_interval`` late; it reads that only if it is asked for it. Any other client of
    Optuna may read the study meanwhile, and add trials to it.

    While the database is away the search goes on: pruners, samplers and log lines get the last
    that is known. Copied reads (``study.trials``) and changes of a study raise.

    A copy in a child process, forked or pickled, goes on with this one's trials through the same
    writer: what it reports has arrived there before ``report`` returns.

    Under MPI the constructor is collective: rank 0 starts the writer, the others connect to it.
    Without, all storages of a process with the same URL share a writer.

    Args:
        url: An SQLAlchemy URL: SQLite (a file), PostgreSQL, MySQL or MariaDB.
        comm: The ranks that share the storage; ``None`` for this process alone.
        flush_interval: In seconds, above 0.
        refresh_interval: In seconds, above 0.
        commit_timeout: How long a ``tell`` waits for its commit before it goes on with a warning,
            in seconds, above 0. What cannot be written for that long is kept in a file, too.
        retry: How often a trial that a killed job has left running is run again, with the
            parameters that it had; 0 for not at all. Such a trial fails in any case, and its
            successor says so as those of Optuna's ``RetryHeartbeatStaleTrialCallback`` do.
        engine_kwargs: As for ``sqlalchemy.create_engine``; values that JSON can hold.
        in_thread: Whether what writes is a thread of this process, where one of its own is not
            allowed or takes too long to start (half a second). It shares the interpreter with
            the objective, and what it was told and has not committed is lost at a kill.

    Raises:
        StorageInternalError: If the database cannot be opened; its password is not shown.
        ValueError: If ``url`` cannot be parsed or is SQLite's memory, an interval is not above
            0, ``retry`` is below 0, or several ranks were to share a thread.
    """

    def __init__(
        self,
        url: str,
        *,
        comm: MPI.Intracomm | None = None,
        flush_interval: float = 0.5,
        refresh_interval: float = 1.0,
        commit_timeout: float = 60.0,
        retry: int = 0,
        engine_kwargs: Mapping[str, Any] | None = None,
        in_thread: bool = False,
    ) -> None:
        for name, value in (
            ("flush_interval", flush_interval),
            ("refresh_interval", refresh_interval),
            ("commit_timeout", commit_timeout),
        ):
            if not value > 0.0:
                raise ValueError(f"{name} must be above 0, but got {value}.")
        check_integer("retry", retry, 0)
        self._retry, self._in_thread = retry, in_thread
        self._url = absolute_url(url)
        self._settings: dict[str, Any] = {
            "flush_interval": flush_interval,
            "refresh_interval": refresh_interval,
            "commit_timeout": commit_timeout,
            "engine_kwargs": dict(engine_kwargs or {}),
        }
        self._connect(comm)

    def _connect(self, comm: MPI.Intracomm | None, handover: Handover | None = None) -> None:
        settings = self._settings
        handle = None if handover is None else visited_writer(handover)
        if handle is None:
            handover = None  # the job has ended
            handle = open_writer(
                self._url,
                settings["engine_kwargs"],
                settings["refresh_interval"],
                settings["commit_timeout"],
                self._retry,
                comm,
                in_thread=self._in_thread,
            )
        self._writer = handle.job
        self._flush_interval: float = self._settings["flush_interval"]
        self._client = RankClient(handle, self._url, **self._settings, handover=handover)
        self._lock = self._client.lock
        self._is_slow = True  # whether trials take longer than what is worth waiting for
        self._close = weakref.finalize(self, self._client.close)
        _storages.add(self)

    @property
    def writer(self) -> str:
        """Which process writes for this storage; the same on all ranks that share it."""
        return self._writer

    def flush(self) -> None:
        """Commit whatever this process has written; waits for it, with a warning if in vain.

        Raises:
            StorageInternalError: If the storage has been closed.
        """
        self._client.commit()

    def save(self) -> Path | None:
        """Commit whatever this process has written, or see to it that a file holds it.

        Returns:
            The file, for ``optuna-propulate import``; ``None`` if the database, or the process
            that writes to it, has all.

        Raises:
            OSError: If the file cannot be written.
            StorageInternalError: If the storage has been closed.
        """
        return self._client.save()

    def hurry(self) -> None:
        """Let no ``tell`` wait for its commit from now on; it is written all the same."""
        self._client.hurry()

    def limit(self, study_id: int, n_total: int | None) -> None:
        """Let this process start no trial of a study that has ``n_total``; ``None`` for no limit.

        Whoever asks for one all the same gets ``StudyFullError``, unless a trial waits. Exact over
        all jobs with the same limit, but where another one joins a job of many ranks just as these
        have reached it: then it may be a trial a rank more.
        """
        self._client.studies.get(study_id).n_total = n_total

    def has_waiting(self, study_id: int) -> bool:
        """Tell whether a trial waits in the database just now."""
        return self._client.has_waiting(self._client.studies.get(study_id))

    def expect(self, n_left: Callable[[], int] | None) -> None:
        """Claim no more trial numbers ahead than this returns; ``None`` for no limit."""
        self._client.claims.n_left = n_left

    def refresh(self, study_id: int) -> None:
        """See at once what others have committed, rather than within ``refresh_interval``.

        In vain while the database is away.
        """
        self._client.refresh(self._client.studies.get(study_id))

    def close(self) -> None:
        """Commit whatever this process has written, and leave the writer."""
        self._close()

    def remove_session(self) -> None:
        """Do nothing: connections belong to no thread."""

    # Studies

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        names = [direction.name for direction in directions]
        return self._client.studies.create(names, study_name)

    def delete_study(self, study_id: int) -> None:
        self.flush()
        self._client.studies.call("delete_study", study_id)
        self._client.forget(study_id)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._client.studies.set_attribute(study_id, "user", key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._client.studies.set_attribute(study_id, "system", key, value)

    def get_study_id_from_name(self, study_name: str) -> int:
        return self._client.studies.id_of_name(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._client.studies.name_of(study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return list(self._client.studies.get(study_id).directions)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return dict(self._client.studies.attributes(study_id, "user"))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return dict(self._client.studies.attributes(study_id, "system"))

    def get_all_studies(self) -> list[FrozenStudy]:
        return [
            FrozenStudy(
                study_name=name,
                direction=None,
                directions=[StudyDirection[direction] for direction in directions],
                user_attrs=user,
                system_attrs=system,
                study_id=study_id,
            )
            for study_id, name, directions, user, system in self._client.studies.call(
                "get_all_studies"
            )
        ]

    # Trials

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        study = self._client.studies.get(study_id)
        if self._client.is_guest:  # numbers are claimed by ranks only
            packed = None if template_trial is None else pack_trial(template_trial)
            return int(self._client.call("add_trial", study_id, packed))
        self._client.studies.begin(study)
        if study.base == -1 and template_trial and template_trial.state == TrialState.WAITING:
            return self._client.enqueue(study, template_trial)  # other jobs see it at once
        self._client.wait_for_room()
        for name, distribution in (template_trial.distributions if template_trial else {}).items():
            self._check_distribution(study, name, distribution)
        trial = _new_trial() if template_trial is None else copy.deepcopy(template_trial)
        live = LiveTrial(trial)  # raises for what JSON cannot hold, before a number is claimed
        trial.number = self._client.claims.number(study)
        with self._lock:
            identity = study.alias(trial.number)
            set_trial_id(trial, identity)
            self._client.add(study, live)
            self._note_if_best(study, trial)
        if trial.state == TrialState.WAITING:
            identity = self._put_back(study, live)
            study.disown(trial.number)
        return identity

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        study, live = self._updatable(trial_id)
        self._check_distribution(study, param_name, distribution)
        with self._lock:
            if param_name in live.trial.params:
                return  # as in Optuna's RDB, where the first value stays
            live.set_param(param_name, param_value_internal, distribution)
            self._client.note(study, live)
        self._client.pass_on(at_once=self._is_slow)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        study, live = self._updatable(trial_id)
        with self._lock:
            live.set_user_attribute(key, value)
            self._client.note(study, live)
        self._client.pass_on(at_once=False)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        study, live = self._updatable(trial_id)
        with self._lock:
            live.set_system_attribute(key, value)
            self._client.note(study, live)
        self._client.pass_on(at_once=False)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        study, live = self._updatable(trial_id)
        with self._lock:
            live.report(step, intermediate_value)
            self._client.note(study, live)
        self._client.pass_on(at_once=self._is_slow)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        if state == TrialState.RUNNING:
            return self._claim_waiting(trial_id)
        study, live = self._updatable(trial_id)
        with self._lock:
            trial = live.trial
            if values is not None:
                live.set_values([float(value) for value in values])
            trial.state = state
            if state.is_finished():
                trial.datetime_complete = datetime.now()
            self._client.note(study, live)
            self._note_if_best(study, trial)
        if state == TrialState.WAITING:
            self._put_back(study, live)
            return True
        self._client.pass_on(at_once=False)
        self._is_slow = time.monotonic() - live.began > self._flush_interval
        if self._is_slow:
            self._client.commit(is_patient=False)
        return True

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        study = self._client.studies.get(study_id)
        if study.is_own(trial_number):
            return study.alias(trial_number)
        identity = self._client.call("id_of_number", study_id, trial_number)
        if identity is None:
            raise KeyError(f"No trial with number {trial_number} exists in study {study_id}.")
        return int(identity)

    def get_trial_number_from_id(self, trial_id: int) -> int:
        return self.get_trial(trial_id).number

    def get_trial_param(self, trial_id: int, param_name: str) -> float:
        trial = self.get_trial(trial_id)
        return trial.distributions[param_name].to_internal_repr(trial.params[param_name])

    def get_trial(self, trial_id: int) -> FrozenTrial:
        self._client.hear_children()
        found = self._client.remembered(trial_id)
        if found is None:
            return self._client.read(trial_id)[1]
        with self._lock:
            return copy_trial(found[1].trial)

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        # Optuna, its samplers and its pruners read without a copy: they get the last that is known
        # while the database is away. A copy is for a user, who wants to know that it is.
        study = self._client.studies.get(study_id)
        if states is not None and not any(s in states for s in _BUT_WAITING):
            if TrialState.WAITING not in states:
                return []
            trials = self._client.waiting_trials(study, afresh=deepcopy)
        else:
            trials = self._client.all_trials(study, afresh=deepcopy)
        if states is not None:
            trials = [trial for trial in trials if trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def read_trials(self, study_id: int) -> list[FrozenTrial]:
        """Return all trials as they are committed, read anew; none of them is kept in memory."""
        return self._client.read_all(self._client.studies.get(study_id))

    def is_first_job(self, study_id: int) -> bool:
        """Tell whether a study had no trials, and no other job, when this job came to it."""
        study = self._client.studies.get(study_id)
        return study.numbers is not None and study.numbers.base == 0 and not study.is_late

    def first_worker(self, study_id: int) -> int:
        """Return the first of the numbers by which the workers of this job are known in a study.

        No other job that adds trials at the same time has one of them.
        """
        return self._client.studies.get(study_id).first_worker

    def finished_elsewhere(
        self, study_id: int, is_wanted: Callable[[int], bool], *, of_job: bool
    ) -> list[FrozenTrial] | None:
        """Return trials that have finished since the last call, and that other jobs have added.

        At most ``refresh_interval`` late. If there are more than some hundred at a time, these are
        the best and the last of them.

        Args:
            study_id: The study.
            is_wanted: Called with the number of each trial once; whether it is to be returned.
            of_job: Whether trials of other ranks of this job are left out, too.

        Returns:
            ``None`` while no other job adds trials.
        """
        study = self._client.studies.get(study_id)
        return self._client.finished_elsewhere(study, is_wanted, of_job=of_job)

    def count_trials(self, study_id: int) -> int:
        """Return how many trials the database holds; reads none of them."""
        return int(self._client.call("count", study_id))

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        study = self._client.studies.get(study_id)
        if len(study.directions) > 1:
            raise RuntimeError(
                "Best trial can be obtained only for single-objective optimization."
            )
        if self._client.is_guest or not study.has_begun:
            return unpack_trial(self._client.call("best", study_id))
        with self._lock:
            if study.best is None:
                raise ValueError("No trials are completed yet.")
            return copy_trial(study.best)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    @property
    def url(self) -> str:
        """The URL of the database; its password is masked."""
        return shown(self._url)

    def __getstate__(self) -> dict[str, Any]:
        """Keep what a copy needs to go on with the trials of this one, or to open the database."""
        return {
            "_url": self._url,
            "_retry": self._retry,
            "_in_thread": self._in_thread,
            "_settings": self._settings,
            "handover": self._client.handover(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        handover = state.pop("handover")
        self.__dict__.update(state)
        self._connect(None, handover)

    def _updatable(self, trial_id: int) -> tuple[StudyView, LiveTrial]:
        """Return a trial that may be changed, and its study.

        Raises:
            KeyError: If there is no such trial.
            UpdateFinishedTrialError: If it has ended.
        """
        found = self._client.find(trial_id) or self._client.adopt(trial_id)
        self.check_trial_is_updatable(trial_id, found[1].trial.state)
        return found

    def _check_distribution(
        self, study: StudyView, name: str, distribution: BaseDistribution
    ) -> None:
        """Raise ``ValueError`` if this process has seen another kind of distribution.

        That of others is judged when the trial is written, which then fails.
        """
        known = study.distributions.setdefault(name, distribution)
        if known is not distribution:
            check_distribution_compatibility(known, distribution)

    def _claim_waiting(self, trial_id: int) -> bool:
        """Run a trial that waits in the database, unless somebody else does."""
        found = self._client.find(trial_id)
        if found is not None:
            study, live = found
            self.check_trial_is_updatable(trial_id, live.trial.state)
            if live.trial.state != TrialState.WAITING:
                return False
            self._client.commit(is_patient=False)
            self._client.release(study, live)
        if self._client.claim_waiting(trial_id):
            return True
        if not self._client.is_away:  # else nobody can tell what became of it
            self.check_trial_is_updatable(trial_id, self._client.read(trial_id)[1].state)
        return False

    def _put_back(self, study: StudyView, live: LiveTrial) -> int:
        """Let go of a trial that waits in the database from now on; return its id there."""
        self._client.note(study, live)
        self._client.commit(is_patient=False)
        identity = self._client.call("id_of_number", study.study_id, live.trial.number)
        if identity is None:
            raise StorageInternalError(f"Trial {live.trial.number} is not committed yet.")
        self._client.release(study, live)
        with self._lock:
            study.waiting.add({identity: live.trial.number})
        return int(identity)

    def _note_if_best(self, study: StudyView, trial: FrozenTrial) -> None:
        if trial.state == TrialState.COMPLETE and trial.values:
            study.note_if_best(trial)


_BUT_WAITING = [state for state in TrialState if state != TrialState.WAITING]
_storages: weakref.WeakSet[BatchedRDBStorage] = weakref.WeakSet()


def _new_trial() -> FrozenTrial:
    return FrozenTrial(
        number=-1,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=datetime.now(),
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=-1,
    )


def _share() -> None:
    """Note in the parent of a fork that a child may change the trials that run."""
    for storage in list(_storages):
        storage._client.is_shared = True


def _become_guests() -> None:
    """Leave the writer to the parent: the child of a fork has its descriptors, but no thread."""
    for storage in list(_storages):
        storage._close.detach()
        storage._client.become_guest()
        storage._lock = storage._client.lock


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_parent=_share, after_in_child=_become_guests)
