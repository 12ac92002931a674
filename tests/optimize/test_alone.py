"""A process alone runs the same loop as a rank: these are its laws, without MPI."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.trial import TrialState

import optuna_propulate
from optuna_propulate.optimize.budget import Budget
from optuna_propulate.parallel.team import LocalTeam


if TYPE_CHECKING:
    from typing import Any


def sphere(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -5, 5) ** 2


def broken(trial: optuna.Trial) -> float:
    if trial.number == 7:
        raise ArithmeticError("the seventh")
    return sphere(trial)


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.trials]


def studies(**settings: Any) -> list[optuna.Study]:
    """Return a study of ours and one of Optuna's, with the same sampler."""
    return [
        create(sampler=optuna.samplers.RandomSampler(seed=1), **settings)
        for create in (optuna_propulate.create_study, optuna.create_study)
    ]


def stop_at_five(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    if trial.number == 4:
        study.stop()


@pytest.mark.parametrize(
    "arguments",
    [
        {"n_trials": 12},
        {"n_trials": 0},
        {"n_trials": 12, "catch": ArithmeticError},
        {"n_trials": 9, "catch": (ValueError, ArithmeticError)},
        {"n_trials": 1, "gc_after_trial": True},
        {"n_trials": 12, "callbacks": [stop_at_five]},
        {"n_trials": 12, "timeout": 0.0},
        {"n_trials": None, "timeout": 0.2},
        {"n_trials": 12, "n_jobs": 0},
        {"n_trials": 12, "callbacks": [3]},
        {"n_trials": 12, "catch": ["ArithmeticError"]},
    ],
    ids=lambda arguments: ",".join(arguments),
)
def test_it_does_what_optunas_own_loop_does(arguments: dict[str, Any]) -> None:
    ours, theirs = studies()
    outcomes = []
    for study in (ours, theirs):
        try:
            study.optimize(sphere if arguments["n_trials"] is None else broken, **arguments)
        except Exception as error:
            outcomes.append(type(error))
        else:
            outcomes.append(None)
    if arguments["n_trials"] is None:
        assert outcomes == [None, None]
        assert set(states(ours)) == set(states(theirs)) == {"COMPLETE"}
    elif arguments.get("n_jobs") == 0 or arguments.get("callbacks") == [3]:
        assert outcomes[0] in (TypeError, ValueError)  # Optuna finds out later, or never
        assert not ours.trials
    elif arguments.get("catch") == ["ArithmeticError"]:
        assert outcomes[0] is TypeError
        assert not ours.trials
    else:
        assert outcomes[0] is outcomes[1]
        assert states(ours) == states(theirs)
        assert [t.params for t in ours.trials] == [t.params for t in theirs.trials]


def test_threads_share_the_budget_and_an_error_ends_all_of_them() -> None:
    study = optuna_propulate.create_study()
    study.optimize(sphere, n_trials=50, n_jobs=4)
    assert states(study) == ["COMPLETE"] * 50

    def objective(trial: optuna.Trial) -> float:
        if trial.number == 60:
            raise ArithmeticError("the sixtieth")
        time.sleep(0.001)
        return sphere(trial)

    with pytest.raises(ArithmeticError, match="the sixtieth"):
        study.optimize(objective, n_jobs=4)  # which alone would never end
    assert study.trials[60].state == TrialState.FAIL
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE, TrialState.FAIL}
    study.optimize(sphere, n_trials=1)
    assert study.trials[-1].state == TrialState.COMPLETE


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_ends_a_search_though_a_finalizer_swallows_it() -> None:
    class Swallows:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)  # what the handler raises here is ignored

    def objective(trial: optuna.Trial) -> float:
        if trial.number == 3:
            Swallows()
        return trial.suggest_float("x", 0, 1)

    study = optuna_propulate.create_study()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            study.optimize(objective, n_trials=100)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert [trial.state for trial in study.trials] == 4 * [TrialState.COMPLETE]


def test_ctrl_c_ends_the_threads_of_a_search_without_end() -> None:
    study = optuna_propulate.create_study()

    def objective(trial: optuna.Trial) -> float:
        time.sleep(0.01)
        return sphere(trial)

    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # ignored below a shell's "&"
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            study.optimize(objective, n_jobs=2, timeout=100)  # else it would never end
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < 50
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}


def test_a_search_within_a_search_of_the_same_study_is_refused() -> None:
    study = optuna_propulate.create_study()
    with pytest.raises(RuntimeError, match="Nested"):
        study.optimize(lambda trial: study.optimize(sphere, n_trials=1) or 0.0, n_trials=1)


def test_a_budget_is_claimed_once_however_many_threads_ask() -> None:
    budget = Budget(LocalTeam(), 100)
    claimed: list[bool] = []

    def claim() -> None:
        claimed.extend(budget.claim() for _ in range(50))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(claimed) == 100
    assert not budget.claim()


def test_a_budget_that_was_closed_has_nothing_left_and_says_by_whom() -> None:
    budget = Budget(LocalTeam(), None)
    assert all(budget.claim() for _ in range(1000))
    assert budget.interrupted_by() == 0
    budget.interrupt(15)
    assert not budget.claim()
    assert budget.interrupted_by() == 15


def test_a_budget_of_the_study_counts_earlier_trials_and_not_those_that_wait() -> None:
    study = optuna_propulate.create_study()
    study.optimize(sphere, n_trials=3)
    study.enqueue_trial({"x": 0.5})
    study.optimize(sphere, n_trials_total=5)
    assert [trial.state for trial in study.trials] == 5 * [TrialState.COMPLETE]
    assert study.trials[3].params["x"] == 0.5
    study.optimize(sphere, n_trials_total=5)
    assert len(study.trials) == 5
    with pytest.raises(TypeError, match="n_trials_total"):
        study.optimize(sphere, n_trials_total=1.5)  # type: ignore[arg-type]
