"""Chaos over jobs: many share one study, are killed at random, and others join meanwhile.

A law of this package that no test of a minute can show: whatever is killed, and whenever, nothing
that ended a second before is lost, no trial has two owners, none is left running, the numbers are
dense, and a budget for all jobs is met exactly. Prints a line a database, and exits with 1 if one
of these is broken::

    tox run -e chaos-jobs -- --kills 60 --databases SQLite PostgreSQL --seed 1
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import optuna
from optuna.trial import TrialState

from benchmarks.throughput.databases import fresh_database
from benchmarks.throughput.databases import postgresql_server
from benchmarks.throughput.machine import find_mpiexec


MOST_JOBS = 4
SAFE_AFTER = 1.5  # in seconds: a flush interval and a transaction of a busy machine
PATIENCE = 120.0

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

def note(study, trial):
    print(json.dumps([trial.user_attrs["token"], time.time()]), file=journal, flush=True)

study.optimize(objective, n_trials_total=total, callbacks=[note])
"""


class Jobs:
    """The jobs of one study."""

    def __init__(self, url: str, folder: Path, choice: random.Random) -> None:
        self._url, self._folder, self._choice = url, folder, choice
        self._n_started = 0
        self.living: list[subprocess.Popen[bytes]] = []

    def start(self, total: int) -> None:
        """Start one: a process, or two ranks."""
        n_ranks = self._choice.choice([0, 0, 2])
        launcher = [str(find_mpiexec()), "-n", str(n_ranks)] if n_ranks else []
        pause = self._choice.choice(["0.002", "0.02", "0.2"])
        name = f"job{self._n_started}"
        self._n_started += 1
        command = [*launcher, sys.executable, "-c", JOB, self._url, name, pause, str(total)]
        log = (self._folder / f"{name}.log").open("wb")
        self.living.append(
            subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log,
                             start_new_session=True, env=_environment(self._folder))
        )  # fmt: skip

    def kill(self) -> None:
        """Kill one with all that it has started, its writer or not."""
        job = self._choice.choice(self.living)
        self.living.remove(job)
        for process in _processes(self._folder, job.pid, with_writer=self._choice.random() < 0.5):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        job.wait()

    def wait(self) -> list[int]:
        """Wait until all have ended; return their exit statuses."""
        return [job.wait(PATIENCE) for job in self.living]


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PROPULATE_CHAOS": str(folder), "OMP_NUM_THREADS": "1"}


def _processes(folder: Path, session: int, *, with_writer: bool) -> list[int]:
    """Return the processes of a job, by the session that it was started in."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            stat = (process / "stat").read_text().rpartition(")")[2].split()
            is_writer = b"storages.writer.serve" in (process / "cmdline").read_bytes()
            if int(stat[3]) == session and (with_writer or not is_writer):
                found.append(int(process.name))
    return found


def _journal(folder: Path) -> dict[str, float]:
    lines = [line for path in folder.glob("journal-*") for line in path.read_text().splitlines()]
    return dict(json.loads(line) for line in lines if line.endswith("]"))


def run(url: str, folder: Path, n_kills: int, choice: random.Random) -> list[str]:
    """Let jobs come and be killed; return what is wrong at the end, and say what there was."""
    jobs, ends = Jobs(url, folder, choice), list[float]()
    total = 1_000_000
    jobs.start(total)
    for _ in range(n_kills):
        while len(jobs.living) < MOST_JOBS:
            jobs.start(total)
        time.sleep(choice.uniform(0.5, 4.0))
        jobs.kill()
        ends.append(time.time())
    n_before = len(optuna.load_study(study_name="s", storage=url).trials)
    for job in list(jobs.living):
        jobs.living.remove(job)
        job.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            job.wait(PATIENCE)
    time.sleep(20.0)  # in which the dead are found by the next
    n_before = len(optuna.load_study(study_name="s", storage=url).trials)
    total = n_before + 300
    for _ in range(3):
        jobs.start(total)
    statuses = jobs.wait()
    deadline = time.monotonic() + PATIENCE
    while _living_writers(folder) and time.monotonic() < deadline:
        time.sleep(0.2)
    trials = optuna.load_study(study_name="s", storage=url).trials
    states = Counter(trial.state for trial in trials)
    tokens = [t.user_attrs["token"] for t in trials if t.state == TrialState.COMPLETE]
    journal = _journal(folder)
    lost = set(journal) - set(tokens)
    late = [token for token in lost if not any(0 <= e - journal[token] < SAFE_AFTER for e in ends)]
    wrong = {
        "numbers are not dense": [t.number for t in trials] != list(range(len(trials))),
        "two owners": len(tokens) != len(set(tokens)),
        "left running": states[TrialState.RUNNING] > 0,
        f"lost: {late[:3]}": bool(late),
        f"a job ended with {statuses}": any(statuses),
        f"{len(trials)} trials, not {total}": len(trials) != total,
    }
    failed, waiting = states[TrialState.FAIL], states[TrialState.WAITING]
    cells = [url.partition(":")[0], n_kills, len(trials), failed, waiting, len(lost)]
    print("|", " | ".join(map(str, [*cells, sum(wrong.values())])), "|", flush=True)
    return [what for what, is_so in wrong.items() if is_so]


def _living_writers(folder: Path) -> bool:
    mark = f"PROPULATE_CHAOS={folder}".encode()
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0"):
                return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--databases", nargs="+", default=["SQLite", "PostgreSQL"])
    flags = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print("| database | kills | trials | failed | waiting | lost within the promise | wrong |")
    print("|---|---|---|---|---|---|---|")
    problems = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as top:
        with postgresql_server(Path(top) / "postgresql") as server:
            for database in flags.databases:
                folder = Path(tempfile.mkdtemp(dir=top))
                with fresh_database(database, folder, server) as url:
                    found = run(url, folder, flags.kills, random.Random(flags.seed))
                problems += [f"{database}: {problem}" for problem in found]
    for problem in problems:
        print(problem)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
