"""What the database does not take for long is kept in a file, and comes back once."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from datetime import timezone
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.trial import TrialState
from optuna.trial import create_trial

from optuna_propulate.storages.wire.changes import Change
from optuna_propulate.storages.wire.times import local
from optuna_propulate.storages.writer.spill import Spill
from optuna_propulate.storages.writer.spill import import_trials


if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import logging, os, signal, sqlite3, time
import optuna_propulate

said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
logging.getLogger("optuna").addHandler(handler)
storage = optuna_propulate.BatchedRDBStorage("sqlite:///study.db", commit_timeout=1.0,
    engine_kwargs={"connect_args": {"timeout": 0.2}})
study = optuna_propulate.create_study(storage, study_name="s")

def objective(trial):
    x = trial.suggest_float("x", -5, 5)
    trial.report(x, 3)
    return x

study.optimize(objective, n_trials=20)
lock = sqlite3.connect("study.db", isolation_level=None)
lock.execute("BEGIN IMMEDIATE")
for trial in [study.ask() for _ in range(30)]:
    study.tell(trial, objective(trial))
print([(trial.number, trial.value) for trial in study.trials], flush=True)
deadline = time.monotonic() + 30
while not any(".jsonl" in line for line in said):
    assert time.monotonic() < deadline
    time.sleep(0.1)
writer = storage._client._handle._started._process.pid
os.kill(writer, signal.SIGKILL)  # the machine goes down
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_kept_in_a_file_is_imported_once(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, timeout=90,
        check=False,
    )  # fmt: skip
    assert process.returncode == -9, process.stderr
    returned = dict(json.loads(process.stdout.replace("(", "[").replace(")", "]")))
    assert len(returned) == 50
    url = f"sqlite:///{tmp_path}/study.db"
    study = optuna.load_study(study_name="s", storage=url)
    assert len(study.trials) == 20
    study.add_trial(optuna.trial.create_trial(value=7.0))  # takes the number 20
    (path,) = tmp_path.glob("*.jsonl")
    assert str(path) in process.stderr

    command = [sys.executable, "-m", "optuna_propulate", "import", str(path), "--storage", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "30 trials were put into the database.\n"
    assert import_trials(path, url) == 0
    trials = optuna.load_study(study_name="s", storage=url).trials
    assert [trial.number for trial in trials] == list(range(51))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    imported = {
        int(trial.system_attrs["propulate:imported"].split(":")[1]): trial for trial in trials[21:]
    }
    assert sorted(imported) == list(range(20, 50))
    for number, trial in imported.items():
        assert trial.value == trial.params["x"] == returned[number]
        assert trial.intermediate_values == {3: trial.value}
        assert trial.user_attrs["worker"] == 0
        assert trial.datetime_complete is not None


def test_what_is_no_spill_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_text('{"study": "s"}\n')
    with pytest.raises(ValueError, match="Line 1 of"):
        import_trials(path, f"sqlite:///{tmp_path}/study.db")


def test_a_trial_of_another_job_in_the_same_second_is_another(
    database: str, tmp_path: Path
) -> None:
    second = datetime(2026, 1, 1, 12, tzinfo=timezone.utc).replace(tzinfo=None)
    study = optuna.create_study(storage=database, study_name="s")
    distribution = optuna.distributions.FloatDistribution(0, 1)
    there = create_trial(value=0.25, params={"x": 0.25}, distributions={"x": distribution})
    there.datetime_start = local(second)
    study.add_trial(there)
    text = optuna.distributions.distribution_to_json(distribution)
    kept = [
        Change(0, None, "COMPLETE", str(second), str(second), [("x", x, text)], [x], {}, {}, [])
        for x in (0.25, 0.75)
    ]
    for job, change in zip(
        ("a", "b"), kept, strict=True
    ):  # the first is the row; not so the other
        Spill(tmp_path, job).add("s", [change])
        path = Spill(tmp_path, job).path
        assert import_trials(path, database) == (job == "b")
        assert import_trials(path, database) == 0
    values = [trial.value for trial in study.get_trials()]
    assert values == [0.25, 0.75]
