"""A search ends when it is good enough, or gets no better: over all ranks, and exactly."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.terminator import TerminatorCallback
from optuna.trial import TrialState

import optuna_propulate
from optuna_propulate.optimize.budget import Budget
from optuna_propulate.optimize.goal import Goal
from optuna_propulate.optimize.goal import _ordered
from optuna_propulate.parallel.team import LocalTeam
from optuna_propulate.records.ending import end_of
from optuna_propulate.records.summary import summarize


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from optuna_propulate import IslandStudy


def searched(
    losses: list[float | None], direction: str = "minimize", **goal: float
) -> IslandStudy:
    """Return a study whose trials have these values; one without a value is pruned."""
    study = optuna_propulate.create_study(direction=direction)

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("x", 0, 1)
        value = losses[trial.number]
        if value is None:
            raise optuna.TrialPruned
        if math.isnan(value):
            raise ArithmeticError
        return value

    study.optimize(objective, n_trials=len(losses), catch=ArithmeticError, **goal)  # type: ignore[arg-type]
    return study


@given(st.lists(st.one_of(st.floats(-2, 2), st.none()), max_size=30), st.integers(1, 6))
def test_patience_counts_evaluations_since_the_best(
    losses: list[float | None], patience: int
) -> None:
    expected, best, since = 0, math.inf, 0
    for loss in losses:
        expected += 1
        if loss is not None and loss < best:
            best, since = loss, 0
        else:
            since += 1
        if since == patience:
            break
    study = optuna_propulate.create_study()
    budget = Budget(LocalTeam(), None)
    (count,) = Goal(study, LocalTeam(), budget, None, patience).callbacks
    n = 0
    for number, loss in enumerate(losses):
        if not budget.claim():
            break
        state = TrialState.PRUNED if loss is None else TrialState.COMPLETE
        count(study, optuna.trial.create_trial(state=state, value=loss))
        n = number + 1
    assert n == expected


@given(st.lists(st.floats(allow_nan=False), min_size=2))
def test_integers_have_the_order_of_their_floats(values: list[float]) -> None:
    assert sorted(values) == sorted(values, key=_ordered)
    assert len({_ordered(value) for value in values}) == len(set(values))
    assert all(-(2**63) < _ordered(value) < 2**63 for value in values)


@pytest.mark.parametrize(
    ("direction", "losses", "target", "n"),
    [
        ("minimize", [5.0, 3.0, 1.0, 0.5, 4.0], 1.0, 3),
        ("maximize", [-5.0, 3.0, 1.0, 7.5, 4.0], 3.0, 2),
        ("minimize", [5.0, -math.inf, 1.0], -1e308, 2),
        ("minimize", [5.0, 3.0], 1.0, 2),
        ("minimize", [0.5], 1.0, 1),
    ],
)
def test_no_trial_starts_once_the_target_is_reached(
    direction: str, losses: list[float], target: float, n: int
) -> None:
    assert len(searched([*losses], direction, target=target).trials) == n


def test_the_reason_is_kept_and_said() -> None:
    study = searched([3.0, 1.0, 2.0], target=1.5)
    assert end_of(study) == "the target of 1.5 was reached"
    assert "ended: the target of 1.5 was reached" in summarize(study)
    study = searched([3.0, 4.0, 5.0, 6.0], patience=2)
    assert end_of(study) == "2 trials in a row were no better than the best"
    assert len(study.trials) == 3
    assert end_of(searched([3.0, 4.0], patience=2)) is None


def test_failed_and_pruned_trials_are_no_better() -> None:
    nan = math.nan
    assert len(searched([3.0, nan, 2.0, nan, None, None, 1.0], patience=2).trials) == 5


def test_what_the_study_had_before_counts() -> None:
    study = searched([3.0, 1.0])
    study.optimize(lambda trial: 2.0, n_trials=10, patience=3)
    assert len(study.trials) == 5
    study.optimize(lambda trial: 2.0, n_trials=10, target=1.0)
    assert len(study.trials) == 5


def test_an_infeasible_trial_is_not_good_enough() -> None:
    study = optuna_propulate.create_study()

    def objective(trial: optuna.Trial) -> float:
        trial.set_constraint("c", 1.0 if trial.number < 3 else -1.0)
        return trial.suggest_float("x", 0, 1)

    study.optimize(objective, n_trials=10, target=2.0)
    assert len(study.trials) == 4


def test_a_terminator_of_optuna_ends_a_search() -> None:
    study = optuna_propulate.create_study()

    class AfterSeven(optuna.terminator.BaseTerminator):
        def should_terminate(self, study: optuna.Study) -> bool:
            return len(study.trials) >= 7

    study.optimize(
        lambda trial: trial.suggest_float("x", 0, 1),
        n_trials=50,
        callbacks=[TerminatorCallback(AfterSeven())],
    )
    assert len(study.trials) == 7


@pytest.mark.parametrize(
    ("goal", "kind", "reason"),
    [
        ({"target": math.nan}, ValueError, "target"),
        ({"target": "0.5"}, TypeError, "target must be a number"),
        ({"patience": 0}, ValueError, "patience must be at least 1"),
        ({"patience": 2.5}, TypeError, "patience must be an integer"),
    ],
)
def test_what_is_no_goal_is_refused(
    goal: dict[str, float], kind: type[Exception], reason: str
) -> None:
    with pytest.raises(kind, match=reason):
        searched([1.0], **goal)


def test_several_objectives_have_no_goal() -> None:
    study = optuna_propulate.create_study(
        directions=["minimize", "minimize"], sampler=optuna.samplers.RandomSampler()
    )
    with pytest.raises(ValueError, match="one objective"):
        study.optimize(lambda trial: (1.0, 2.0), n_trials=2, target=1.0)


def test_ranks_stop_together(mpiexec: Callable, tmp_path: Path) -> None:
    patience = random.Random(1).randint(5, 15)
    outcome = mpiexec(
        f"""
        import time
        import optuna_propulate
        from optuna_propulate.records.ending import end_of

        study = optuna_propulate.create_study(study_name="p")

        def objective(trial):
            time.sleep(0.02)
            return 1.0

        study.optimize(objective, n_trials=500, patience={patience})
        n, why = len(study.trials), end_of(study)
        study = optuna_propulate.create_study(study_name="t")
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=5000, target=0.2)
        report(n=n, why=why, n_of_target=len(study.trials), best=study.best_value)
        """,
        3,
    )
    assert outcome.status == 0, outcome.stderr
    for rank in outcome.ranks:
        # the first to end is the best; two others are under way at the end, or have just claimed
        assert patience + 1 <= rank["n"] <= patience + 5
        assert rank["why"] == f"{patience} trials in a row were no better than the best"
        assert rank["best"] <= 0.2
        assert rank["n_of_target"] < 500
