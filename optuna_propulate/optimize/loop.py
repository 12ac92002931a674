"""The loop: claiming and running trials in the threads of one rank, until none is left."""

from __future__ import annotations

import copy
import gc
import os
import time
from collections.abc import Callable
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from optuna_propulate._optuna_compat import all_trials
from optuna_propulate._optuna_compat import in_optimize_loop
from optuna_propulate._optuna_compat import most_trials
from optuna_propulate._optuna_compat import run_trial
from optuna_propulate._optuna_compat import set_in_optimize_loop
from optuna_propulate._optuna_compat import set_stop_flag
from optuna_propulate._optuna_compat import stop_flag
from optuna_propulate._optuna_compat import storage_of
from optuna_propulate._optuna_compat import study_id_of
from optuna_propulate._optuna_compat import trial_by_id
from optuna_propulate.optimize.stopping import InterruptedTrialError
from optuna_propulate.storages.batched import BatchedRDBStorage
from optuna_propulate.storages.client.study import StudyFullError


if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from optuna.trial import FrozenTrial
    from optuna.trial import Trial

    from optuna_propulate.optimize.budget import Budget
    from optuna_propulate.optimize.stopping import Stopping
    from optuna_propulate.parallel.team import AnyTeam

    Objective = Callable[[Trial], float | Sequence[float]]
    Callback = Callable[[optuna.Study, FrozenTrial], None]

_logger = optuna.logging.get_logger("optuna." + __name__)

_FULL_PAUSE = 0.2  # in seconds, before a study that is full is asked again for a trial that waits


@dataclass(frozen=True)
class Loop:
    """What ``IslandStudy.optimize`` was asked to do, checked."""

    func: Objective
    n_threads: int
    catch: tuple[type[Exception], ...]
    callbacks: tuple[Callback, ...]
    gc_after_trial: bool
    n_total: int | None = None

    @classmethod
    def checked(
        cls,
        study: optuna.Study,
        team: AnyTeam,
        func: Objective,
        n_jobs: int,
        catch: Iterable[type[Exception]] | type[Exception],
        callbacks: Iterable[Callback] | None,
        gc_after_trial: bool,
    ) -> Loop:
        """Check the arguments of ``IslandStudy.optimize``, whose docstring has the errors."""
        if in_optimize_loop(study):
            raise RuntimeError("Nested invocation of `Study.optimize` method isn't allowed.")
        if callable(callbacks):
            raise TypeError(f"callbacks must be a list of functions, but got {callbacks!r}.")
        callbacks = tuple(callbacks or ())
        for function in (func, *callbacks):
            if not callable(function):
                raise TypeError(f"func and callbacks must be callable, but got {function!r}.")
        if isinstance(catch, str):
            raise TypeError(f"catch must hold exception classes, but got {catch!r}.")
        caught = tuple(catch) if isinstance(catch, Iterable) else (catch,)
        for kind in caught:
            if not (isinstance(kind, type) and issubclass(kind, BaseException)):
                raise TypeError(f"catch must hold exception classes, but got {kind!r}.")
        n_threads = os.cpu_count() or 1 if n_jobs == -1 else n_jobs
        if n_threads < 1:
            raise ValueError(f"n_jobs must be at least 1, or -1, but got {n_jobs}.")
        if n_threads > 1 and not team.threads_allowed:
            raise RuntimeError(f"n_jobs={n_jobs} needs an MPI that grants MPI_THREAD_MULTIPLE.")
        return cls(func, n_threads, caught, callbacks, gc_after_trial)

    def run(
        self,
        study: optuna.Study,
        team: AnyTeam,
        budget: Budget,
        deadline: float | None,
        stopping: Stopping,
    ) -> None:
        """Run trials of the study on this rank until the budget or the time is used up.

        Args:
            study: The study, the same on every rank.
            team: What an exception that is not caught ends.
            budget: Where each trial is claimed before it starts.
            deadline: When no trial starts any more, on the clock ``time.monotonic``.
            stopping: What may interrupt a trial.
        """
        guarded = replace(
            self,
            func=stopping.guard(self.func),
            catch=(*self.catch, InterruptedTrialError),
        )
        work = partial(guarded._work, study, team, budget, deadline, stopping)
        if self.n_threads == 1:
            work()
            return
        with ThreadPoolExecutor(self.n_threads) as pool:
            threads = [pool.submit(work) for _ in range(self.n_threads)]
            try:
                for thread in threads:
                    thread.result()
            except BaseException:  # of a thread, or Ctrl-C while waiting for them
                set_stop_flag(study, True)
                raise

    def _has_room(self, study: optuna.Study) -> bool:
        """Tell whether the study may have another trial, or has one that waits.

        A storage that counts the trials of all jobs says so itself, by a ``StudyFullError``.
        """
        if self.n_total is None or isinstance(storage_of(study), BatchedRDBStorage):
            return True
        n_started = sum(trial.state != TrialState.WAITING for trial in all_trials(study))
        return n_started < self.n_total

    def _counted_from(self, n_workers: int) -> int | None:
        """Return from which trial on a callback of Optuna's has to count those of all exactly.

        What others have told is otherwise up to a second late. ``None`` if there is none.
        """
        most = [n for n in map(most_trials, self.callbacks) if n is not None]
        return min(most) - 2 * n_workers if most else None

    def end(self, study: optuna.Study) -> None:
        """Tell those callbacks that want to know that the search ends."""
        for callback in self.callbacks:
            at_end = getattr(callback, "at_end", None)
            if at_end is not None:
                at_end(study)

    def _work(
        self,
        study: optuna.Study,
        team: AnyTeam,
        budget: Budget,
        deadline: float | None,
        stopping: Stopping,
    ) -> None:
        set_in_optimize_loop(study, True)
        counted_from = self._counted_from(team.size * self.n_threads)
        try:
            if self.n_threads > 1:
                study.sampler.reseed_rng()
            is_claimed = False
            while (
                not stop_flag(study)
                and not _passed(deadline)
                and self._has_room(study)
                and (is_claimed or budget.claim())
            ):
                try:
                    finished = run_trial(study, self.func, self.catch)
                except StudyFullError:
                    if not _waits(study):
                        break
                    is_claimed = True
                    time.sleep(_FULL_PAUSE)
                    continue
                is_claimed = False
                budget.note_finished()
                if self.gc_after_trial:
                    gc.collect()
                trial = trial_by_id(study, finished)
                if counted_from is not None and trial.number >= counted_from:
                    _tell_and_hear_all(study)
                for callback in self.callbacks:
                    callback(study, copy.deepcopy(trial))
        except BaseException as error:  # here, as other threads may be busy for hours
            if stopping.signal and isinstance(error, StorageInternalError):
                _logger.warning(f"The signal ends a wait for the database: {error}")
                return
            set_stop_flag(study, True)  # for the other threads
            try:
                save(study)
            finally:
                team.abort(error)
            raise
        finally:
            set_in_optimize_loop(study, False)
        storage_of(study).remove_session()


def save(study: optuna.Study) -> Path | None:
    """Commit whatever this process has written; return a file if only that could take it."""
    storage = storage_of(study)
    return storage.save() if isinstance(storage, BatchedRDBStorage) else None


def _tell_and_hear_all(study: optuna.Study) -> None:
    """Let others know of this process's trials, and know of theirs, as far as these have told."""
    storage = storage_of(study)
    if isinstance(storage, BatchedRDBStorage):
        storage.save()
        storage.refresh(study_id_of(study))


def _waits(study: optuna.Study) -> bool:
    """Tell whether the study has a trial that anybody may take up; none in an outage."""
    storage = storage_of(study)
    with suppress(StorageInternalError):
        return isinstance(storage, BatchedRDBStorage) and storage.has_waiting(study_id_of(study))
    return False


def _passed(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline
