"""The progress bar: how many trials have finished on all ranks, and the best value."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from optuna.exceptions import StorageInternalError
from tqdm.auto import tqdm

from optuna_propulate.optimize.throttle import Throttle


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence

    import optuna
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial

    from optuna_propulate.optimize.budget import Budget

    Objective = Callable[[Trial], float | Sequence[float]]
    Callback = Callable[[optuna.Study, FrozenTrial], None]


_LOOK_EVERY = 1.0  # in seconds: how often the best value is looked up, at most


class ProgressBar:
    """Shows on rank 0 how many trials have finished on all ranks, and the best value.

    It is a callback of rank 0, whose trials give it the time to look up the best value. What
    refreshes the bar meanwhile must not wait for a database.

    Args:
        study: The study.
        shown: Whether there is a bar.
        n_trials: How many trials all ranks together start; ``None`` for no limit.
        budget: Counts the trials that have finished.
    """

    def __init__(
        self, study: optuna.Study, shown: bool, n_trials: int | None, budget: Budget
    ) -> None:
        self._study, self._budget = study, budget
        self._bar = tqdm(total=n_trials, unit="trial") if shown else None
        self._throttle = Throttle(_LOOK_EVERY)
        self._lock = threading.Lock()

    @property
    def callbacks(self) -> tuple[Callback, ...]:
        """What rank 0 has to call after its trials."""
        return () if self._bar is None else (self._look,)

    def refresh(self) -> None:
        """Show the number of trials that have finished by now."""
        if self._bar is not None:
            with self._lock:
                self._bar.update(self._budget.n_finished() - self._bar.n)

    def _look(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.refresh()
        with self._throttle.turn() as is_due:
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
