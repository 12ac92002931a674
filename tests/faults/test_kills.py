"""Jobs that are killed: what was finished is there, and the next job goes on from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import TrialState


if TYPE_CHECKING:
    from collections.abc import Callable

SEARCH = """
import json, signal, time
import optuna_propulate
from optuna_propulate import PropulateSampler
try:
    from mpi4py import MPI
    rank = MPI.COMM_WORLD.rank
except ImportError:
    rank = 0
study = optuna_propulate.create_study(
    {url!r}, study_name="s", load_if_exists=True,
    sampler=PropulateSampler(islands={islands}, population_size=6, seed=1),
)
journal = open("journal.jsonl", "a")
n_mine = 0

def objective(trial):
    global n_mine
    x = trial.suggest_float("x", -5, 5)
    n_mine += 1
    {fault}
    print(json.dumps([trial.number, x, time.time()]), file=journal, flush=True)
    return x * x

study.optimize(objective, n_trials={n_trials})
report(
    pool=[i.number for i in study.sampler.breeding_pool(study)],
    island=study.sampler.configuration.island,
)
"""

MARK = "OPTUNA_PROPULATE_TEST"  # in the environment of all that a job starts


@pytest.fixture(autouse=True)
def _mark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(MARK, str(tmp_path))


def writers(folder: Path) -> list[int]:
    """Return the writers that still run of jobs that the test with this folder has started."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_bytes()
            environment = (process / "environ").read_bytes().split(b"\0")
            is_writer = b"optuna_propulate.storages.writer.serve" in command
            if is_writer and f"{MARK}={folder}".encode() in environment:
                found.append(int(process.name))
        except OSError:
            continue  # it has ended, or is no process
    return found


def wait_until_gone(folder: Path, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while writers(folder):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def evaluated(path: Path) -> dict[int, tuple[float, float]]:
    lines = (path / "journal.jsonl").read_text().splitlines()
    return {number: (x, when) for number, x, when in map(json.loads, lines)}


def check(url: str, path: Path, kept_after: float) -> list[optuna.trial.FrozenTrial]:
    """Check that the study is whole, and return its trials.

    Args:
        url: The database.
        path: Where the objective wrote down what it returned.
        kept_after: What ended before this time must be in the database.
    """
    trials = optuna.load_study(study_name="s", storage=url).trials
    assert [trial.number for trial in trials] == list(range(len(trials)))
    journal = evaluated(path)
    for trial in trials:
        if trial.state == TrialState.COMPLETE:
            x = trial.params["x"]
            assert trial.value == x * x
            assert journal[trial.number][0] == x
    complete = {trial.number for trial in trials if trial.state == TrialState.COMPLETE}
    assert {number for number, (_, when) in journal.items() if when < kept_after} <= complete
    return trials


@pytest.mark.parametrize("whom", ["rank 0", "rank 1", "launcher"])
def test_what_was_finished_before_a_kill_is_in_the_database(
    mpiexec: Callable, tmp_path: Path, whom: str
) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    launcher = "int(open(f'/proc/{os.getppid()}/stat').read().split()[3])"  # above its proxy
    victim = launcher if whom == "launcher" else "os.getpid()"
    rank = 1 if whom == "rank 1" else 0
    fault = f"""
    time.sleep(0.002)
    if rank == {rank} and n_mine == 500:
        os.kill({victim}, signal.SIGKILL)
        time.sleep(60)
    """
    outcome = mpiexec(SEARCH.format(url=url, islands=1, n_trials=5000, fault=fault), 2)
    assert outcome.status != 0
    wait_until_gone(tmp_path)
    killed_at = max(when for _, when in evaluated(tmp_path).values())
    trials = check(url, tmp_path, killed_at - 1.0)  # an interval of 0.5 s and a transaction
    assert len(trials) > 500


def test_a_job_goes_on_with_other_ranks_and_islands(mpiexec: Callable, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    fault = """
    time.sleep(0.005)
    if rank == 1 and n_mine == 60:
        storage = optuna.storages.RDBStorage("sqlite:///study.db")
        plain = optuna.load_study(study_name="s", storage=storage)
        plain.ask().set_user_attr("plain", True)
        open("asked", "w").close()
    if rank == 0 and n_mine == 150:
        while not os.path.exists("asked"):
            time.sleep(0.05)
        time.sleep(1.5)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    outcome = mpiexec(SEARCH.format(url=url, islands=2, n_trials=5000, fault=fault), 2)
    assert outcome.status != 0
    wait_until_gone(tmp_path)
    trials = check(url, tmp_path, 0.0)
    running = [trial for trial in trials if trial.state == TrialState.RUNNING]
    plain = [trial.number for trial in running if "plain" in trial.user_attrs]
    left = [trial.number for trial in running if "plain" not in trial.user_attrs]
    assert len(plain) == 1
    assert 1 <= len(left) <= 3

    for n_ranks, islands in ((3, 3), (1, 1)):
        n_before = len(optuna.load_study(study_name="s", storage=url).trials)
        search = SEARCH.format(url=url, islands=islands, n_trials=120, fault="")
        outcome = mpiexec(search, n_ranks)
        assert outcome.status == 0, outcome.stderr
        trials = check(url, tmp_path, 0.0)
        assert len(trials) == n_before + 120
        assert {trial.state for trial in trials[n_before:]} == {TrialState.COMPLETE}
        states = {number: trials[number].state for number in (*plain, *left)}
        assert states.pop(plain[0]) == TrialState.RUNNING
        assert set(states.values()) == {TrialState.FAIL}
        assert all(trials[number].datetime_complete for number in left)
        bred = [t for t in trials[n_before:] if t.user_attrs["generation"] > 0]
        assert len(bred) > 90  # nobody starts anew
        parents = {n for t in bred for n in t.system_attrs["propulate:lineage"]["parents"]}
        assert min(parents) < n_before  # they breed from what the job before them left
    best = sorted(
        (trial for trial in trials if trial.state == TrialState.COMPLETE),
        key=lambda trial: (trial.value, trial.number),
    )
    assert set(outcome.ranks[0]["pool"]) == {trial.number for trial in best[:6]}


RETRY = """
import os, signal, optuna, optuna_propulate
storage = optuna_propulate.BatchedRDBStorage({url!r}, retry=2)
study = optuna_propulate.create_study(storage, study_name="s", load_if_exists=True)
if len(study.trials) == 0:
    study.enqueue_trial({{"x": 0.75}})

def objective(trial):
    x = trial.suggest_float("x", 0, 1)
    if x == 0.75:
        storage.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return x

study.optimize(objective, n_trials=3)
"""


def test_a_trial_is_run_again_as_often_as_asked_for_with_its_parameters(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    command = [sys.executable, "-c", RETRY.format(url=url)]
    statuses = []
    for _ in range(4):
        process = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        statuses.append(process.returncode)
        wait_until_gone(tmp_path)
    assert statuses == [-9, -9, -9, 0]
    trials = optuna.load_study(study_name="s", storage=url).trials
    killed = [trial for trial in trials if trial.params["x"] == 0.75]
    assert [trial.state for trial in killed] == [TrialState.FAIL] * 3
    assert {trial.state for trial in trials if trial not in killed} == {TrialState.COMPLETE}
    histories = [RetryHeartbeatStaleTrialCallback.retry_history(trial) for trial in killed]
    numbers = [trial.number for trial in killed]
    assert histories == [numbers[:n] for n in range(3)]


def test_one_process_goes_on_where_many_ranks_were_killed(tmp_path: Path) -> None:
    program = (
        "import os, signal, optuna_propulate\n"
        f"study = optuna_propulate.create_study('sqlite:///{tmp_path}/study.db', study_name='s',"
        " load_if_exists=True)\n"
        "def objective(trial):\n"
        "    if trial.number == 20 and os.environ.get('KILL'):\n"
        "        study._storage.flush()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return trial.suggest_float('x', 0, 1)\n"
        "study.optimize(objective, n_trials=30)\n"
    )
    command = [sys.executable, "-c", program]
    killed = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "KILL": "1"}, timeout=60, check=False
    )
    assert killed.returncode == -9
    wait_until_gone(tmp_path)
    subprocess.run(command, cwd=tmp_path, timeout=60, check=True)
    trials = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/study.db").trials
    assert [trial.number for trial in trials] == list(range(51))
    assert [trial.number for trial in trials if trial.state == TrialState.FAIL] == [20]
