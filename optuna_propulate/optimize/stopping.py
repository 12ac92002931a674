"""Stopping: signals and time limits end a search in order, with nothing lost."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING
from typing import Any

import optuna

from optuna_propulate._optuna_compat import set_stop_flag
from optuna_propulate._optuna_compat import storage_of
from optuna_propulate._optuna_compat import without_traceback
from optuna_propulate.parallel.launch import evaluating


if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from types import TracebackType

    from optuna.trial import Trial

    from optuna_propulate.optimize.budget import Budget
    from optuna_propulate.parallel.team import AnyTeam

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
    handler that the user has installed before stays. Ctrl-C ends a process that is alone at once,
    as everywhere in Python; where something swallows that, after the trial. Only the main thread
    can be interrupted, and not within code that is not Python's.

    An objective may install handlers of its own, as libraries do that train: a signal is heard all
    the same, through the file descriptor that the interpreter writes to. Whatever an objective
    raises after a signal is an interruption; after each trial the handlers are ours again.

    Args:
        study: The study whose loop is to stop.
        team: The ranks that share it.
        budget: What all ranks claim trials from.
        deadline: When no trial starts any more, on the clock ``time.monotonic``.
        grace: How long trials may go on after a signal or the deadline, in seconds; ``None``
            until they end.

    Attributes:
        signal: The number of the signal; 0 for none.
        is_broken_off: Whether Ctrl-C has ended the search of a process that is alone.
    """

    def __init__(
        self,
        study: optuna.Study,
        team: AnyTeam,
        budget: Budget,
        deadline: float | None,
        grace: float | None,
    ) -> None:
        self._study = study
        self._is_job = team.size > 1
        # Without threads in MPI, the other ranks hear of a signal when this one's loop has ended.
        self._budget = budget if team.threads_allowed else None
        self._deadline, self._grace = deadline, grace
        self._is_evaluating = False
        self._is_expired = False
        self._is_told = False
        self._n_calls, self._n_bytes = 0, 0  # of our handler; that the interpreter has written
        self._asked_at: float | None = None
        self._is_ended = False
        self._handlers: dict[int, Any] = {}  # ours, and those that were there before
        self._handler = self._hear
        self._reading = threading.Lock()  # what is read is noted before another thread looks
        self._awake, self._waking = socket.socketpair()
        self._other_descriptor = -1
        self._watch = threading.Thread(target=self._run, name="stopping", daemon=True)
        self.signal = 0
        self.is_broken_off = False

    def guard(self, objective: Callable[[Trial], Any]) -> Callable[[Trial], Any]:
        """Return the objective, which may be interrupted."""

        def guarded(trial: Trial) -> Any:
            is_main = threading.current_thread() is threading.main_thread()
            if is_main:
                self._install()
            self._is_evaluating = is_main
            try:
                with evaluating():
                    return objective(trial)
            except (InterruptedTrialError, optuna.TrialPruned):
                raise
            except BaseException as error:
                self._is_evaluating = False
                self._read_bytes()
                if is_main and self._n_heard:
                    raise InterruptedTrialError(f"interrupted: {error!r}") from None
                raise
            finally:
                self._is_evaluating = False
                if is_main:
                    self._install()

        return guarded

    def __enter__(self) -> Stopping:
        if threading.current_thread() is threading.main_thread():
            wanted = {signal.SIGTERM: signal.SIG_DFL, signal.SIGUSR1: signal.SIG_DFL}
            if self._is_job:
                wanted[signal.SIGINT] = signal.default_int_handler  # type: ignore[assignment]
            self._handlers = {
                int(number): default
                for number, default in wanted.items()
                if signal.getsignal(number) is default
            }
            for end in (self._awake, self._waking):
                end.setblocking(False)
            self._install()
            if not self._is_job and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.signal(signal.SIGINT, self._break_off)
            _active.add(self)
        self._watch.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_ended = True
        with suppress(OSError):
            self._waking.send(b"\0")
        self._watch.join()
        self._announce()
        if self in _active:
            _active.discard(self)
            self.restore()
        self._awake.close()
        self._waking.close()

    @property
    def handled(self) -> tuple[int, ...]:
        """The numbers of the signals that are handled."""
        return tuple(self._handlers)

    def restore(self) -> None:
        """Put back the handlers that were there before; in the main thread, of a child too."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if signal.getsignal(signal.SIGINT) == self._break_off:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._handlers:
            last = _wakeup_descriptor(self._other_descriptor)
            if last != self._waking.fileno():  # somebody else's, who has not put ours back
                _wakeup_descriptor(last)

    @property
    def _n_heard(self) -> int:
        """How many signals have come: each is a byte, and a call where the handler is ours."""
        return max(self._n_calls, self._n_bytes)

    def _install(self) -> None:
        """Make the handlers ours, whatever an objective has left there."""
        for number in self._handlers:
            if signal.getsignal(number) is not self._handler:
                signal.signal(number, self._handler)
        if self._handlers:
            before = _wakeup_descriptor(self._waking.fileno())
            if before != self._waking.fileno():
                self._other_descriptor = before

    def _hear(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: called between two steps of the main thread, whatever it does."""
        if not self._is_expired:
            self._n_calls += 1
            self._note(number)
        if self._is_evaluating and (self._is_expired or self._n_calls > 1):
            self._is_evaluating = False
            raise InterruptedTrialError

    def _break_off(self, number: int, frame: FrameType | None) -> None:
        """Handle Ctrl-C in a process that is alone; a finalizer may swallow what is raised."""
        self.is_broken_off = True
        set_stop_flag(self._study, True)
        raise KeyboardInterrupt

    def _note(self, number: int) -> None:
        """Note that a signal asks this process to stop."""
        self.signal = self.signal or number
        self._asked_at = self._asked_at or time.monotonic()
        set_stop_flag(self._study, True)

    def _read_bytes(self) -> None:
        """Note the signals that have come, whoever has handled them."""
        with self._reading:
            try:
                received = self._awake.recv(4096)
            except OSError:
                return
            if self._other_descriptor >= 0:
                with suppress(OSError):
                    os.write(self._other_descriptor, received)
            numbers = [number for number in received if number in self._handlers]
            if numbers and not self._is_expired:
                self._n_bytes += len(numbers)
                self._note(numbers[0])

    def _run(self) -> None:
        """Tell the other ranks, hear from them, and look at the clock."""
        looked_at = time.monotonic()
        while not self._is_ended:
            select.select([self._awake], [], [], _FIRST_LOOK)
            self._read_bytes()
            now = time.monotonic()
            if self._budget is not None and not self.signal and now - looked_at > _REMOTE_LOOK:
                looked_at = now
                remote = self._budget.interrupted_by()
                if remote and not self.signal:
                    self.signal, self._asked_at = remote, now
            self._announce()
            if self._n_heard > 1:
                self._hurry()
            is_over = self._grace is not None and now > self._end() + self._grace
            if (is_over or self._n_heard > 1) and not self._is_ended:
                self._interrupt()

    def _hurry(self) -> None:
        """Let nobody wait for a database that is away."""
        hurry = getattr(storage_of(self._study), "hurry", None)
        if hurry is not None:
            hurry()

    def _announce(self) -> None:
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
        if not self._is_evaluating or not self._handlers:
            return
        main = threading.main_thread().ident
        assert main is not None
        for number in self._handlers:
            if signal.getsignal(number) is self._handler:
                signal.pthread_kill(main, number)
                return
        # The objective has handlers of its own: the exception comes by the interpreter, and one
        # of them is called once more, which ends a sleep.
        self._is_evaluating = False
        error = ctypes.py_object(InterruptedTrialError)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(main), error)
        for number in self._handlers:
            if callable(signal.getsignal(number)):
                signal.pthread_kill(main, number)
                return


without_traceback(InterruptedTrialError)
_active: weakref.WeakSet[Stopping] = weakref.WeakSet()


def _wakeup_descriptor(descriptor: int) -> int:
    """Set the descriptor to which the interpreter writes signals; return the one before."""
    return signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)


_mask = threading.local()


def _hold_signals() -> None:
    """Hold back signals during a fork: one that reaches the child too early would be lost."""
    handled = {number for stopping in list(_active) for number in stopping.handled}
    _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, handled)


def _release_signals() -> None:
    """Let the signals come that were held back."""
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)


def _restore_in_child() -> None:
    """Give a forked child the handlers that were there before ours: its signals are its own."""
    for stopping in list(_active):
        stopping.restore()
    _active.clear()
    _release_signals()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_hold_signals,
        after_in_parent=_release_signals,
        after_in_child=_restore_in_child,
    )
