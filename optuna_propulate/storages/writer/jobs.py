"""The jobs that add trials to a study: each leaves a mark there, and watches those of the others.

A job's writer renews its mark with every transaction: it names the job, and its ``beat`` rises,
also while nothing is written. Who wants to know whether a job is alive watches the beat by a
clock of its own, so no clocks have to agree, and nothing is bound to a connection, which a pooler
in front of the database may give to anybody.
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
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Mapping

BEAT_EVERY = 2.0
"""How often the writer raises the beat of a study that it adds trials to, in seconds."""

EXPIRES_AFTER = 15.0
"""After how many seconds without a beat a job is taken for dead."""

_LONGEST_GAP = 5.0  # in seconds, without a look; then it is not known who could have written


class StudyLockedError(RuntimeError):
    """This job may not add trials to the study."""


class UndecidedError(RuntimeError):
    """Whether this job may add trials is not known yet; to be tried again soon.

    Its text says why the database does not tell; it is empty while another job is watched.
    """


class UninvitedError(UndecidedError):
    """Another job is alone in the study as far as it knows; it is to be shown that it is not."""


class Watch:
    """Watches the marks of the other jobs of a study.

    Args:
        clock: Returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked_at = -float("inf")
        self._beats: dict[str, tuple[Any, float]] = {}  # the last beat, and since when

    def dead(self, marks: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Return which jobs do not add trials any more: they have ended, or are dead.

        A job is dead if its processes on this machine have gone, or its beat was the same for
        ``EXPIRES_AFTER`` seconds in which this was called again and again.

        Args:
            marks: What the jobs have left in the study, by job.
        """
        now, before = self._clock(), self._beats
        if now - self._looked_at > _LONGEST_GAP:
            before = {}  # the database was away, perhaps, and nobody could write
        self._looked_at, self._beats = now, {}
        for job, mark in marks.items():
            beat, since = before.get(job, (None, now))
            self._beats[job] = mark.get("beat"), since if beat == mark.get("beat") else now
        return [
            job
            for job, mark in marks.items()
            if mark.get("released")
            or "beat" not in mark  # of before 0.2
            or is_gone(mark)
            or now - self._beats[job][1] >= EXPIRES_AFTER
        ]


def first_free_worker(marks: Iterable[Mapping[str, Any]], n: int) -> int:
    """Return the lowest number such that no other job has one of the ``n`` from there on."""
    taken = sorted(mark["workers"] for mark in marks if "workers" in mark)
    first = 0
    for theirs, n_theirs in taken:
        if theirs - first >= n:
            break
        first = max(first, theirs + n_theirs)
    return first


def own_process(starter: int | None = None) -> dict[str, Any]:
    """Return what tells this process from all others.

    Args:
        starter: The process that starts this one again if it ends; ``None`` for nobody.
    """
    starter = os.getpid() if starter is None else starter
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "started": _started(os.getpid()),
        "starter": [starter, _started(starter)],
        "system": _system(),
    }


def is_gone(mark: Mapping[str, Any]) -> bool:
    """Tell whether the writer that left a mark, and who could start it again, have ended.

    They have not if they ran on another machine, or where this process cannot look.
    """
    system = _system()
    if not system or mark.get("system") != system:
        return False
    writer = mark["process"], mark.get("started")
    return all(
        _started(process) != started for process, started in (writer, mark.get("starter", writer))
    )


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
