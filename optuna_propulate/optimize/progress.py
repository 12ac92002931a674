"""How far a search is: a bar in a terminal or a notebook, a line now and then elsewhere."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING

from optuna.exceptions import StorageInternalError
from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from optuna_propulate.optimize.throttle import Throttle


if TYPE_CHECKING:
    from collections.abc import Callable

    import optuna
    from optuna.trial import FrozenTrial

    from optuna_propulate.optimize.budget import Budget

    Callback = Callable[[optuna.Study, FrozenTrial], None]


_LOOK_EVERY = 1.0  # in seconds: how often the bar looks up the best value, at most
_LINE_EVERY = 10.0  # in seconds


class Progress:
    """Shows nothing; the two below show how many trials have finished on all ranks, on rank 0.

    What shows something is a callback of rank 0, whose trials give it the time to look up the
    best value. What is called meanwhile, ``refresh``, must not wait for a database.
    """

    callbacks: tuple[Callback, ...] = ()

    def refresh(self) -> None:
        """Show the number of trials that have finished by now."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        pass


class ProgressBar(Progress):
    """A bar that redraws itself; what Optuna logs meanwhile is written above it.

    Args:
        study: The study.
        n_trials: How many trials all ranks together start; ``None`` for no limit.
        budget: Counts the trials that have finished.
    """

    def __init__(self, study: optuna.Study, n_trials: int | None, budget: Budget) -> None:
        self._study, self._budget = study, budget
        self._bar = tqdm(total=n_trials, unit="trial")
        self._throttle = Throttle(_LOOK_EVERY)
        self._lock = threading.Lock()
        self._redirected = ExitStack()
        self.callbacks = (self._look,)

    def refresh(self) -> None:
        with self._lock:
            self._bar.update(self._budget.n_finished() - self._bar.n)

    def _look(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.refresh()
        with self._throttle.turn() as is_due:
            if is_due:
                self._show_best()

    def _show_best(self) -> None:
        self._bar.set_description(best_so_far(self._study), refresh=False)

    def __enter__(self) -> ProgressBar:
        self._redirected.enter_context(logging_redirect_tqdm([logging.getLogger("optuna")]))
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        with self._redirected:
            if kind is None:
                self._show_best()
            self.refresh()
            self._bar.close()


class ProgressLines(Progress):
    """A line every ten seconds and at the end, as for a file, or under mpirun.

    Args:
        study: The study.
        n_trials: How many trials all ranks together start; ``None`` for no limit.
        budget: Counts the trials that have finished.
    """

    def __init__(self, study: optuna.Study, n_trials: int | None, budget: Budget) -> None:
        self._study, self._n_trials, self._budget = study, n_trials, budget
        self._n_said = -1
        self._begun = time.monotonic()
        self._throttle = Throttle(_LINE_EVERY, wait=_LINE_EVERY)
        self.callbacks = (self._look,)

    def _look(self, study: optuna.Study, trial: FrozenTrial) -> None:
        with self._throttle.turn() as is_due:
            if is_due:
                self._print()

    def _print(self, *, ended: bool = False) -> None:
        n, seconds = self._budget.n_finished(), time.monotonic() - self._begun
        line = line_of(n, self._n_trials, seconds, best_so_far(self._study), ended=ended)
        if n != self._n_said or (ended and n != self._n_trials):  # it may be said already
            print(line, file=sys.stderr, flush=True)
        self._n_said = n

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is None:
            self._print(ended=True)


def line_of(
    n: int, n_trials: int | None, seconds: float, best: str, *, ended: bool = False
) -> str:
    """Return how far a search is after ``n`` trials and some ``seconds``, in words."""
    rate = n / seconds
    pieces = [f"{n} trials" if n_trials is None else f"{n} of {n_trials} trials"]
    pieces += [best, f"{rate:.3g} trials/s"]
    if n and n_trials is not None and n < n_trials and not ended:
        pieces.append(f"{timedelta(seconds=math.ceil((n_trials - n) / rate))} left")
    return ", ".join(pieces)


def progress(study: optuna.Study, shown: bool, n_trials: int | None, budget: Budget) -> Progress:
    """Return what shows how far a search is, if ``shown``, as standard error allows."""
    if not shown:
        return Progress()
    if sys.stderr.isatty() or "ipykernel" in sys.modules:
        return ProgressBar(study, n_trials, budget)
    return ProgressLines(study, n_trials, budget)


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
