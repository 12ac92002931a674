"""What a database does not take fails its own trial, is kept in a file, and harms no other."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.engine import make_url

from optuna_propulate import BatchedRDBStorage
from optuna_propulate.storages.writer.unfit import FAIL_REASON


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Spoil = Callable[[optuna.Trial], object]

EVERYWHERE = {"sqlite", "postgresql", "mysql"}

STRANGE: dict[str, tuple[Spoil, set[str]]] = {
    "a NUL in a value": (lambda t: t.set_user_attr("a", "\0"), EVERYWHERE),
    "a NUL in a key": (lambda t: t.set_user_attr("a\0b", 1), {"sqlite", "mysql"}),
    "a NUL in a name": (lambda t: t.suggest_int("a\0b", 0, 1), {"sqlite", "mysql"}),
    "a NUL in a choice": (lambda t: t.suggest_categorical("c", ["\0"]), EVERYWHERE),
    "a lone surrogate in a value": (lambda t: t.set_user_attr("a", "\ud800"), EVERYWHERE),
    "a lone surrogate in a key": (lambda t: t.set_user_attr("\ud800", 1), set()),
    "a lone surrogate in a name": (lambda t: t.suggest_int("\ud800", 0, 1), set()),
    "10,000 parameters": (
        lambda t: [t.suggest_float(f"p{n}", 0, 1) for n in range(10_000)],
        EVERYWHERE,
    ),
    "a step beyond 32 bits": (lambda t: t.report(0.5, 2**40), {"sqlite"}),
    "a step beyond 64 bits": (lambda t: t.report(0.5, 2**70), set()),
    "reports that are no numbers": (
        lambda t: [t.report(float(text), n) for n, text in enumerate(["nan", "inf", "-inf"])],
        EVERYWHERE,
    ),
    "a key of 600 characters": (lambda t: t.set_user_attr("k" * 600, 1), {"sqlite"}),
    "an attribute of 17 MB": (
        lambda t: t.set_user_attr("a", "x" * 17_000_000),
        {"sqlite", "postgresql"},
    ),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_a_trial_that_the_database_does_not_take_fails_alone(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    spoil, takers = STRANGE[kind]
    monkeypatch.chdir(tmp_path)  # where files are kept
    storage = BatchedRDBStorage(database, flush_interval=0.2, in_thread=True)
    study = optuna.create_study(storage=storage, study_name="s")
    trials = [study.ask() for _ in range(5)]
    spoil(trials[2])
    for trial in trials:
        study.tell(trial, trial.suggest_float("x", 0, 1))
    storage.close()

    stored = RDBStorage(database).get_all_trials(study._study_id)
    states = [trial.state.name for trial in stored]
    files = list(tmp_path.glob("*.jsonl"))
    if make_url(database).get_backend_name() in takers:
        assert states == ["COMPLETE"] * 5
        assert not files
        told = trials[2]
        assert stored[2].params == told.params
        assert stored[2].user_attrs == told.user_attrs
        return
    assert states == ["COMPLETE"] * 2 + ["FAIL"] + ["COMPLETE"] * 2
    assert stored[2].user_attrs[FAIL_REASON]
    (path,) = files
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {(line["study"], line["trial"][0]) for line in lines} == {("s", 2)}
    command = [sys.executable, "-m", "optuna_propulate", "import", path, "--storage", database]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "0 trials were put into the database; not fit for it: trial 2 of study 's'" in (
        done.stderr
    )
    assert "Traceback" not in done.stderr
    assert [t.state for t in RDBStorage(database).get_all_trials(study._study_id)] == [
        TrialState[state] for state in states
    ]
