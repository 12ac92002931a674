"""Chaos over jobs: many share one study, are killed at random, and others join meanwhile.

A law of this package that no test of a minute can show: whatever is killed, and whenever, nothing
that ended a second before is lost, no trial has two owners, none is left running, the numbers are
dense, and a budget for all jobs is met exactly. Between kills the server is restarted; where
there is a C compiler, the jobs' clocks are an hour apart; behind pgbouncer and on MariaDB, some
jobs run on a host of their own, whose network is cut and heals. Prints a line a database, and
exits with 1 if a law is broken::

    tox run -e chaos-jobs -- --kills 60 --databases SQLite PostgreSQL PgBouncer --seed 1
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from contextlib import closing
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.trial import TrialState

from benchmarks.throughput.machine import find_mpiexec


sys.path.insert(0, str(Path(__file__).parent.parent))
from support import servers
from support.network import SecondHost


if TYPE_CHECKING:
    from support.servers import Server

DATABASES = ["SQLite", "PostgreSQL", "PgBouncer", "MariaDB"]
MOST_JOBS = 4
SAFE_AFTER = 1.5  # in seconds: a flush interval and a transaction of a busy machine
PATIENCE = 120.0
PER_WAITING = 0.03
"""In seconds: what fast jobs had claimed when they were killed is run by others, one by one."""
AFTER_CUT = 5.0
"""In seconds: how long a job has, after a cut, to write what it could not."""
MARK = "PROPULATE_CHAOS"
"""The environment variable of all processes of a job that tells them from others."""

JOB = """
import json, os, sys, time
import optuna, optuna_propulate
optuna.logging.set_verbosity(optuna.logging.ERROR)
url, name, pause, total = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
study = optuna_propulate.create_study(url, study_name="s", load_if_exists=True)
journal = open(f"journal-{name}-{os.getpid()}.jsonl", "a")

def objective(trial):
    x = trial.suggest_float("x", -5, 5)
    token = f"{name} {os.getpid()} {trial.number} {time.time_ns()}"
    trial.set_user_attr("token", token)
    time.sleep(pause)
    return x * x

def note(study, trial):  # by a clock that all processes of a machine share
    print(json.dumps([trial.user_attrs["token"], time.monotonic()]), file=journal, flush=True)

study.optimize(objective, n_trials_total=total, callbacks=[note])
"""

CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long offset(void) { return atol(getenv("CLOCK_OFFSET")); }

int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += offset();
    return status;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec, now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *also) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return also ? (*also = now.tv_sec) : now.tv_sec;
}
"""
"""A library that sets a process's clock wrong by as many seconds as the environment says."""


@dataclass(frozen=True)
class Place:
    """Where a study is, and what can be done to it.

    Args:
        url: Of the database.
        server: What can be restarted; ``None`` for a file.
        host: Another host, from which the database is reached, too; ``None`` for none.
        clock: The library that sets clocks wrong; ``None`` for none.
    """

    url: str
    server: Server | None = None
    host: SecondHost | None = None
    clock: Path | None = None


class Jobs:
    """The jobs of one study."""

    def __init__(self, place: Place, folder: Path, choice: random.Random) -> None:
        self._place, self._folder, self._choice = place, folder, choice
        self._n_started = 0
        self.living: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, total: int) -> None:
        """Start one: a process, or two ranks."""
        n_ranks = self._choice.choice([0, 0, 2])
        launcher = [str(find_mpiexec()), "-n", str(n_ranks)] if n_ranks else []
        pause = self._choice.choice(["0.002", "0.02", "0.2"])
        name = f"job{self._n_started}"
        self._n_started += 1
        far = self._place.host.command if self._place.host and self._choice.random() < 0.4 else []
        command = [*far, *launcher, sys.executable, "-c", JOB]
        command += [self._place.url, name, pause, str(total)]
        environment = {**os.environ, MARK: f"{self._folder}/{name}", "OMP_NUM_THREADS": "1"}
        offset = self._choice.choice(["0", "-3600", "3600"])
        if self._place.clock:
            environment |= {"LD_PRELOAD": str(self._place.clock), "CLOCK_OFFSET": offset}
        with (self._folder / f"{name}.log").open("wb") as log:
            self.living[name] = subprocess.Popen(
                command, cwd=self._folder, stdout=log, stderr=log,
                start_new_session=True, env=environment,
            )  # fmt: skip

    def kill(self) -> str:
        """Kill one with all that it has started, its writer or not; return its name."""
        name = self._choice.choice(list(self.living))
        with_writer = self._choice.random() < 0.5
        for process, command in _processes(f"{self._folder}/{name}").items():
            if with_writer or b"storages.writer.serve" not in command:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        self.living.pop(name).wait()
        return name

    def end(self) -> None:
        """Let all end in order."""
        for job in self.living.values():
            job.send_signal(signal.SIGTERM)
        self.wait()
        self.living.clear()

    def wait(self, n_waiting: int = 0) -> list[int]:
        """Wait until all have ended, who run so many waiting trials; return their statuses."""
        deadline = time.monotonic() + PATIENCE + PER_WAITING * n_waiting
        return [job.wait(deadline - time.monotonic()) for job in self.living.values()]


def _processes(mark: str) -> dict[int, bytes]:
    """Return the command lines of all processes with a mark that begins so, by their ids."""
    found = {}
    for process in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            environment = (process / "environ").read_bytes().split(b"\0")
            if any(f"{entry.decode()}/".startswith(f"{MARK}={mark}/") for entry in environment):
                found[int(process.name)] = (process / "cmdline").read_bytes()
    return found


def _wait_until_gone(folder: Path) -> None:
    """Wait until no process of any job is left, so that all that was told is written."""
    deadline = time.monotonic() + PATIENCE
    while _processes(str(folder)):
        if time.monotonic() > deadline:
            raise TimeoutError("A process of a job does not end.")
        time.sleep(0.2)


def _journal(folder: Path) -> dict[str, float]:
    lines = [line for path in folder.glob("journal-*") for line in path.read_text().splitlines()]
    return dict(json.loads(line) for line in lines if line.endswith("]"))


def disturb(place: Place, choice: random.Random) -> bool:
    """Restart the server, or cut a host's network for a while, or do nothing; return whether."""
    what = choice.random()
    if place.server is not None and what < 0.2:
        place.server.stop()
        time.sleep(choice.uniform(0.0, 3.0))
        place.server.start()
    elif place.host is not None and what < 0.4:
        place.host.cut()
        time.sleep(choice.choice([2.0, 10.0, 25.0]))
        place.host.heal()
        time.sleep(AFTER_CUT)
    else:
        return False
    return True


def run(place: Place, folder: Path, n_kills: int, choice: random.Random) -> list[str]:
    """Let jobs come and be killed; return what is wrong at the end, and say what there was."""
    jobs, killed_at = Jobs(place, folder, choice), dict[str, float]()
    n_disturbed = 0
    total = 1_000_000
    jobs.start(total)
    for _ in range(n_kills):
        while len(jobs.living) < MOST_JOBS:
            jobs.start(total)
        time.sleep(choice.uniform(0.5, 4.0))
        if disturb(place, choice):
            n_disturbed += 1
            time.sleep(SAFE_AFTER)
        killed_at[jobs.kill()] = time.monotonic()
    jobs.end()
    _wait_until_gone(folder)
    left = optuna.load_study(study_name="s", storage=place.url).trials
    n_waiting = sum(trial.state == TrialState.WAITING for trial in left)
    total = len(left) + 300
    for _ in range(3):
        jobs.start(total)
    statuses = jobs.wait(n_waiting)
    _wait_until_gone(folder)
    trials = optuna.load_study(study_name="s", storage=place.url).trials
    states = Counter(trial.state for trial in trials)
    tokens = [t.user_attrs["token"] for t in trials if t.state == TrialState.COMPLETE]
    journal = _journal(folder)
    lost = set(journal) - set(tokens)
    late = [t for t in lost if journal[t] < killed_at.get(t.split()[0], math.inf) - SAFE_AFTER]
    wrong = {
        "numbers are not dense": [t.number for t in trials] != list(range(len(trials))),
        "two owners": len(tokens) != len(set(tokens)),
        "left running": states[TrialState.RUNNING] > 0,
        f"lost: {late[:3]}": bool(late),
        f"a job ended with {statuses}": any(statuses),
        f"{len(trials)} trials, not {total}": len(trials) != total,
    }
    cells = [
        n_disturbed, len(trials), states[TrialState.FAIL], states[TrialState.WAITING],
        len(lost), sum(wrong.values()),
    ]  # fmt: skip
    print("|", " | ".join(map(str, [n_kills, *cells])), "|", flush=True)
    return [what for what, is_so in wrong.items() if is_so]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=DATABASES)
    parser.add_argument("--folder", help="keeps what the jobs said; must be empty")
    flags = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print("| database | kills | away | trials | failed | waiting | lost as promised | wrong |")
    print("|---|---|---|---|---|---|---|---|")
    problems = []
    for database in flags.databases:
        with ExitStack() as stack:
            top = flags.folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-"))
            folder = Path(top) / database
            folder.mkdir(parents=True)
            place = replace(_place(database, folder, stack), clock=_wrong_clock(folder))
            print(f"| {database} ", end="", flush=True)
            found = run(place, folder, flags.kills, random.Random(flags.seed))
        problems += [f"{database}: {problem}" for problem in found]
    for problem in problems:
        print(problem)
    sys.exit(bool(problems))


def _wrong_clock(folder: Path) -> Path | None:
    """Compile the library that sets clocks wrong."""
    if not shutil.which("cc"):
        print("There is no C compiler: all clocks are right.")
        return None
    library = folder / "clock.so"
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library), "-ldl"]
    subprocess.run(command, input=CLOCK, text=True, check=True)
    return library


def _place(database: str, folder: Path, stack: ExitStack) -> Place:
    """Start a database, and another host where it can be reached over a network."""
    if database == "SQLite":
        return Place(f"sqlite:///{folder}/study.db")
    server: Server
    if database == "PostgreSQL":
        server = servers.PostgreSQL(folder)
        stack.callback(server.close)
        return Place(server.url.replace("postgresql:", "postgresql+psycopg:"), server)
    host = stack.enter_context(closing(SecondHost()))
    kind = servers.PgBouncer if database == "PgBouncer" else servers.MariaDB
    server = kind(folder, host.here)
    stack.callback(server.close)
    return Place(server.url, server, host)


if __name__ == "__main__":
    main()
