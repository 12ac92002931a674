from __future__ import annotations

from datetime import datetime
from datetime import timedelta
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

import optuna_propulate
from optuna_propulate.islands import migrations
from optuna_propulate.records.migrations import residences
from optuna_propulate.records.summary import summarize


def _study(*trials: dict[str, Any]) -> optuna_propulate.IslandStudy:
    """Return a study of one trial per argument: its value, its island, its migrants."""
    study = optuna_propulate.create_study(study_name="s")
    for trial in trials:
        system = {}
        if "migrants" in trial:
            system["propulate:migrations"] = {
                "policy": trial.get("policy", "migration"),
                "time": trial["time"],
                "migrants": trial["migrants"],
            }
        study.add_trial(
            optuna.trial.create_trial(
                params={"x": trial["value"]},
                distributions={"x": FloatDistribution(-9, 9)},
                value=trial["value"],
                user_attrs={"island": trial["island"], "worker": trial["island"]},
                system_attrs=system,
            )
        )
    return study


def test_migrations_are_read_back_in_the_order_of_time() -> None:
    study = _study(
        {"value": 3.0, "island": 0, "time": 20.0, "migrants": [[0, 0, 1, 1]]},
        {"value": 2.0, "island": 1, "time": 10.0, "migrants": [[1, 1, 0, 0], [1, 1, 2, 2]]},
        {"value": 1.0, "island": 2},
    )
    records = migrations(study)
    assert [(r.number, r.origin, r.target, r.owner, r.after) for r in records] == [
        (1, 1, 0, 0, 1),
        (1, 1, 2, 2, 1),
        (0, 0, 1, 1, 0),
    ]
    assert [record.time.timestamp() for record in records] == [10.0, 10.0, 20.0]
    assert migrations(optuna.create_study()) == []


def test_who_went_there_and_back_lives_at_home_whatever_the_clocks_say() -> None:
    study = _study(
        {"value": 3.0, "island": 0, "time": 99.0, "migrants": [[0, 0, 1, 1], [1, 0, 1, 1]]},
        {"value": 2.0, "island": 0},
        {"value": 1.0, "island": 1, "time": 1.0, "migrants": [[0, 0, 0, 0]]},
    )
    assert residences(study.trials) == {0: 0, 1: 1}


def test_the_summary_shows_the_best_of_each_island_and_who_moved(
    capsys: pytest.CaptureFixture,
) -> None:
    study = _study(
        {"value": 3.0, "island": 0, "time": 1.0, "migrants": [[1, 0, 1, 1]]},
        {"value": 2.0, "island": 0},
        {"value": 4.0, "island": 1},
    )
    assert summarize(study, top_n=2).splitlines() == [
        "study s: 3 trials (3 complete)",
        "best 2, trial 1: {'x': 2.0}",
        "island 0: 1 individuals active, 2 bred here, 0 migrants in, 1 out (1 worker)",
        "  3, trial 0: {'x': 3.0}",
        "island 1: 2 individuals active, 1 bred here, 1 migrants in, 0 out (1 worker)",
        "  2, trial 1: {'x': 2.0}",
        "  4, trial 2: {'x': 4.0}",
    ]
    study.summary(top_n=2)
    assert capsys.readouterr().out == summarize(study, top_n=2) + "\n"
    with pytest.raises(ValueError, match="top_n must be at least 1, but got 0"):
        study.summary(top_n=0)


def test_trials_of_other_samplers_are_counted_apart() -> None:
    study = _study({"value": 3.0, "island": 0})
    study.add_trial(optuna.trial.create_trial(value=1.0))
    assert summarize(study).splitlines() == [
        "study s: 2 trials (2 complete)",
        "best 1, trial 1: {}",
        "island 0: 1 individuals active, 1 bred here, 0 migrants in, 0 out (1 worker)",
        "  3, trial 0: {'x': 3.0}",
        "no island: 1 individuals of other samplers",
    ]


def test_the_speed_is_that_of_the_latest_run() -> None:
    study = _study()
    first, second = datetime(2026, 1, 1, 12, 0), datetime(2026, 1, 2, 12, 0)
    for start, seconds in ((first, range(10)), (second, range(0, 40, 4))):
        for second_of in seconds:
            study.add_trial(
                FrozenTrial(
                    number=0, trial_id=0, state=TrialState.COMPLETE, value=float(second_of),
                    datetime_start=start + timedelta(seconds=second_of),
                    datetime_complete=start + timedelta(seconds=second_of + 4),
                    params={}, distributions={}, user_attrs={}, system_attrs={},
                    intermediate_values={},
                )
            )  # fmt: skip
    assert "0.25 trials/s in the latest of 2 runs" in summarize(study).splitlines()


def test_copies_are_no_individuals_of_their_own_in_the_summary() -> None:
    study = _study(
        {
            "value": 3.0,
            "island": 0,
            "policy": "pollination",
            "time": 1.0,
            "migrants": [[0, 0, 1, 1]],
        },
        {"value": 4.0, "island": 1},
    )
    assert summarize(study).splitlines()[2:] == [
        "island 0: 1 individuals active, 1 bred here, 0 migrants in, 1 out (1 worker)",
        "  3, trial 0: {'x': 3.0}",
        "island 1: 1 individuals active, 1 bred here, 1 migrants in, 0 out (1 worker)",
        "  4, trial 1: {'x': 4.0}",
    ]
