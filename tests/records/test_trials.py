"""Trials as evolution, figures and summaries see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from optuna.trial import create_trial

from optuna_propulate.records.summary import summarize
from optuna_propulate.storages.outlines import outlined_trials
from optuna_propulate.visualization import plot_best_values


if TYPE_CHECKING:
    from pathlib import Path


def fill(study: optuna.Study) -> None:
    """Put a trial of each kind into a study."""
    x = FloatDistribution(-9, 9)
    for state, value in (
        (TrialState.COMPLETE, 1.0),
        (TrialState.COMPLETE, float("inf")),
        (TrialState.PRUNED, 3.0),
        (TrialState.FAIL, None),
        (TrialState.WAITING, None),
        (TrialState.RUNNING, None),
    ):
        study.add_trial(
            create_trial(
                state=state,
                value=value if state.is_finished() else None,
                params={"x": 0.5},
                distributions={"x": x},
                user_attrs={"island": 1, "worker": 1, "names": ["é", None]},
                system_attrs={"propulate:lineage": {"operators": ["A"], "parents": [0]}},
                intermediate_values={} if value is None else {3: value},
            )
        )


def test_an_outline_has_all_but_parameters_and_reports(database: str) -> None:
    other = optuna.create_study(storage=database, study_name="other")
    study = optuna.create_study(storage=database, study_name="s")
    for _ in range(3):
        fill(study)
        fill(other)
    outlined = outlined_trials(study)
    whole = study.trials
    assert len(outlined) == len(whole) == 18
    for there, trial in zip(outlined, whole, strict=True):
        assert (there.params, there.distributions, there.intermediate_values) == ({}, {}, {})
        for what in (
            "number", "state", "values", "datetime_start", "datetime_complete", "user_attrs",
            "system_attrs", "_trial_id",
        ):  # fmt: skip
            assert getattr(there, what) == getattr(trial, what), what


def test_figures_and_summaries_of_a_database_read_as_those_in_memory(database: str) -> None:
    shown = []
    for storage in (database, None):
        study = optuna.create_study(storage=storage, study_name="s")
        fill(study)
        lines = summarize(study, 2).splitlines()
        shown.append([line for line in lines if "trials/s" not in line])
        assert plot_best_values(study).data
    assert shown[0] == shown[1]
    assert any("trial 0: {'x': 0.5}" in line for line in shown[0])


def test_a_study_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    study = optuna.create_study(storage=f"sqlite:///{path}")
    path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(StorageInternalError, match="cannot be read"):
        outlined_trials(study)
