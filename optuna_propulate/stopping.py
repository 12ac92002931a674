"""Stopping: signals and time limits end a search in order, with nothing lost."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING
from typing import Any

import optuna

from optuna_propulate._optuna_compat import set_stop_flag
from optuna_propulate.job import threads_allowed


if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from types import TracebackType

    from optuna.trial import Trial

    from optuna_propulate.job import Budget

_logger = optuna.logging.get_logger("optuna." + __name__)

_FIRST_LOOK = 0.1  # in seconds, between two looks at the clock
_REMOTE_LOOK = 1.0  # in seconds, between two looks at what other ranks were told


class InterruptedTrialError(Exception):
    """The trial was under way for longer than ``stop_grace`` after the search had to stop."""


class Stopping:
    """Holds whether a signal has asked this process, or another rank, to stop.

    SIGTERM and SIGUSR1 (which ``#SBATCH --signal=USR1@60`` sends a minute before the time is up),
    and SIGINT if there are several ranks, let no rank start another trial. Those under way go on
    for ``grace`` seconds; then an exception ends them. A second signal ends them at once. A
    handler that the user has installed stays. Only the main thread can be interrupted, and not
    within code that is not Python's.

    Args:
        study: The study whose loop is to stop.
        budget: What all ranks claim trials from; ``None`` for a process alone.
        deadline: When no trial starts any more, on the clock ``time.monotonic``.
        grace: How long trials may go on after a signal or the deadline, in seconds; ``None``
            until they end.

    Attributes:
        signal: The number of the signal; 0 for none.
    """

    def __init__(
        self,
        study: optuna.Study,
        budget: Budget | None,
        deadline: float | None,
        grace: float | None,
    ) -> None:
        self._study = study
        self._is_job = budget is not None
        # Without threads in MPI, the other ranks hear of a signal when this one's loop has ended.
        self._budget = budget if budget is not None and threads_allowed() else None
        self._deadline, self._grace = deadline, grace
        self._is_evaluating = False
        self._is_expired = False
        self._is_told = False
        self._n_heard = 0
        self._asked_at: float | None = None
        self._ended = threading.Event()
        self._handlers: dict[int, Any] = {}
        self._watch = threading.Thread(target=self._run, name="stopping", daemon=True)
        self.signal = 0

    def guard(self, objective: Callable[[Trial], Any]) -> Callable[[Trial], Any]:
        """Return the objective, which may be interrupted."""

        def guarded(trial: Trial) -> Any:
            self._is_evaluating = threading.current_thread() is threading.main_thread()
            try:
                return objective(trial)
            finally:
                self._is_evaluating = False

        return guarded

    def __enter__(self) -> Stopping:
        if threading.current_thread() is threading.main_thread():
            wanted = {signal.SIGTERM: signal.SIG_DFL, signal.SIGUSR1: signal.SIG_DFL}
            if self._is_job:
                wanted[signal.SIGINT] = signal.default_int_handler  # type: ignore[assignment]
            for number, default in wanted.items():
                if signal.getsignal(number) is default:
                    self._handlers[number] = signal.signal(number, self._hear)
        self._watch.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._watch.join()
        self._tell()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: called between two steps of the main thread, whatever it does."""
        is_again = self._n_heard > 0
        self._n_heard += 1
        if not self._is_expired:
            self.signal = self.signal or number
            self._asked_at = self._asked_at or time.monotonic()
            set_stop_flag(self._study, True)
        if self._is_evaluating and (self._is_expired or is_again):
            self._is_evaluating = False
            raise InterruptedTrialError

    def _run(self) -> None:
        """Tell the other ranks, hear from them, and look at the clock."""
        looked_at = time.monotonic()
        while not self._ended.wait(_FIRST_LOOK):
            now = time.monotonic()
            if self._budget is not None and not self.signal and now - looked_at > _REMOTE_LOOK:
                looked_at = now
                remote = self._budget.interrupted_by()
                if remote and not self.signal:
                    self.signal, self._asked_at = remote, now
            self._tell()
            if self._grace is not None and now > self._end() + self._grace:
                self._interrupt()

    def _tell(self) -> None:
        """Tell the user and the other ranks of a signal, once."""
        if not self.signal or self._is_told:
            return
        self._is_told = True
        set_stop_flag(self._study, True)
        if self._budget is not None:
            self._budget.interrupt(self.signal)
        _logger.warning(
            f"{signal.Signals(self.signal).name}: no trial starts any more; those under way "
            f"{self._shown_grace()}."
        )

    def _end(self) -> float:
        times = [at for at in (self._asked_at, self._deadline) if at is not None]
        return min(times, default=float("inf"))

    def _shown_grace(self) -> str:
        if self._grace is None:
            return "are waited for (a second signal ends them)"
        return f"may go on for {self._grace:g} s"

    def _interrupt(self) -> None:
        """Raise an exception in the objective that the main thread is in."""
        self._is_expired = True
        if self._is_evaluating and self._handlers:
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, next(iter(self._handlers)))
