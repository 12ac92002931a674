"""Several jobs add trials to one study, whatever is between them and the database."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

import optuna_propulate
from optuna_propulate.storages.batched import BatchedRDBStorage
from optuna_propulate.storages.client.rank import RankClient
from optuna_propulate.storages.writer.jobs import _started
from optuna_propulate.storages.writer.jobs import first_free_worker


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 60.0  # in seconds: how long a program may take on a busy machine
TAKEN_OVER_WITHIN = 30.0  # in seconds, of a job that has been killed

# Adds trials until there is a file "end".
ADDER = """
import os, sys, time, warnings
import optuna
from optuna_propulate import BatchedRDBStorage
optuna.logging.set_verbosity(optuna.logging.ERROR)
url, name = sys.argv[1:]
storage = BatchedRDBStorage(url, commit_timeout=5.0)
study = optuna.create_study(study_name="s", storage=storage, load_if_exists=True)
n_told = 0
try:
    while not os.path.exists("end"):
        trial = study.ask()
        trial.set_user_attr("token", f"{name} {trial.number}")
        study.tell(trial, trial.suggest_float("x", 0, 1))
        n_told += 1
        print("told", n_told, storage._client._handle._started._process.pid, flush=True)
        time.sleep(0.005)
    storage.close()
except RuntimeError as error:
    print("refused", error, flush=True)
"""


@pytest.fixture(params=["sqlite", "postgresql", "mysql", "pgbouncer"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/study.db"
    return str(request.getfixturevalue(request.param))


class Job:
    """A program that adds trials, in a process group of its own."""

    def __init__(self, url: str, name: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", ADDER, url, name], cwd=folder, stdout=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip
        self.writer = 0
        self._last: list[str] = []

    def lines(self) -> Iterator[list[str]]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._last = words = line.split(maxsplit=2)
            if words[0] == "told":
                self.writer = int(words[2])
            yield words

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: int) -> None:
        for process in (self._process.pid, self.writer):
            os.kill(process, number)

    def stop(self, path: Path) -> None:
        """Let it sleep, while it does not hold the lock of SQLite's file: nobody could write."""
        while True:
            self.signal(signal.SIGSTOP)
            try:
                with closing(sqlite3.connect(path, timeout=0.2)) as connection:
                    connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError:
                self.signal(signal.SIGCONT)
                time.sleep(0.05)

    def tell(self, n: int) -> None:
        """Wait until it has told of so many more trials."""
        words = list(islice(self.lines(), n))
        assert [word for word, *_ in words] == ["told"] * n

    @property
    def is_writing(self) -> bool:
        return _started(self.writer) != ""

    def wait(self) -> list[str]:
        """Return its last line."""
        for _ in self.lines():
            pass
        assert self._process.wait(PATIENCE) == 0
        return self._last


@pytest.fixture
def start(tmp_path: Path, url: str) -> Iterator[Callable[[str], Job]]:
    jobs: list[Job] = []

    def start(name: str) -> Job:
        jobs.append(Job(url, name, tmp_path))
        return jobs[-1]

    yield start
    for job in jobs:
        job._process.kill()
        job._process.wait()


def tokens_of(url: str) -> list[str]:
    trials = optuna.load_study(study_name="s", storage=url).trials
    assert [trial.number for trial in trials] == list(range(len(trials)))
    return [trial.user_attrs["token"] for trial in trials if trial.state == TrialState.COMPLETE]


def test_jobs_that_start_together_all_add_trials_and_numbers_are_dense_meanwhile(
    url: str, start: Callable[[str], Job], tmp_path: Path
) -> None:
    jobs = {name: start(name) for name in ("a", "b", "c")}
    for job in jobs.values():
        job.tell(50)  # while the others do
        tokens_of(url)
    (tmp_path / "end").touch()
    told = {name: int(job.wait()[1]) for name, job in jobs.items()}
    tokens = tokens_of(url)
    for name, n_told in told.items():
        assert sum(token.startswith(name) for token in tokens) == n_told
    trials = optuna.load_study(study_name="s", storage=url).trials
    assert all(
        trial.user_attrs["token"].endswith(f" {trial.number}")
        for trial in trials
        if trial.state.is_finished()
    )
    assert not [trial for trial in trials if trial.state == TrialState.RUNNING]


def test_what_one_job_enqueues_another_one_runs(url: str) -> None:
    program = """
import sys
import optuna
from optuna_propulate import BatchedRDBStorage
storage = BatchedRDBStorage(sys.argv[1])
study = optuna.load_study(study_name="s", storage=storage)
study.tell(study.ask(), 1.0)  # says on the way who else is there
print("told", flush=True)
assert sys.stdin.readline()
study.enqueue_trial({"x": 0.25})
trial = study.ask()
print(trial.suggest_float("x", 0, 1), flush=True)
study.enqueue_trial({"x": 0.75})
assert sys.stdin.readline()
"""
    storage = BatchedRDBStorage(url)
    study = optuna.create_study(storage=storage, study_name="s")
    study.tell(study.ask(), 0.0)
    other = subprocess.Popen(
        [sys.executable, "-c", program, url],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert other.stdin is not None
    assert other.stdout is not None
    assert other.stdout.readline() == "told\n"
    print("go on", file=other.stdin, flush=True)
    assert other.stdout.readline() == "0.25\n"  # its own is there at once
    deadline = time.monotonic() + PATIENCE
    while True:
        trial = study.ask()
        x = trial.suggest_float("x", 0, 1)
        study.tell(trial, x)
        if x == 0.75:
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    _, said = other.communicate("end\n", timeout=PATIENCE)
    assert other.returncode == 0
    assert f"Another job adds trials to study 's', too: 1 on {socket.gethostname()}." in said
    storage.close()


def test_a_killed_job_has_a_successor_soon(
    url: str, start: Callable[[str], Job], tmp_path: Path
) -> None:
    killed = start("a")
    killed.tell(100)
    killed.signal(signal.SIGKILL)
    begun = time.monotonic()
    successor = start("b")
    successor.tell(1)
    assert time.monotonic() - begun < TAKEN_OVER_WITHIN
    (tmp_path / "end").touch()
    n_told = int(successor.wait()[1])
    assert sum(token.startswith("b") for token in tokens_of(url)) == n_told


def test_a_job_that_slept_too_long_joins_again_and_loses_nothing(
    url: str, start: Callable[[str], Job], tmp_path: Path
) -> None:
    sleeper = start("a")
    sleeper.tell(100)
    sleeper.stop(tmp_path / "study.db")
    begun = time.monotonic()
    successor = start("b")
    successor.tell(1)
    assert time.monotonic() - begun < TAKEN_OVER_WITHIN
    sleeper.signal(signal.SIGCONT)
    successor.tell(100)
    sleeper.tell(100)
    (tmp_path / "end").touch()
    told = {"b": int(successor.wait()[1]), "a": int(sleeper.wait()[1])}
    deadline = time.monotonic() + PATIENCE
    while sleeper.is_writing or successor.is_writing:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    tokens = tokens_of(url)
    for name, n_told in told.items():
        own = [token for token in tokens if token.startswith(name)]
        assert len(own) == len(set(own)) == n_told
    assert not list(tmp_path.glob("optuna-propulate-*.jsonl"))


def test_storages_of_one_process_share_their_writer(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    first, second = BatchedRDBStorage(url), BatchedRDBStorage(url)
    study = optuna.create_study(storage=first, study_name="s")
    again = optuna.load_study(study_name="s", storage=second)
    numbers = [each.ask().number for each in (study, again, study, again)]
    assert numbers == [0, 1, 2, 3]
    first.close()
    again.tell(again.ask(), 1.0)
    second.close()
    plain = optuna.load_study(study_name="s", storage=url)
    assert [trial.number for trial in plain.trials] == [0, 1, 2, 3, 4]


def test_a_budget_for_all_jobs_is_met_exactly(url: str) -> None:
    program = """
import sys
import optuna, optuna_propulate
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna_propulate.create_study(sys.argv[1], study_name="s", load_if_exists=True)
n = 0
def objective(trial):
    global n
    n += 1
    return trial.suggest_float("x", -1, 1)
study.optimize(objective, n_trials_total=101)
study.optimize(objective, n_trials_total=101)
print(n)
"""
    command = [sys.executable, "-c", program, url]
    jobs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    n_run = [int(job.communicate(timeout=2 * PATIENCE)[0]) for job in jobs]
    trials = optuna.load_study(study_name="s", storage=url).trials
    assert [trial.state for trial in trials] == 101 * [TrialState.COMPLETE]
    assert sum(n_run) == 101


def test_a_job_finds_what_another_left_that_came_and_went_before_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    plain = optuna.create_study(study_name="s", storage=url)
    for _ in range(5):
        plain.add_trial(optuna.trial.create_trial(value=1.0))
    study = optuna_propulate.load_study(url, study_name="s")
    study.optimize(lambda _: 0.0, n_trials_total=5)  # it begins, and has no room
    assert len(study.trials) == 5
    hear = RankClient.hear

    def hear_of_no_waiting(client: RankClient, message: list[Any]) -> None:
        if message[0] != "waiting":
            hear(client, message)

    monkeypatch.setattr(RankClient, "hear", hear_of_no_waiting)
    program = """
import sys, optuna
from optuna_propulate import BatchedRDBStorage
study = optuna.load_study(study_name="s", storage=BatchedRDBStorage(sys.argv[1]))
study.tell(study.ask(), 1.0)
study.enqueue_trial({"x": 0.5})
study._storage.close()
"""
    subprocess.run([sys.executable, "-c", program, url], check=True, timeout=2 * PATIENCE)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials_total=7)
    assert [trial.number for trial in plain.trials] == list(range(7))
    assert plain.trials[6].values == [0.5]


@pytest.mark.parametrize(
    ("others", "n", "first"),
    [
        ([], 4, 0),
        ([(0, 4)], 2, 4),
        ([(0, 1), (2, 1)], 1, 1),
        ([(0, 1), (2, 1)], 2, 3),
        ([(4, 2)], 4, 0),
    ],
)
def test_workers_get_the_lowest_numbers_that_are_free(
    others: list[tuple[int, int]], n: int, first: int
) -> None:
    marks = [{"workers": [*workers]} for workers in others]
    assert first_free_worker([*marks, {"is_waiting": True}], n) == first
