"""The lock of a study: only one job at a time adds trials to it, as it alone counts the numbers.

The right is the mark that a job's writer leaves in the study with every transaction (see
``StudyWriter``): it names the job, and its ``beat`` rises, also while nothing is written. A job
that would take over watches the beat by a clock of its own, so no clocks have to agree, and
nothing is bound to a connection, which a pooler in front of the database may give to anybody.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any


if TYPE_CHECKING:
    from collections.abc import Mapping

BEAT_EVERY = 2.0
"""How often the writer raises the beat of a study that it holds, in seconds."""

EXPIRES_AFTER = 15.0
"""After how many seconds without a beat a job is taken for dead."""

_PATIENCE = 5.0  # in seconds: the writer of a job that has just ended still commits


class StudyLockedError(RuntimeError):
    """Another job adds trials to the study."""


class UndecidedError(RuntimeError):
    """Whether this job may add trials is not known yet; to be tried again soon.

    Its text says why the database does not tell; it is empty while another job is watched.
    """


class Contender:
    """Watches the mark that another job has left, until it is known whether that job is alive."""

    def __init__(self) -> None:
        self._begun = self._seen_at = time.monotonic()
        self._first: object = None
        self._beat: object = None

    @property
    def is_patient(self) -> bool:
        """Whether to try again: somebody has locked the study, so that nobody reads its mark."""
        return time.monotonic() - self._begun < EXPIRES_AFTER

    def judge(self, mark: Mapping[str, Any] | None) -> None:
        """Return if the study may be taken over.

        Args:
            mark: What the study holds now; ``None`` if no job was there before.

        Raises:
            StudyLockedError: If another job adds trials.
            UndecidedError: If that is not known yet.
        """
        if mark is None or "beat" not in mark or mark.get("released") or is_gone(mark):
            return
        now, beat = time.monotonic(), (mark["job"], mark["beat"])
        self._first = self._first or beat
        if beat != self._beat:
            self._beat, self._seen_at = beat, now
        if now - self._seen_at >= EXPIRES_AFTER:
            return
        if beat != self._first and now - self._begun >= _PATIENCE:
            raise StudyLockedError(
                "Another job is adding trials to this study (its writer is process "
                "{process} on {host}, since {since} UTC). Wait until it has ended; start all "
                "processes under mpirun to share one study; or give the study to them as a plain "
                "optuna.storages.RDBStorage(url).".format(**mark)
            )
        raise UndecidedError


def own_process() -> dict[str, Any]:
    """Return what tells this process from all others, on any machine."""
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "system": _system(),
        "started": _started(os.getpid()),
    }


def is_gone(mark: Mapping[str, Any]) -> bool:
    """Tell whether the process that left a mark is known to have ended.

    It is not if it ran on another machine, or where this process cannot look.
    """
    system = _system()
    if not system or mark.get("system") != system:
        return False
    return _started(mark["process"]) != mark.get("started")


def _system() -> str:
    """Return what two processes have in common that see each other; ``""`` if it is not known."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return ""


def _started(process: int) -> str:
    """Return when a process started, in ticks since the machine did; ``""`` if it is gone."""
    with suppress(OSError, IndexError):
        stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return "" if stat[0] == "Z" else stat[19]
    return ""
