"""One study, many ranks: collective creation, and a loop that shares one budget of trials."""

from __future__ import annotations

import copy
import gc
import os
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.storages import InMemoryStorage
from tqdm.auto import tqdm

from optuna_propulate._optuna_compat import in_optimize_loop
from optuna_propulate._optuna_compat import run_trial
from optuna_propulate._optuna_compat import set_in_optimize_loop
from optuna_propulate._optuna_compat import set_stop_flag
from optuna_propulate._optuna_compat import stop_flag
from optuna_propulate._optuna_compat import storage_of
from optuna_propulate._optuna_compat import trial_by_id
from optuna_propulate.job import Budget
from optuna_propulate.job import Job
from optuna_propulate.job import Progress
from optuna_propulate.job import abort_on_uncaught
from optuna_propulate.job import threads_allowed
from optuna_propulate.sampler import PropulateSampler
from optuna_propulate.sampler import comm_timeout
from optuna_propulate.sampler import communicator
from optuna_propulate.storages.rdb import open_rdb
from optuna_propulate.storages.rdb import shown


if TYPE_CHECKING:
    from mpi4py import MPI
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial

    Callback = Callable[[optuna.Study, FrozenTrial], None]

_logger = optuna.logging.get_logger(__name__)

DEFAULT_STORAGE = "sqlite:///optuna_propulate.db"
"""What the ranks of a job share if they are given no storage."""


def create_study(
    storage: str | BaseStorage | None = None,
    *,
    study_name: str | None = None,
    direction: str | StudyDirection | None = None,
    directions: Sequence[str | StudyDirection] | None = None,
    sampler: BaseSampler | None = None,
    pruner: BasePruner | None = None,
    load_if_exists: bool = False,
    comm: MPI.Intracomm | None = None,
) -> IslandStudy:
    """Create a study that all MPI ranks share; collective: rank 0 creates it, the others load it.

    Args:
        storage: A storage URL, or a storage built on every rank. ``None`` for memory if this
            process is alone, else for the SQLite file ``optuna_propulate.db``.
        study_name: The study's name; ``None`` for one that Optuna makes up.
        direction: ``"minimize"`` (the default) or ``"maximize"``.
        directions: As ``direction``, in a sequence; ``PropulateSampler`` takes one objective.
        sampler: Built on every rank; ``None`` for ``PropulateSampler(comm=comm)``.
        pruner: Built on every rank; ``None`` for Optuna's default.
        load_if_exists: Whether to go on with a study of this name instead of failing.
        comm: The ranks that share the study; ``None`` for ``MPI.COMM_WORLD`` under mpirun.

    Raises:
        DuplicatedStudyError: If the study exists and ``load_if_exists`` is false.
        StorageInternalError: If the storage cannot be opened; its password is not shown.
        TimeoutError: If not every rank calls this within a minute (or what the environment
            variable ``OPTUNA_PROPULATE_COMM_TIMEOUT`` says).
        ValueError: If an argument is out of its range, or the ranks cannot share the storage.
    """

    def create(opened: BaseStorage | None) -> optuna.Study:
        return optuna.create_study(
            storage=opened,
            study_name=study_name,
            direction=direction,  # type: ignore[arg-type]  # Optuna checks the string
            directions=directions,  # type: ignore[arg-type]
            load_if_exists=load_if_exists,
        )

    return _open_study(create, storage, sampler, pruner, communicator(comm))


def load_study(
    study_name: str | None = None,
    *,
    storage: str | BaseStorage,
    sampler: BaseSampler | None = None,
    pruner: BasePruner | None = None,
    comm: MPI.Intracomm | None = None,
) -> IslandStudy:
    """Load a study that all MPI ranks share; collective.

    Args:
        study_name: The study's name; ``None`` if the storage holds a single study.
        storage: A storage URL, or a storage built on every rank.
        sampler: Built on every rank; ``None`` for ``PropulateSampler(comm=comm)``.
        pruner: Built on every rank; ``None`` for Optuna's default.
        comm: The ranks that share the study; ``None`` for ``MPI.COMM_WORLD`` under mpirun.

    Raises:
        KeyError: If there is no study of this name.
        StorageInternalError: If the storage cannot be opened; its password is not shown.
        TimeoutError: As ``create_study``.
        ValueError: If the name is missing and there is not exactly one study.
    """

    def load(opened: BaseStorage | None) -> optuna.Study:
        assert opened is not None
        return optuna.load_study(study_name=study_name, storage=opened)

    return _open_study(load, storage, sampler, pruner, communicator(comm))


class IslandStudy(optuna.Study):
    """An Optuna study whose ``optimize`` shares one budget among all MPI ranks of a job.

    Build it with ``create_study`` or ``load_study``. Without MPI it is an ordinary study.
    """

    _job: Job | None = None
    _budget: Budget | None = None

    def optimize(
        self,
        func: Callable[[Trial], float | Sequence[float]],
        n_trials: int | None = None,
        timeout: float | None = None,
        n_jobs: int = 1,
        catch: Iterable[type[Exception]] | type[Exception] = (),
        callbacks: Iterable[Callback] | None = None,
        gc_after_trial: bool = False,
        show_progress_bar: bool = False,
    ) -> None:
        """Run trials until the budget, the time or somebody's patience ends; collective.

        An exception that is not in ``catch`` ends the whole job: its traceback is printed with
        its rank, and every rank ends with a status other than 0.

        Args:
            func: The objective.
            n_trials: How many trials to run over all ranks and threads; ``None`` for no limit.
            timeout: After how many seconds no rank starts another trial; ``None`` for never.
            n_jobs: How many threads each rank runs; -1 for its number of cores.
            catch: Exceptions of the objective that fail a trial, and nothing else.
            callbacks: Called with the study and each finished trial, on the trial's rank.
            gc_after_trial: Whether to collect garbage after each trial.
            show_progress_bar: Whether rank 0 shows the trials finished on all ranks.

        Raises:
            RuntimeError: If called from within itself, or if threads are asked for that MPI does
                not allow.
            TypeError: If ``func`` or a callback cannot be called, or ``catch`` is no exception.
            ValueError: If the ranks were given different budgets, or ``n_jobs`` is 0.
        """
        job = self._job
        if job is None:
            super().optimize(
                func, n_trials, timeout, n_jobs, catch, callbacks, gc_after_trial,
                show_progress_bar,
            )  # fmt: skip
            return
        loop = job.attempt(lambda: self._checked(func, n_jobs, catch, callbacks, gc_after_trial))
        job.agree(n_trials=n_trials, timeout=timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        set_stop_flag(self, False)
        self._budget = budget = Budget(job, n_trials)
        try:
            with _ProgressBar(show_progress_bar and job.rank == 0, n_trials, budget) as bar:
                with _mpi_progress(job, bar.refresh):
                    self._run(loop, budget, deadline)
                    if isinstance(self.sampler, PropulateSampler):
                        self.sampler.settle(self)
                    job.meet()
        except BaseException as error:  # also SystemExit: the other ranks would wait for ever
            job.abort(error)
            raise
        self._budget = None
        budget.free()
        storage_of(self).remove_session()

    def stop(self) -> None:
        """Let no rank start another trial; those under way are finished.

        Raises:
            RuntimeError: If called from elsewhere than an objective or a callback.
        """
        super().stop()
        if self._budget is not None:
            self._budget.close()

    def _checked(
        self,
        func: Callable[[Trial], float | Sequence[float]],
        n_jobs: int,
        catch: Iterable[type[Exception]] | type[Exception],
        callbacks: Iterable[Callback] | None,
        gc_after_trial: bool,
    ) -> _Loop:
        if in_optimize_loop(self):
            raise RuntimeError("Nested invocation of `Study.optimize` method isn't allowed.")
        for function in (func, *(callbacks or ())):
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
        return _Loop(func, n_threads, caught, tuple(callbacks or ()), gc_after_trial)

    def _run(self, loop: _Loop, budget: Budget, deadline: float | None) -> None:
        if loop.n_threads == 1:
            self._work(loop, budget, deadline)
            return
        with ThreadPoolExecutor(loop.n_threads) as pool:
            threads = [
                pool.submit(self._work, loop, budget, deadline) for _ in range(loop.n_threads)
            ]
            for thread in threads:
                thread.result()

    def _work(self, loop: _Loop, budget: Budget, deadline: float | None) -> None:
        """Claim and run trials, in one thread of one rank, until there is nothing to claim."""
        assert self._job is not None
        set_in_optimize_loop(self, True)
        try:
            if loop.n_threads > 1:
                self.sampler.reseed_rng()
            while not stop_flag(self) and not _passed(deadline) and budget.claim():
                finished = run_trial(self, loop.func, loop.catch)
                budget.note_finished()
                if loop.gc_after_trial:
                    gc.collect()
                for callback in loop.callbacks:
                    callback(self, copy.deepcopy(trial_by_id(self, finished)))
        except BaseException as error:  # here, as other threads may be busy for hours
            self._job.abort(error)
            raise
        finally:
            set_in_optimize_loop(self, False)
        storage_of(self).remove_session()

    def __getstate__(self) -> dict[Any, Any]:
        """Drop the communicator: a copy is an ordinary study."""
        state = super().__getstate__()
        state.pop("_job", None)
        state.pop("_budget", None)
        return state


@dataclass(frozen=True)
class _Loop:
    """What ``optimize`` was asked to do, checked."""

    func: Callable[[Trial], float | Sequence[float]]
    n_threads: int
    catch: tuple[type[Exception], ...]
    callbacks: tuple[Callback, ...]
    gc_after_trial: bool


class _ProgressBar:
    """Shows on rank 0 how many trials have finished on all ranks."""

    def __init__(self, shown: bool, n_trials: int | None, budget: Budget) -> None:
        self._budget = budget
        self._bar = tqdm(total=n_trials) if shown else None

    def refresh(self) -> None:
        """Show the number of trials that have finished by now."""
        if self._bar is not None:
            self._bar.update(self._budget.n_finished() - self._bar.n)

    def __enter__(self) -> _ProgressBar:
        return self

    def __exit__(self, *exception: object) -> None:
        self.refresh()
        if self._bar is not None:
            self._bar.close()


def _open_study(
    open_on_root: Callable[[BaseStorage | None], optuna.Study],
    storage: str | BaseStorage | None,
    sampler: BaseSampler | None,
    pruner: BasePruner | None,
    comm: MPI.Intracomm | None,
) -> IslandStudy:
    if comm is None:
        opened = open_rdb(storage) if isinstance(storage, str) else storage
        created = open_on_root(opened)
        sampler = PropulateSampler() if sampler is None else sampler
        return IslandStudy(created.study_name, storage_of(created), sampler, pruner)

    job = Job(comm, comm_timeout())
    abort_on_uncaught(job.comm)
    sampler = job.attempt(lambda: PropulateSampler(comm=comm) if sampler is None else sampler)
    shared = job.attempt(lambda: _shareable(storage))
    if isinstance(sampler, PropulateSampler):
        job.attempt(sampler.connect)
    name = job.from_root(lambda: open_on_root(_opened(shared)).study_name)
    study = job.attempt(lambda: IslandStudy(name, _opened(shared), sampler, pruner))
    study._job = job
    if storage is None and job.rank == 0:
        _logger.info(f"The {job.size} ranks share the study {name!r} in {DEFAULT_STORAGE}.")
    return study


def _shareable(storage: str | BaseStorage | None) -> str | BaseStorage:
    if isinstance(storage, InMemoryStorage):
        raise ValueError(
            "storage must be one that MPI ranks can share, but got InMemoryStorage; "
            f"leave it out for {DEFAULT_STORAGE}, or give a URL."
        )
    if isinstance(storage, str):
        shown(storage)  # raises on every rank alike
    return DEFAULT_STORAGE if storage is None else storage


def _opened(storage: str | BaseStorage) -> BaseStorage:
    return open_rdb(storage) if isinstance(storage, str) else storage


def _mpi_progress(job: Job, tick: Callable[[], None]) -> AbstractContextManager[None]:
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
