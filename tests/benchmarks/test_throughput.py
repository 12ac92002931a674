from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import optuna
import pytest


if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent.parent
FIGURES_OF_LONG_RUNS = ("µs a trial, last fifth", "... means", "peak memory")


def measure(folder: Path, *flags: str) -> tuple[str, dict[str, Any]]:
    """Run the benchmark with few trials; return its output, and what it saved."""
    saved = folder / "throughput.json"
    command = [sys.executable, "-m", "benchmarks.throughput", "--quick", "--json", str(saved)]
    process = subprocess.run(
        [*command, *flags], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout, json.loads(saved.read_text())


def test_every_contender_is_measured_or_said_to_be_left_out(
    tmp_path: Path, mpiexec: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROPULATE_PYTHON", raising=False)
    output, saved = measure(tmp_path)
    assert "left out: propulate on none" in output
    measured = {(c["sampler"], c["storage"]): c["runs"] for c in saved["contenders"]}
    expected = {
        (sampler, storage)
        for sampler in ("optuna-propulate", "RandomSampler", "NSGAIISampler")
        for storage in ("SQLite", "PostgreSQL", "memory")
    }
    for sampler in ("bulk, Core", "bulk, driver"):
        expected |= {(sampler, "SQLite"), (sampler, "PostgreSQL")}
    expected |= {("RandomSampler", "journal file"), ("RandomSampler", "gRPC, PostgreSQL")}
    if "left out: RandomSampler on gRPC" in output:
        expected -= {("RandomSampler", "gRPC, PostgreSQL")}
    assert measured.keys() == expected
    for (sampler, storage), runs in measured.items():
        assert f"{sampler:17}{storage:17}" in output
        assert not runs[0]["problems"]
        assert runs[0]["seconds"] > 0.0
    assert len(measured["optuna-propulate", "SQLite"][0]["curve"]) == 10
    for figure in saved["figures"]:
        is_missing = "propulate" in figure["name"] or "settling" in figure["name"]
        is_missing = is_missing or figure["name"].startswith(FIGURES_OF_LONG_RUNS)
        assert (figure["median"] is None) == is_missing
        assert (figure["name"] in output) != figure["name"].startswith(FIGURES_OF_LONG_RUNS)


def test_long_runs_tell_whether_time_and_memory_grow(tmp_path: Path, mpiexec: Callable) -> None:
    output, saved = measure(tmp_path, "--flat", "--memory")
    assert [c["n_trials"] for c in saved["contenders"]] == [400, 4000]
    assert all(len(c["runs"][0]["peaks"]) == 2 for c in saved["contenders"])
    found = {figure["name"]: figure["median"] for figure in saved["figures"]}
    for name, value in found.items():
        assert (value is not None) == name.startswith(FIGURES_OF_LONG_RUNS)
    assert output.count("peak memory of the ranks after") == 2


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE trials SET number = 1 WHERE number = 2",
        "UPDATE trials SET number = number + 1",
        "UPDATE trials SET state = 'RUNNING' WHERE number = 2",
        "UPDATE trials SET datetime_start = datetime(datetime_complete, '+1 hour')",
        "DELETE FROM trials WHERE number = 2",
        "DELETE FROM trial_params WHERE trial_id = 2",
        "DELETE FROM trial_values WHERE trial_id = 2",
        "DELETE FROM trial_user_attributes WHERE trial_id = 2 AND key = 'worker'",
        "UPDATE trial_system_attributes SET trial_id = 99 WHERE trial_id = 2",
    ],
)
def test_wrong_rows_are_found(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.throughput.databases import wrong_rows

    path = tmp_path / "study.db"
    url = f"sqlite:///{path}"
    study = optuna.create_study(storage=url)
    for _ in range(4):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        for key in ("island", "worker", "generation"):
            trial.set_user_attr(key, 0)
        study._storage.set_trial_system_attr(trial._trial_id, "propulate:lineage", {})
        study.tell(trial, 0.0)
    assert wrong_rows(url, 4, 1) == []
    connection = sqlite3.connect(path)
    connection.execute(damage)
    connection.commit()
    connection.close()
    assert wrong_rows(url, 4, 1)
