"""The writer is killed, the database goes away: the search goes on, and nothing is lost."""

from __future__ import annotations

import json
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
ledger = open(f"ledger{{rank}}.jsonl", "w")

def objective(trial):
    x = trial.suggest_float("x", -5, 5)
    trial.report(x, 1)
    {fault}
    value = x * x
    print(json.dumps([trial.number, x, value]), file=ledger, flush=True)
    return value

study.optimize(objective, n_trials={n_trials})
"""

KILL = """
    if rank == 0 and trial.number // 2 in {300, 301, 302, 1500, 2600}:
        os.kill(study._storage._view._office._process._process.pid, signal.SIGKILL)
"""


def check_against_ledger(url: str, path: Path, n_ranks: int, n_trials: int) -> None:
    """Compare the database with what the objective itself wrote down."""
    evaluated = {}
    for rank in range(n_ranks):
        for line in (path / f"ledger{rank}.jsonl").read_text().splitlines():
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
    check_against_ledger(url, tmp_path, 2, 6000)
    assert "it is restarted" in outcome.stderr
