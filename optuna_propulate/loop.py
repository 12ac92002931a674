"""The loop: claiming and running trials in the threads of one rank, until none is left."""

from __future__ import annotations

import copy
import gc
import os
import time
from collections.abc import Callable
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from dataclasses import replace
from typing import TYPE_CHECKING

import optuna
from optuna.exceptions import StorageInternalError
from tqdm.auto import tqdm

from optuna_propulate._optuna_compat import in_optimize_loop
from optuna_propulate._optuna_compat import run_trial
from optuna_propulate._optuna_compat import set_in_optimize_loop
from optuna_propulate._optuna_compat import stop_flag
from optuna_propulate._optuna_compat import storage_of
from optuna_propulate._optuna_compat import trial_by_id
from optuna_propulate.job import Progress
from optuna_propulate.job import threads_allowed
from optuna_propulate.pace import Pace
from optuna_propulate.stopping import InterruptedTrialError
from optuna_propulate.storages.batched import BatchedRDBStorage


if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from optuna.trial import FrozenTrial
    from optuna.trial import Trial

    from optuna_propulate.job import Budget
    from optuna_propulate.job import Job
    from optuna_propulate.stopping import Stopping

    Objective = Callable[[Trial], float | Sequence[float]]
    Callback = Callable[[optuna.Study, FrozenTrial], None]

_logger = optuna.logging.get_logger("optuna." + __name__)

_LOOK_EVERY = 1.0  # in seconds: how often the best value is looked up, at most


@dataclass(frozen=True)
class Loop:
    """What ``IslandStudy.optimize`` was asked to do, checked."""

    func: Objective
    n_threads: int
    catch: tuple[type[Exception], ...]
    callbacks: tuple[Callback, ...]
    gc_after_trial: bool

    @classmethod
    def checked(
        cls,
        study: optuna.Study,
        func: Objective,
        n_jobs: int,
        catch: Iterable[type[Exception]] | type[Exception],
        callbacks: Iterable[Callback] | None,
        gc_after_trial: bool,
    ) -> Loop:
        """Check the arguments of ``IslandStudy.optimize``, whose docstring has the errors."""
        if in_optimize_loop(study):
            raise RuntimeError("Nested invocation of `Study.optimize` method isn't allowed.")
        callbacks = tuple(callbacks or ())
        for function in (func, *callbacks):
            if not callable(function):
                raise TypeError(f"func and callbacks must be callable, but got {function!r}.")
        caught = tuple(catch) if isinstance(catch, Iterable) else (catch,)
        for kind in caught:
            if not (isinstance(kind, type) and issubclass(kind, BaseException)):
                raise TypeError(f"catch must hold exception classes, but got {kind!r}.")
        n_threads = os.cpu_count() or 1 if n_jobs == -1 else n_jobs
        if n_threads < 1:
            raise ValueError(f"n_jobs must be at least 1, or -1, but got {n_jobs}.")
        if n_threads > 1 and not threads_allowed():
            raise RuntimeError(f"n_jobs={n_jobs} needs an MPI that grants MPI_THREAD_MULTIPLE.")
        return cls(func, n_threads, caught, callbacks, gc_after_trial)

    def run(
        self,
        study: optuna.Study,
        job: Job,
        budget: Budget,
        deadline: float | None,
        stopping: Stopping,
    ) -> None:
        """Run trials of the study on this rank until the budget or the time is used up.

        Args:
            study: The study, the same on every rank.
            job: What an exception that is not caught ends.
            budget: Where each trial is claimed before it starts.
            deadline: When no trial starts any more, on the clock ``time.monotonic``.
            stopping: What may interrupt a trial.
        """
        guarded = replace(
            self,
            func=stopping.guard(self.func),
            catch=(*self.catch, InterruptedTrialError),
        )
        guarded._run_threads(study, job, budget, deadline)

    def _run_threads(
        self, study: optuna.Study, job: Job, budget: Budget, deadline: float | None
    ) -> None:
        if self.n_threads == 1:
            self._work(study, job, budget, deadline)
            return
        with ThreadPoolExecutor(self.n_threads) as pool:
            threads = [
                pool.submit(self._work, study, job, budget, deadline)
                for _ in range(self.n_threads)
            ]
            for thread in threads:
                thread.result()

    def _work(self, study: optuna.Study, job: Job, budget: Budget, deadline: float | None) -> None:
        set_in_optimize_loop(study, True)
        try:
            if self.n_threads > 1:
                study.sampler.reseed_rng()
            while not stop_flag(study) and not _passed(deadline) and budget.claim():
                finished = run_trial(study, self.func, self.catch)
                budget.note_finished()
                if self.gc_after_trial:
                    gc.collect()
                for callback in self.callbacks:
                    callback(study, copy.deepcopy(trial_by_id(study, finished)))
        except BaseException as error:  # here, as other threads may be busy for hours
            try:
                flush(study)
            finally:
                job.abort(error)
            raise
        finally:
            set_in_optimize_loop(study, False)
        storage_of(study).remove_session()


def flush(study: optuna.Study) -> None:
    """Commit whatever this process has written into the study."""
    storage = storage_of(study)
    if isinstance(storage, BatchedRDBStorage):
        storage.flush()


def save(study: optuna.Study) -> Path | None:
    """Commit whatever this process has written; return a file if only that could take it."""
    storage = storage_of(study)
    return storage.save() if isinstance(storage, BatchedRDBStorage) else None


class ProgressBar:
    """Shows on rank 0 how many trials have finished on all ranks, and the best value.

    It is a callback of rank 0 as well, whose trials give it the time to look up the best value:
    what refreshes the bar must not wait for a database.
    """

    def __init__(
        self, study: optuna.Study, shown: bool, n_trials: int | None, budget: Budget
    ) -> None:
        self._study, self._budget = study, budget
        self._bar = tqdm(total=n_trials, unit="trial") if shown else None
        self._pace = Pace(_LOOK_EVERY)

    @property
    def callbacks(self) -> tuple[Callback, ...]:
        """What rank 0 has to call after its trials."""
        return () if self._bar is None else (self._look,)

    def refresh(self) -> None:
        """Show the number of trials that have finished by now."""
        if self._bar is not None:
            self._bar.update(self._budget.n_finished() - self._bar.n)

    def _look(self, study: optuna.Study, trial: FrozenTrial) -> None:
        with self._pace.turn() as is_due:
            if is_due:
                self._show_best()

    def _show_best(self) -> None:
        if self._bar is not None:
            self._bar.set_description(best_so_far(self._study), refresh=False)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is None:
            self._show_best()
        self.refresh()
        if self._bar is not None:
            self._bar.close()


def best_so_far(study: optuna.Study) -> str:
    """Return the best value in words."""
    try:
        return f"best value {study.best_value:g}"
    except ValueError:
        return "none complete"
    except StorageInternalError:  # the search goes on without
        return "best value unknown"
    except RuntimeError:
        return "several objectives"


def mpi_progress(job: Job, tick: Callable[[], None]) -> AbstractContextManager[None]:
    """Return what keeps rank 0 in MPI; nothing on the other ranks, from whom nobody claims."""
    if job.rank != 0:
        return nullcontext()
    if not threads_allowed():
        _logger.warning(
            "MPI grants less than MPI_THREAD_MULTIPLE: on a network without RDMA, a rank that "
            "claims a trial waits until rank 0 is between two trials; the progress bar is shown "
            "at the end only."
        )
        return nullcontext()
    return Progress(job.comm, tick)


def _passed(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline
