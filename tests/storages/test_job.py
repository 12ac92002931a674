"""Real ranks, the writer, and whoever else uses the database meanwhile."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from support.servers import free_port


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHILDREN = [
    "trial_params", "trial_values", "trial_user_attributes", "trial_system_attributes",
    "trial_intermediate_values",
]  # fmt: skip


def check_rows(path: Path, n_trials: int, n_params: int) -> None:
    """Check that every table holds what so many complete trials make, and nothing else."""
    with sqlite3.connect(path) as database:

        def one(query: str) -> Any:
            return database.execute(query).fetchone()[0]

        assert one("SELECT count(*) FROM trials WHERE state = 'COMPLETE'") == n_trials
        numbers = [number for (number,) in database.execute("SELECT number FROM trials")]
        assert sorted(numbers) == list(range(n_trials))
        assert one("SELECT count(*) FROM trial_params") == n_params * n_trials
        assert one("SELECT count(*) FROM trial_values") == n_trials
        for name in ("island", "worker", "generation"):
            query = f"SELECT count(*) FROM trial_user_attributes WHERE key = '{name}'"
            assert one(query) == n_trials
        query = "SELECT count(*) FROM trial_system_attributes WHERE key = 'propulate:lineage'"
        assert one(query) == n_trials
        for child in CHILDREN:
            orphans = (
                f"SELECT count(*) FROM {child} WHERE trial_id NOT IN (SELECT trial_id FROM trials)"
            )
            assert one(orphans) == 0
        assert one("SELECT count(*) FROM trials WHERE datetime_start > datetime_complete") == 0
        newest = one("SELECT max(strftime('%s', datetime_complete)) FROM trials")
        assert abs(int(newest) - time.time()) < 600  # in UTC, whatever the time zone here


def test_thousands_of_trials_leave_the_rows_that_they_should(
    mpiexec: Callable, tmp_path: Path
) -> None:
    outcome = mpiexec(
        """
        import optuna_propulate
        study = optuna_propulate.create_study("sqlite:///study.db", study_name="s")
        study.optimize(sphere, n_trials=4000)
        report(best=study.best_value)
        """,
        3,
        environ={"TZ": "Asia/Kolkata"},
    )
    assert outcome.status == 0, outcome.stderr
    check_rows(tmp_path / "study.db", 4000, 2)
    url = f"sqlite:///{tmp_path}/study.db"
    plain = optuna.load_study(study_name="s", storage=url)
    assert {rank["best"] for rank in outcome.ranks} == {plain.best_value}
    plain.optimize(lambda trial: trial.suggest_float("x", -5, 5), n_trials=1)
    assert plain.trials[-1].number == 4000


class Dashboard:
    """A dashboard in a process of its own, asked over HTTP."""

    def __init__(self, url: str, port: int) -> None:
        program = str(__import__("pathlib").Path(sys.executable).parent / "optuna-dashboard")
        self.process = subprocess.Popen([program, url, "--port", str(port)])
        self.address = f"http://127.0.0.1:{port}/api/studies"

    def ask(self, path: str = "") -> Any:
        with urllib.request.urlopen(self.address + path, timeout=30) as answer:
            return json.load(answer)

    def wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.ask()
            except urllib.error.URLError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            else:
                return


def _values_of_x(study: optuna.Study) -> set[float]:
    trials = study.get_trials(states=[TrialState.COMPLETE], deepcopy=False)
    return {trial.params["x"] for trial in trials}


def check_poll(trials: list[optuna.trial.FrozenTrial]) -> None:
    """Check that no trial is half written."""
    assert [trial.number for trial in trials] == list(range(len(trials)))
    for trial in trials:
        if trial.state == TrialState.COMPLETE:
            assert trial.values is not None
            assert trial.params.keys() == {"x", "y"}
            assert trial.user_attrs.keys() == {"island", "worker", "generation"}
            assert trial.datetime_complete is not None


def test_others_read_and_add_trials_while_ranks_write(mpiexec: Callable, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    plain = optuna.create_study(storage=RDBStorage(url), study_name="s")
    script = tmp_path / "outside.py"
    script.write_text(
        "import os, time, optuna_propulate, optuna\n"
        "optuna.logging.set_verbosity(optuna.logging.WARNING)\n"
        f"study = optuna_propulate.create_study({url!r}, study_name='s', load_if_exists=True)\n"
        "def objective(trial):\n"
        "    x, y = trial.suggest_float('x', -5, 5), trial.suggest_float('y', -5, 5)\n"
        "    time.sleep(0.03)\n"
        "    if os.path.exists('enough'):\n"
        "        study.stop()\n"
        "    return x * x + y * y\n"
        "study.optimize(objective, timeout=250)\n"
    )
    launcher = mpiexec.launcher
    ranks = subprocess.Popen(
        [launcher, "-n", "2", sys.executable, str(script)], start_new_session=True, cwd=tmp_path
    )
    dashboard = Dashboard(url, free_port())
    wanted: list[float] = []
    n_polls, asked_at = 0, time.monotonic()
    try:
        dashboard.wait(30)
        deadline = time.monotonic() + 60
        while not plain.get_trials(states=[TrialState.COMPLETE]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        while n_polls < 30 or len(wanted) < 5:
            assert ranks.poll() is None
            trials = plain.get_trials(deepcopy=False)
            check_poll(trials)
            shown = dashboard.ask(f"/{plain._study_id}?after=0")["trials"]
            numbers = [trial["number"] for trial in shown]  # in the order of the ids
            assert sorted(numbers) == list(range(len(numbers)))
            for trial in shown:
                assert trial["state"] != "Complete" or len(trial["params"]) == 2
            if time.monotonic() - asked_at > 1.0:
                asked_at = time.monotonic()
                wanted.append(4.0 + len(wanted) / 100)
                plain.enqueue_trial({"x": wanted[-1], "y": 1.0})
            n_polls += 1
            time.sleep(0.1)
        while not set(wanted) <= _values_of_x(plain):
            assert time.monotonic() < deadline + 60
            time.sleep(0.1)
        (tmp_path / "enough").touch()
        assert ranks.wait(60) == 0
    finally:
        ranks.kill()
        dashboard.process.kill()
    trials = plain.get_trials()
    check_poll(trials)
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    fixed = [trial.params["x"] for trial in trials if "fixed_params" in trial.system_attrs]
    assert sorted(fixed) == wanted


def test_running_trials_are_seen_with_their_parameters_and_reports(
    mpiexec: Callable, tmp_path: Path
) -> None:
    outcome = mpiexec(
        """
        import ctypes, sqlite3, time
        import optuna_propulate
        study = optuna_propulate.create_study("sqlite:///study.db", study_name="s")
        seen = []

        def objective(trial):
            x = trial.suggest_float("x", 0, 1)
            trial.report(0.5, step=1)
            if study.sampler.configuration.worker == 0:
                ctypes.PyDLL(None).sleep(3)  # holds the interpreter's lock
            else:
                time.sleep(1)
                with sqlite3.connect("study.db") as database:
                    seen.extend(database.execute(
                        "SELECT state, param_name, intermediate_value, value_json FROM trials "
                        "JOIN trial_params USING (trial_id) "
                        "JOIN trial_intermediate_values USING (trial_id) "
                        "JOIN trial_user_attributes USING (trial_id) WHERE key = 'worker'"
                    ))
            return x

        study.optimize(objective, n_trials=2)
        report(seen=seen)
        """,
        2,
    )
    assert outcome.status == 0, outcome.stderr
    assert sorted(outcome.ranks[1]["seen"]) == [
        ["RUNNING", "x", 0.5, "0"],
        ["RUNNING", "x", 0.5, "1"],
    ]


def test_a_rank_that_holds_the_interpreters_lock_delays_nobody(
    mpiexec: Callable, tmp_path: Path
) -> None:
    outcome = mpiexec(
        """
        import ctypes, sqlite3, time
        import optuna_propulate
        from mpi4py import MPI
        rank = MPI.COMM_WORLD.rank
        storage = optuna_propulate.BatchedRDBStorage(
            "sqlite:///study.db", comm=MPI.COMM_WORLD, flush_interval=0.1
        )
        study = optuna_propulate.create_study(storage)
        holds, commits = [], []

        def objective(trial):
            x = trial.suggest_float("x", 0, 1)
            if rank == 1:
                holds.append(time.time())
                ctypes.PyDLL(None).sleep(2)
            else:
                time.sleep(0.15)  # longer than the flush interval: committed by its tell
            return x

        def note(study, trial):
            with sqlite3.connect("study.db") as database:
                (state,) = database.execute(
                    "SELECT state FROM trials WHERE number = ?", (trial.number,)
                ).fetchone()
            told = time.time() - trial.datetime_complete.timestamp()
            commits.append((time.time(), state, told))

        study.optimize(objective, timeout=5, callbacks=[note])
        report(holds=holds, commits=commits)
        """,
        2,
    )
    assert outcome.status == 0, outcome.stderr
    busy, free = outcome.ranks[1], outcome.ranks[0]
    during = [
        told for at, state, told in free["commits"]
        if any(start + 0.2 < at < start + 1.9 for start in busy["holds"])
    ]  # fmt: skip
    assert len(during) >= 8
    assert {state for _, state, _ in free["commits"]} == {"COMPLETE"}
    assert max(during) < 1.0
