"""Objectives that misbehave: what that means is Optuna's own."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

import optuna_propulate
from optuna_propulate import BatchedRDBStorage


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from pathlib import Path


def _raises(trial: optuna.Trial) -> float:
    trial.suggest_float("x", 0, 1)
    raise ArithmeticError("bad luck")


def _prunes(trial: optuna.Trial) -> float:
    trial.suggest_float("x", 0, 1)
    trial.report(3.0, step=1)
    trial.report(float("nan"), step=2)
    trial.report(2.0, step=5)
    raise optuna.TrialPruned


def _moves_the_range(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", trial.number, trial.number + 1)


def _changes_the_categories(trial: optuna.Trial) -> float:
    return trial.suggest_categorical("c", [0.0, float(trial.number // 2)])


def _changes_the_kind(trial: optuna.Trial) -> float:
    if trial.number % 2:
        return trial.suggest_int("x", 0, 9)
    return trial.suggest_float("x", 0, 1)


def _asks_twice(trial: optuna.Trial) -> float:
    first = trial.suggest_float("x", 0, 1)
    assert trial.suggest_float("x", 0, 1) == first
    return first


def _has_many_parameters(trial: optuna.Trial) -> float:
    return sum(trial.suggest_float(f"x{n}", 0, 1) for n in range(1000))


def _has_a_long_category(trial: optuna.Trial) -> float:
    return float(len(trial.suggest_categorical("c", ["a" * 10_000, "b"])))


def _sets_attributes(trial: optuna.Trial) -> float:
    trial.set_user_attr("nested", {"a": [1, None, "ü"]})
    trial.set_constraint("size", -1.0)
    trial.set_user_attr("bad", object())
    return 1.0


def _returns(value: Any) -> Callable[[optuna.Trial], Any]:
    def objective(trial: optuna.Trial) -> Any:
        trial.suggest_float("x", 0, 1)
        return value

    return objective


def _tensor(trial: optuna.Trial) -> Any:
    import torch

    trial.suggest_float("x", 0, 1)
    return torch.tensor(0.5)


OBJECTIVES: dict[str, Callable[[optuna.Trial], Any]] = {
    "raises": _raises,
    "prunes": _prunes,
    "moves the range": _moves_the_range,
    "changes the categories": _changes_the_categories,
    "changes the kind": _changes_the_kind,
    "asks twice": _asks_twice,
    "many parameters": _has_many_parameters,
    "long category": _has_a_long_category,
    "attributes": _sets_attributes,
    "tensor": _tensor,
    "nan": _returns(float("nan")),
    "inf": _returns(float("inf")),
    "minus inf": _returns(float("-inf")),
    "None": _returns(None),
    "text": _returns("three"),
    "number as text": _returns("3"),
    "numpy scalar": _returns(np.float32(0.25)),
    "numpy array": _returns(np.array([0.25])),
    "tuple of one": _returns((1.0,)),
    "tuple of two": _returns((1.0, 2.0)),
    "bool": _returns(True),
}


def _facts(study: optuna.Study) -> list[Any]:
    return [
        (
            trial.state,
            repr(trial.values) if trial.state != TrialState.COMPLETE else type(trial.value),
            list(trial.params),
            trial.distributions,
            repr(trial.intermediate_values),
            {k: v for k, v in trial.user_attrs.items() if k in ("nested", "bad")},
            trial.constraints,
        )
        for trial in study.trials
    ]


def _run(study: optuna.Study, objective: Any, catch: Any) -> str | None:
    try:
        study.optimize(objective, n_trials=4, catch=catch)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BatchedRDBStorage]:
    storage = BatchedRDBStorage(f"sqlite:///{tmp_path_factory.mktemp('objectives')}/study.db")
    yield storage
    storage.close()


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("catch", [(), (Exception,)], ids=["uncaught", "caught"])
def test_a_bad_objective_means_what_it_means_to_optuna(
    storage: BatchedRDBStorage, tmp_path: Path, name: str, catch: tuple[type[Exception], ...]
) -> None:
    study_name = f"{name} {catch}"
    ours = optuna_propulate.create_study(storage, study_name=study_name)
    theirs = optuna.create_study(
        # Optuna's memory takes attributes that its RDB refuses.
        storage=f"sqlite:///{tmp_path}/theirs.db" if name == "attributes" else None,
        sampler=optuna_propulate.PropulateSampler(),
    )
    errors = [_run(study, OBJECTIVES[name], catch) for study in (ours, theirs)]
    assert errors[0] == errors[1]
    assert _facts(ours) == _facts(theirs)
    plain = optuna.load_study(study_name=study_name, storage=storage._url)
    assert _facts(plain) == _facts(theirs)


def test_an_exception_under_mpi_loses_nothing_that_was_told(
    mpiexec: Callable, tmp_path: Path
) -> None:
    outcome = mpiexec(
        """
        import optuna_propulate
        study = optuna_propulate.create_study("sqlite:///study.db", study_name="s")

        def objective(trial):
            x = trial.suggest_float("x", 0, 1)
            if study.sampler.configuration.worker == 1 and trial.number > 20:
                raise ArithmeticError("bad luck")
            return x

        study.optimize(objective, n_trials=1000)
        """,
        2,
    )
    assert outcome.status != 0
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/study.db")
    assert [t.state for t in study.trials].count(TrialState.FAIL) == 1
    assert [trial.number for trial in study.trials] == list(range(len(study.trials)))


def test_choices_that_cannot_be_pickled_end_no_search_of_ranks(mpiexec: Callable) -> None:
    outcome = mpiexec(
        """
        import optuna, optuna_propulate
        study = optuna.create_study(sampler=optuna_propulate.PropulateSampler(seed=1))
        choices = [abs, lambda x: x]

        def objective(trial):
            activation = trial.suggest_categorical("activation", choices)
            return activation(trial.suggest_float("x", -1, 1))

        study.optimize(objective, n_trials=150)
        report(n=len(study.trials), best=study.best_value)
        """,
        2,
    )
    assert outcome.status == 0, outcome.stderr
    assert [rank["n"] for rank in outcome.ranks] == [150, 150]
    assert all(rank["best"] < -0.9 for rank in outcome.ranks)
    assert outcome.stderr.count("choices that cannot be pickled") == 2  # once a rank
