"""One study, many ranks: collective creation, and a loop that shares one budget of trials."""

from __future__ import annotations

import time
from contextlib import ExitStack
from contextlib import nullcontext
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from optuna.storages import InMemoryStorage

from optuna_propulate._optuna_compat import set_stop_flag
from optuna_propulate._optuna_compat import storage_of
from optuna_propulate._optuna_compat import study_id_of
from optuna_propulate.islands.resuming import Inheritance
from optuna_propulate.islands.resuming import deal_out
from optuna_propulate.optimize.budget import Budget
from optuna_propulate.optimize.budget import check_limits
from optuna_propulate.optimize.goal import Goal
from optuna_propulate.optimize.goal import check_goal
from optuna_propulate.optimize.loop import Loop
from optuna_propulate.optimize.loop import save
from optuna_propulate.optimize.progress import progress
from optuna_propulate.optimize.stopping import Stopping
from optuna_propulate.parallel.abort import abort_on_uncaught
from optuna_propulate.parallel.launch import comm_timeout
from optuna_propulate.parallel.launch import communicator
from optuna_propulate.parallel.progress_thread import mpi_progress
from optuna_propulate.parallel.team import AnyTeam
from optuna_propulate.parallel.team import LocalTeam
from optuna_propulate.parallel.team import Team
from optuna_propulate.records.ending import keep_end
from optuna_propulate.records.reading import n_trials_of
from optuna_propulate.records.reading import study_of
from optuna_propulate.records.summary import summarize
from optuna_propulate.sampler import PropulateSampler
from optuna_propulate.storages.batched import BatchedRDBStorage
from optuna_propulate.storages.sql.open import announced
from optuna_propulate.storages.sql.open import check_exists
from optuna_propulate.storages.sql.open import open_rdb
from optuna_propulate.storages.sql.open import parse_url
from optuna_propulate.storages.sql.open import shown
from optuna_propulate.storages.sql.sqlite_file import is_in_memory


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Sequence
    from pathlib import Path

    from mpi4py import MPI
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.study import StudyDirection
    from optuna.trial import Trial

    from optuna_propulate.optimize.loop import Callback

_logger = optuna.logging.get_logger("optuna." + __name__)

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
        storage: A storage URL, for ``BatchedRDBStorage``, or a storage built on every rank.
            ``None`` for memory if this process is alone, else for the SQLite file
            ``optuna_propulate.db``.
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
        TimeoutError: If ranks are missing a minute after the last one called this (or what the
            environment variable ``OPTUNA_PROPULATE_COMM_TIMEOUT`` says).
        ValueError: If an argument is out of its range, the ranks cannot share the storage, the
            sampler takes one objective only, or the study exists with other directions.
    """
    given = directions or [direction or "minimize"]

    def create(opened: BaseStorage) -> optuna.Study:
        study = optuna.create_study(
            storage=opened,
            study_name=study_name,
            direction=direction,  # type: ignore[arg-type]  # Optuna checks the string
            directions=directions,  # type: ignore[arg-type]
            load_if_exists=load_if_exists,
        )
        if direction is not None or directions is not None:
            _check_directions(study, given)
        return study

    return _open_study(create, storage, sampler, pruner, comm, n_objectives=len(given))


def load_study(
    storage: str | BaseStorage,
    *,
    study_name: str | None = None,
    sampler: BaseSampler | None = None,
    pruner: BasePruner | None = None,
    comm: MPI.Intracomm | None = None,
) -> IslandStudy:
    """Load a study that all MPI ranks share; collective.

    Args:
        storage: A storage URL, or a storage built on every rank.
        study_name: The study's name; ``None`` if the storage holds a single study.
        sampler: Built on every rank; ``None`` for ``PropulateSampler(comm=comm)``.
        pruner: Built on every rank; ``None`` for Optuna's default.
        comm: The ranks that share the study; ``None`` for ``MPI.COMM_WORLD`` under mpirun.

    Raises:
        FileNotFoundError: If the URL is of an SQLite file that does not exist.
        KeyError: If there is no study of this name.
        StorageInternalError: If the storage cannot be opened; its password is not shown.
        TimeoutError: As ``create_study``.
        ValueError: If the name is missing and there is not exactly one study, or the sampler
            takes one objective and the study has several.
    """

    def load(opened: BaseStorage) -> optuna.Study:
        return study_of(opened, study_name)

    return _open_study(load, storage, sampler, pruner, comm)


class IslandStudy(optuna.Study):
    """An Optuna study whose ``optimize`` shares one budget among all MPI ranks of a job.

    Build it with ``create_study`` or ``load_study``. Without MPI it is an ordinary study.
    """

    _team: AnyTeam = LocalTeam()
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
        *,
        stop_grace: float | None = None,
        target: float | None = None,
        patience: int | None = None,
        n_trials_total: int | None = None,
    ) -> None:
        """Run trials until the budget or the time is used up, or the goal reached; collective.

        An exception that is not in ``catch`` ends the whole job: its traceback is printed with
        its rank, and every rank ends with a status other than 0.

        SIGTERM and SIGUSR1 (and SIGINT under MPI) on any rank let no rank start another trial;
        once those under way have ended and all is committed, every rank exits with the status
        128 + the number of the signal.

        Args:
            func: The objective.
            n_trials: How many trials to run over all ranks and threads; ``None`` for no limit.
            timeout: After how many seconds no rank starts another trial; ``None`` for never.
            n_jobs: How many threads each rank runs; -1 for its number of cores.
            catch: Exceptions of the objective that fail a trial, and nothing else.
            callbacks: Called with the study and each finished trial, on the trial's rank. One
                that has a method ``at_end`` has it called with the study when the search ends.
            gc_after_trial: Whether to collect garbage after each trial.
            show_progress_bar: Whether rank 0 shows how many trials all ranks have finished, and
                the best value: by a bar in a terminal or a notebook, else every ten seconds by a
                line.
            stop_grace: How long trials under way may go on after ``timeout`` or a signal, in
                seconds, before they are interrupted and fail; ``None`` until they end. Trials in
                threads of ``n_jobs`` are not interrupted.
            target: A value that is good enough: no trial starts once one has it, or better.
            patience: After how many trials in a row, over all ranks, none of them better than
                the best before, no trial starts any more; at least 1.
            n_trials_total: How many trials the study shall have, with those of earlier runs and
                of all jobs that work on it: none starts beyond; ``None`` for no limit. Exact where
                this package writes to the database; of those, trials that fail count, too.

        Raises:
            SystemExit: After a signal.
            StorageInternalError: At the end, if files keep what could not be written.
            RuntimeError: If called from within itself, or if threads are asked for that MPI does
                not allow.
            TypeError: If ``func`` or a callback cannot be called, ``catch`` is no exception, or
                ``n_trials`` is no integer.
            ValueError: If the ranks were given different budgets, a budget is negative,
                ``n_jobs`` is 0, or ``target`` or ``patience`` is given for several objectives.
        """
        began = time.monotonic()
        team = self._team
        team.attempt(lambda: check_limits(n_trials, timeout, stop_grace, n_trials_total))
        team.attempt(lambda: check_goal(target, patience, len(self.directions)))
        loop = team.attempt(
            lambda: Loop.checked(self, team, func, n_jobs, catch, callbacks, gc_after_trial)
        )
        team.agree(
            n_trials=n_trials,
            timeout=timeout,
            stop_grace=stop_grace,
            target=target,
            patience=patience,
            n_trials_total=n_trials_total,
        )
        deadline = None if timeout is None else began + timeout
        set_stop_flag(self, False)
        self._budget = budget = Budget(team, n_trials)
        _limit(self, n_trials_total, None if n_trials is None else budget.n_left)
        goal = Goal(self, team, budget, target, patience)
        stopping = Stopping(self, team, budget, deadline, stop_grace)
        shown = show_progress_bar and team.rank == 0
        try:
            with progress(self, shown, n_trials, budget) as shown_progress:
                callbacks = (*goal.callbacks, *loop.callbacks, *shown_progress.callbacks)
                loop = replace(loop, callbacks=callbacks, n_total=n_trials_total)
                with mpi_progress(team, shown_progress.refresh), stopping:
                    loop.run(self, team, budget, deadline, stopping)
                    budget.share_finished()
                    if stopping.signal:
                        budget.interrupt(stopping.signal)
                    if team.size > 1 and isinstance(self.sampler, PropulateSampler):
                        self.sampler.drain(self)
                    kept = team.gather(save(self))
                    _refresh(self)
                    loop.end(self)
        except BaseException as error:  # also SystemExit: the other ranks would wait for ever
            try:
                save(self)
            finally:
                team.abort(error)
            raise
        finally:
            self._budget = None
            _limit(self, None, None)
        number = stopping.signal or budget.interrupted_by()
        if team.rank == 0 and (reason := goal.reached):
            _note_end(self, reason)
        budget.free()
        storage_of(self).remove_session()
        if stopping.is_broken_off:
            raise KeyboardInterrupt
        _exit_after(number)
        _raise_if_kept(kept)

    @property
    def is_root(self) -> bool:
        """Whether this process is rank 0, or alone: what is printed there is printed once."""
        return self._team.rank == 0

    def summary(self, top_n: int = 1) -> None:
        """Print how far the study is, the best, and each island's best, number and migrants.

        Reads the study as it is; any rank may call it, and rank 0 prints.

        Args:
            top_n: How many individuals of each island are shown; at least 1.

        Raises:
            ValueError: If ``top_n`` is below 1.
        """
        text = summarize(self, top_n)
        if self.is_root:
            print(text, flush=True)

    def stop(self) -> None:
        """Let no rank start another trial; those under way are finished.

        Raises:
            RuntimeError: If called from elsewhere than an objective or a callback.
        """
        super().stop()
        if self._budget is not None:
            self._budget.close()

    def __getstate__(self) -> dict[Any, Any]:
        """Drop the communicator: a copy is an ordinary study."""
        state = super().__getstate__()
        state.pop("_team", None)
        state.pop("_budget", None)
        return state


def _note_end(study: optuna.Study, reason: str) -> None:
    """Say why a search has ended, and keep it in the study if that can be reached."""
    _logger.info(f"The search ends: {reason}.")
    with suppress(StorageInternalError):
        keep_end(study, reason)


def _exit_after(number: int) -> None:
    """End the process in order if a signal with this number, not 0, has asked for it."""
    if number:
        raise SystemExit(128 + number)


def _raise_if_kept(paths: Sequence[Path | None]) -> None:
    """Raise if the database has not taken all trials, and files keep them."""
    files = sorted({str(path) for path in paths if path is not None})
    if files:
        raise StorageInternalError(
            "The database has not taken all trials, and nothing is left that could write them. "
            f"They are kept in {', '.join(files)}: `optuna-propulate import` puts them in."
        )


def _open_study(
    open_on_root: Callable[[BaseStorage], optuna.Study],
    storage: str | BaseStorage | None,
    sampler: BaseSampler | None,
    pruner: BasePruner | None,
    given: MPI.Intracomm | None,
    n_objectives: int | None = None,
) -> IslandStudy:
    """Open a study on all ranks; without ``n_objectives`` it has to exist."""
    comm = communicator(given)
    team = LocalTeam() if comm is None else Team(comm, comm_timeout())
    if isinstance(team, Team):
        abort_on_uncaught(team.comm)
    sampler = team.attempt(lambda: PropulateSampler(comm=given) if sampler is None else sampler)
    where = team.attempt(lambda: _shareable(storage) if team.size > 1 else storage)
    team.agree(storage=_kind(where), sampler=type(sampler).__name__)
    if isinstance(sampler, PropulateSampler):
        team.attempt(lambda: _check_one_objective(n_objectives or 1))
        team.attempt(lambda: sampler.check_workers(comm))
        team.attempt(sampler.connect)
    if n_objectives is None and isinstance(where, str):
        team.from_root(lambda: check_exists(where))
    with announced(where) if isinstance(where, str) and team.rank == 0 else nullcontext():
        study = _study_in(where, team, open_on_root, sampler, pruner)
    team.from_root(lambda: _log_start(study, where, team.size))
    if isinstance(sampler, PropulateSampler) and team.size > 1:
        share = team.share_from_root(
            lambda: (
                deal_out(study, sampler.configuration)
                if n_trials_of(study)
                else [Inheritance()] * team.size
            )
        )
        team.attempt(lambda: sampler.resume(study, share))
    return study


def _study_in(
    where: str | BaseStorage | None,
    team: AnyTeam,
    open_on_root: Callable[[BaseStorage], optuna.Study],
    sampler: BaseSampler,
    pruner: BasePruner | None,
) -> IslandStudy:
    """Open a storage and a study in it; leave nothing open that was opened here if that fails."""
    with ExitStack() as undone:
        opened = team.attempt(lambda: _opened(where, team))
        if opened is not where and isinstance(opened, BatchedRDBStorage):
            undone.callback(opened.close)
        _check_shared(opened, team)
        name = team.from_root(lambda: open_on_root(opened).study_name)
        study = team.attempt(lambda: IslandStudy(name, opened, sampler, pruner))
        if isinstance(sampler, PropulateSampler):
            team.attempt(lambda: _check_one_objective(len(study.directions)))
        study._team = team
        undone.pop_all()
    return study


def _check_directions(study: optuna.Study, given: Sequence[str | StudyDirection]) -> None:
    """Check that a study has the directions that were asked for; it may have existed.

    Raises:
        ValueError: If it has others.
    """
    asked = [getattr(one, "name", str(one)).lower() for one in given]
    has = [one.name.lower() for one in study.directions]
    if asked != has:
        raise ValueError(
            f"The study {study.study_name!r} exists with direction {', '.join(has)}, not "
            f"{', '.join(asked)}; leave the direction out to go on with it, or choose another "
            "study name."
        )


def _check_one_objective(n: int) -> None:
    """Check that there are not several objectives.

    Raises:
        ValueError: If there are.
    """
    if n > 1:
        raise ValueError(
            f"PropulateSampler takes one objective, but the study has {n}; give another sampler, "
            "such as sampler=optuna.samplers.NSGAIISampler()."
        )


def _log_start(study: IslandStudy, storage: str | BaseStorage | None, n_ranks: int) -> None:
    """Say in one line what a person wants to know of a search that begins."""
    opened = storage_of(study)
    where = shown(storage) if isinstance(storage, str) else "memory"
    if storage is not None and not isinstance(storage, str):
        where = opened.url if isinstance(opened, BatchedRDBStorage) else type(opened).__name__
    n_trials = n_trials_of(study)
    age = f"resumed with {n_trials} trial{'s' * (n_trials != 1)}" if n_trials else "new"
    parts = [f"{n_ranks} rank{'s' * (n_ranks != 1)}"]
    if isinstance(study.sampler, PropulateSampler):
        n_islands = study.sampler.configuration.n_islands
        parts.append(f"{n_islands} island{'s' * (n_islands != 1)}")
    _logger.info(f"Study {study.study_name!r} ({age}): {', '.join(parts)}, in {where}.")


def _shareable(storage: str | BaseStorage | None) -> str | BaseStorage:
    if isinstance(storage, InMemoryStorage):
        raise ValueError(
            "storage must be one that MPI ranks can share, but got InMemoryStorage; "
            f"leave it out for {DEFAULT_STORAGE}, or give a URL."
        )
    if isinstance(storage, str) and is_in_memory(parse_url(storage)):
        raise ValueError(
            "storage must be one that MPI ranks can share, but got SQLite in memory; "
            f"leave it out for {DEFAULT_STORAGE}, or give a file."
        )
    return DEFAULT_STORAGE if storage is None else storage


def _check_shared(storage: BaseStorage, team: AnyTeam) -> None:
    """Check that all ranks tell their trials to one writer.

    Raises:
        ValueError: On every rank, if a storage was built for each rank alone.
    """
    writers = team.gather(storage.writer if isinstance(storage, BatchedRDBStorage) else None)
    if len(set(writers)) > 1:
        raise ValueError(
            "storage must be one that the MPI ranks share: give a URL, or build it on every rank "
            "as BatchedRDBStorage(url, comm=MPI.COMM_WORLD)."
        )


def _kind(storage: str | BaseStorage | None) -> str:
    """Return what opening a storage depends on, without its password."""
    if not isinstance(storage, str):
        return type(storage).__name__
    return f"a URL of {parse_url(storage).get_backend_name()}"


def _opened(storage: str | BaseStorage | None, team: AnyTeam) -> BaseStorage:
    if storage is None:
        return InMemoryStorage()
    if not isinstance(storage, str):
        return storage
    if is_in_memory(parse_url(storage)):
        return open_rdb(storage)
    return BatchedRDBStorage(storage, comm=team.comm if isinstance(team, Team) else None)


def _limit(study: optuna.Study, n_total: int | None, n_left: Callable[[], int] | None) -> None:
    """Let the storage know how many trials the study, and this job, may have."""
    storage = storage_of(study)
    if isinstance(storage, BatchedRDBStorage):
        storage.limit(study_id_of(study), n_total)
        storage.expect(n_left)


def _refresh(study: optuna.Study) -> None:
    """See at once what the other ranks have committed."""
    storage = storage_of(study)
    if isinstance(storage, BatchedRDBStorage):
        storage.refresh(study_id_of(study))
