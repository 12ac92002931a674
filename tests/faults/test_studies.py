"""Studies that hold something else than expected: nothing is lost, nobody crashes."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
from optuna.trial import create_trial

import optuna_propulate


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

X = {"x": FloatDistribution(-5, 5)}
BAD_ATTRIBUTES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"island": "here", "worker": None, "generation": -3}, {}),
    ({"island": 10**12, "worker": True, "generation": 1.5}, {}),
    ({"island": [1], "worker": {}, "generation": "x"}, {"propulate:lineage": "corrupt"}),
    ({"island": 0}, {"propulate:lineage": {"parents": "all", "exchange": 3}}),
    ({"island": 0}, {"propulate:migrations": {"migrants": [[1, 2, 3, 4]], "policy": 7}}),
    ({"island": 0}, {"propulate:migrations": [1, 2]}),
    ({"island": 1}, {"propulate:news": {"added": [10**9]}}),
]


def _strange_study(url: str) -> optuna.Study:
    study = optuna.create_study(storage=url, study_name="s")
    for value, (user, system) in enumerate(BAD_ATTRIBUTES):
        study.add_trial(
            create_trial(
                params={"x": float(value) / 10}, distributions=X, value=float(value),
                user_attrs=user, system_attrs=system,
            )
        )  # fmt: skip
    study.add_trial(create_trial(value=3.0))  # without parameters
    study.add_trial(
        create_trial(
            params={"kind": "a"},
            distributions={"kind": CategoricalDistribution(("a", "b"))},
            value=4.0,
        )
    )
    study.add_trial(create_trial(state=TrialState.FAIL))
    study.enqueue_trial({"x": 4.5})
    study.optimize(lambda trial: trial.suggest_float("x", -5, 5), n_trials=5)  # by TPE
    study.enqueue_trial({"x": 4.25})
    return study


@pytest.mark.parametrize("n_ranks", [1, 2])
def test_strange_trials_are_bred_from_or_passed_over(
    mpiexec: Callable, tmp_path: Path, n_ranks: int
) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    before = len(_strange_study(url).trials)
    outcome = mpiexec(
        f"""
        import optuna_propulate
        study = optuna_propulate.create_study(
            "sqlite:///study.db", study_name="s", load_if_exists=True,
            sampler=optuna_propulate.PropulateSampler(islands={n_ranks}, population_size=5),
        )
        study.optimize(lambda trial: trial.suggest_float("x", -5, 5) ** 2, n_trials=60)
        study.summary()
        report(migrations=len(optuna_propulate.islands.migrations(study)))
        """,
        n_ranks,
    )
    assert outcome.status == 0, outcome.stderr
    trials = optuna.load_study(study_name="s", storage=url).trials
    assert [trial.number for trial in trials] == list(range(before + 59))
    assert {trial.state for trial in trials[-59:]} == {TrialState.COMPLETE}
    waited = trials[before - 1]
    assert (waited.state, waited.params) == (TrialState.COMPLETE, {"x": 4.25})


def test_the_schema_of_another_optuna_is_optunas_own_error(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(storage=url)
    with sqlite3.connect(tmp_path / "study.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'v1.3.0.a'")
    with pytest.raises(RuntimeError, match="optuna storage upgrade"):
        optuna_propulate.create_study(url)


def test_other_distributions_under_the_same_name_are_optunas_own_error(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(storage=url, study_name="s").optimize(
        lambda trial: trial.suggest_int("x", 0, 9), n_trials=3
    )
    study = optuna_propulate.load_study(url, study_name="s")
    with pytest.raises(ValueError, match="distribution kind"):
        study.optimize(lambda trial: trial.suggest_float("x", 0, 9), n_trials=1)
    assert study.trials[-1].state == TrialState.FAIL
