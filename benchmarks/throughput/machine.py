"""The machine on which the throughput benchmark runs: its programs, and who else is busy on it."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
import time
from datetime import datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version
from pathlib import Path


_LOOK = 0.5  # in seconds, for which the machine is looked at before it counts as quiet


def find_mpiexec() -> str | None:
    """Return the launcher: that of the environment, the one beside this Python, or any."""
    beside = str(Path(sys.executable).parent / "mpiexec")
    return shutil.which(os.environ.get("MPIEXEC") or beside) or shutil.which("mpiexec")


def describe() -> dict[str, object]:
    """Return what a reader of the figures has to know about the machine."""
    packages = {}
    for name in ("optuna", "optuna-propulate", "sqlalchemy", "numpy", "mpi4py", "psycopg"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "none"
    return {
        "when": datetime.now().astimezone().isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": packages,
        "load average": [round(load, 2) for load in os.getloadavg()],
    }


class Elsewhere:
    """Tells what share of the machine other processes take from here on.

    Those are all but this one and the descendants that it has waited for, so that a PostgreSQL
    server is among them.
    """

    def __init__(self) -> None:
        self._before = _busy_seconds(), _own_seconds(), time.monotonic()

    def share(self) -> float:
        """Return the share in [0, 1]; 0 where it cannot be told."""
        busy, own, since = self._before
        others = _busy_seconds() - busy - (_own_seconds() - own)
        return max(0.0, others) / ((time.monotonic() - since) * (os.cpu_count() or 1))


def wait_for_quiet(patience: float) -> None:
    """Wait until others leave nine tenths of the machine free, at most so many seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        others = Elsewhere()
        time.sleep(_LOOK)
        if others.share() < 0.1:
            return


def _busy_seconds() -> float:
    """Return how long the machine's cores were busy so far; 0 where it cannot be told."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return 0.0
    user, nice, system, _, _, irq, softirq, *_ = map(float, fields)
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        used = resource.getrusage(who)
        total += used.ru_utime + used.ru_stime
    return total
