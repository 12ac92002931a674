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
import math
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

def note(study, trial):
    print(json.dumps([trial.user_attrs["token"], time.time()]), file=journal, flush=True)

study.optimize(objective, n_trials_total=total, callbacks=[note])
"""


class Jobs:
    """The jobs of one study."""

    def __init__(self, url: str, folder: Path, choice: random.Random) -> None:
        self._url, self._folder, self._choice = url, folder, choice
        self._n_started = 0
        self.living: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, total: int) -> None:
        """Start one: a process, or two ranks."""
        n_ranks = self._choice.choice([0, 0, 2])
        launcher = [str(find_mpiexec()), "-n", str(n_ranks)] if n_ranks else []
        pause = self._choice.choice(["0.002", "0.02", "0.2"])
        name = f"job{self._n_started}"
        self._n_started += 1
        command = [*launcher, sys.executable, "-c", JOB, self._url, name, pause, str(total)]
        environment = {**os.environ, MARK: f"{self._folder}/{name}", "OMP_NUM_THREADS": "1"}
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

    def wait(self) -> list[int]:
        """Wait until all have ended; return their exit statuses."""
        return [job.wait(PATIENCE) for job in self.living.values()]


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


def run(url: str, folder: Path, n_kills: int, choice: random.Random) -> list[str]:
    """Let jobs come and be killed; return what is wrong at the end, and say what there was."""
    jobs, killed_at = Jobs(url, folder, choice), dict[str, float]()
    total = 1_000_000
    jobs.start(total)
    for _ in range(n_kills):
        while len(jobs.living) < MOST_JOBS:
            jobs.start(total)
        time.sleep(choice.uniform(0.5, 4.0))
        killed_at[jobs.kill()] = time.time()
    jobs.end()
    _wait_until_gone(folder)
    total = len(optuna.load_study(study_name="s", storage=url).trials) + 300
    for _ in range(3):
        jobs.start(total)
    statuses = jobs.wait()
    _wait_until_gone(folder)
    trials = optuna.load_study(study_name="s", storage=url).trials
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
    failed, waiting = states[TrialState.FAIL], states[TrialState.WAITING]
    cells = [url.partition(":")[0], n_kills, len(trials), failed, waiting, len(lost)]
    print("|", " | ".join(map(str, [*cells, sum(wrong.values())])), "|", flush=True)
    return [what for what, is_so in wrong.items() if is_so]


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
