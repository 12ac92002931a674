"""A host's network is cut in the middle of a search, and heals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.trial import TrialState
from support import servers
from support.network import SecondHost


if TYPE_CHECKING:
    from pathlib import Path

    from support.servers import Server


CUT = 25.0  # in seconds: longer than it takes the others to think that a job is dead
JOB = """
import json, os, sys, time
import optuna, optuna_propulate
url, name = sys.argv[1:]
storage = optuna_propulate.BatchedRDBStorage(url)
study = optuna_propulate.create_study(storage, study_name="s", load_if_exists=True)
journal = open(f"{name}.jsonl", "w")

def objective(trial):
    trial.set_user_attr("token", f"{name} {trial.number} {time.time_ns()}")
    time.sleep(0.05)
    return trial.suggest_float("x", -5, 5) ** 2

def note(study, trial):
    print(json.dumps(trial.user_attrs["token"]), file=journal, flush=True)
    if os.path.exists("end"):
        study.stop()

study.optimize(objective, callbacks=[note])
"""


@pytest.mark.parametrize("database", ["pgbouncer", "mysql"])
def test_a_host_whose_network_is_cut_joins_again_and_loses_nothing(
    tmp_path: Path, database: str
) -> None:
    try:
        host = SecondHost()
    except servers.MissingError as error:
        pytest.skip(str(error))
    with closing(host):
        try:
            make = {"pgbouncer": servers.PgBouncer, "mysql": servers.MariaDB}[database]
            server = make(tmp_path, host.here)
        except servers.MissingError as error:
            pytest.skip(str(error))
        try:
            _run(tmp_path, host, server)
        finally:
            server.close()


def _run(folder: Path, host: SecondHost, server: Server) -> None:
    jobs = {}
    for name, at in {"near": [], "far": host.command}.items():
        command = [*at, sys.executable, "-c", JOB, server.url, name]
        with (folder / f"{name}.log").open("wb") as log:
            jobs[name] = subprocess.Popen(
                command, cwd=folder, env={**os.environ, "HOME": str(folder)},
                stdout=log, stderr=log,
            )  # fmt: skip
    try:
        servers.wait_until(lambda: all(len(_told(folder, name)) > 20 for name in jobs))
        host.cut()
        before = len(_told(folder, "near"))
        time.sleep(CUT)
        assert len(_told(folder, "near")) > before + 10  # the others go on meanwhile
        host.heal()
        healed_at = len(_told(folder, "far"))
        servers.wait_until(lambda: len(_told(folder, "far")) > healed_at + 10)
        (folder / "end").touch()
        assert [job.wait(120) for job in jobs.values()] == [0, 0]
    except BaseException:
        for name in jobs:
            print(name, (folder / f"{name}.log").read_text()[-3000:])
        raise
    finally:
        for job in jobs.values():
            job.kill()
            job.wait()
    trials = optuna.load_study(study_name="s", storage=server.url).trials
    tokens = [t.user_attrs["token"] for t in trials if t.state == TrialState.COMPLETE]
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert set(tokens) == set(_told(folder, "near") + _told(folder, "far"))
    assert len(tokens) == len(set(tokens))
    states = Counter(trial.state for trial in trials)
    assert not states[TrialState.RUNNING]
    assert states[TrialState.FAIL] <= 2
    assert not list(folder.glob("optuna-propulate-*.jsonl"))


def _told(folder: Path, name: str) -> list[str]:
    """Return what a job noted of the trials that it told."""
    path = folder / f"{name}.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]
