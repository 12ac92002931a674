"""An archipelago of processes that share a database and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import optuna

from optuna_propulate import Migration
from optuna_propulate import PropulateSampler
from optuna_propulate.evolution.ranking import by_loss
from optuna_propulate.islands import migrations
from optuna_propulate.records.conversion import individual_of


if TYPE_CHECKING:
    from pathlib import Path

    import pytest

PROGRAM = """
import optuna
from optuna_propulate import {policy}, PropulateSampler

optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.load_study(
    study_name="s",
    storage="sqlite:///study.db",
    sampler=PropulateSampler(islands=2, population_size=6, migration={policy}(0.5), seed=3),
)
study.optimize(lambda trial: trial.suggest_float("x", -5, 5) ** 2, n_trials=40)
"""
ISLANDS = [0, 0, 1]


def _search(path: Path, policy: str) -> optuna.Study:
    """Let three processes, two of them on island 0, run forty trials each."""
    url = f"sqlite:///{path}/study.db"
    optuna.create_study(storage=url, study_name="s")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(policy=policy)],
            cwd=path,
            env={**os.environ, "OPTUNA_PROPULATE_ISLAND": str(island)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for island in ISLANDS
    ]
    for process in processes:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
    return optuna.load_study(study_name="s", storage=url)


def _pool(
    path: Path, island: int, policy: Migration | None, monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """Return the breeding pool of a process that joins an island now, by trial numbers."""
    monkeypatch.setenv("OPTUNA_PROPULATE_ISLAND", str(island))
    sampler = PropulateSampler(islands=2, population_size=6, migration=policy)
    study = optuna.load_study(
        study_name="s", storage=f"sqlite:///{path}/study.db", sampler=sampler
    )
    study.ask()
    return [individual.number for individual in sampler.breeding_pool(study)]


def test_processes_breed_from_their_own_island_and_from_immigrants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = _search(tmp_path, "Pollination")
    trials = study.trials
    assert Counter(trial.user_attrs["island"] for trial in trials) == {0: 80, 1: 40}
    assert len({trial.user_attrs["worker"] for trial in trials}) == 3
    records = migrations(study)
    came = {(record.number, record.target) for record in records}
    homes = [trial.user_attrs["island"] for trial in trials]
    n_bred_from_immigrants = 0
    for trial in trials:
        lineage = trial.system_attrs["propulate:lineage"]
        for parent in lineage["parents"]:
            if homes[parent] != homes[trial.number]:
                assert (parent, homes[trial.number]) in came
                n_bred_from_immigrants += 1
        assert all(home != homes[trial.number] for home in lineage.get("immigrant_homes", ()))
    assert n_bred_from_immigrants > 0


def test_a_process_that_joins_later_knows_who_left_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = _search(tmp_path, "Migration")
    trials = study.trials
    stays = Counter({(trial.number, trial.user_attrs["island"]): 1 for trial in trials})
    for record in migrations(study):
        stays[record.number, record.origin] -= 1
        stays[record.number, record.target] += 1
    assert set(stays.values()) <= {0, 1}
    for island in (0, 1):
        here = [number for (number, home), n in stays.items() if home == island and n]
        ranked = sorted(here, key=lambda n: by_loss(individual_of(trials[n], study.direction, 2)))
        assert _pool(tmp_path, island, Migration(0.0), monkeypatch) == ranked[:6]


def test_migrations_are_kept_as_json_on_the_trials_after_which_they_left(tmp_path: Path) -> None:
    study = _search(tmp_path, "Pollination")
    records = migrations(study)
    assert records == sorted(records, key=lambda record: record.time)
    written = {
        trial.number: json.loads(json.dumps(trial.system_attrs["propulate:migrations"]))
        for trial in study.trials
        if "propulate:migrations" in trial.system_attrs
    }
    assert sum(len(record["migrants"]) for record in written.values()) == len(records) > 0
    for record in records:
        assert record.after in written
        assert {record.origin, record.target} == {0, 1}
        assert record.policy == "pollination"
        assert study.trials[record.number].user_attrs["worker"] == record.worker
