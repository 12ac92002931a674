from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING

import optuna
import pytest

import optuna_propulate


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SEARCH = """
import optuna_propulate
study = optuna_propulate.create_study(
    "sqlite:///study.db", study_name="s",
    sampler=optuna_propulate.PropulateSampler(seed=1, islands={islands}),
)
study.optimize(sphere, n_trials={n_trials}, n_jobs={n_jobs})
pool = study.sampler.breeding_pool(study)
report(best=study.best_value, pool=[i.number for i in pool], island=pool and pool[0].island)
"""


def _trials(path: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=None, storage=f"sqlite:///{path}/study.db").trials


@pytest.mark.parametrize(("n_jobs", "islands"), [(1, 1), (2, 1), (1, 2)])
def test_ranks_share_one_budget_and_one_breeding_pool(
    mpiexec: Callable, tmp_path: Path, n_jobs: int, islands: int
) -> None:
    outcome = mpiexec(SEARCH.format(islands=islands, n_trials=60, n_jobs=n_jobs), 4)
    assert outcome.status == 0, outcome.stderr
    trials = _trials(tmp_path)
    assert [trial.number for trial in trials] == list(range(60))
    assert {trial.user_attrs["worker"] for trial in trials} == {0, 1, 2, 3}
    assert {trial.user_attrs["island"] for trial in trials} == set(range(islands))
    assert len({rank["best"] for rank in outcome.ranks}) == 1
    for peers in (outcome.ranks[:2], outcome.ranks[2:]):
        assert peers[0]["pool"] == peers[1]["pool"]
    if islands == 1:
        assert outcome.ranks[0]["pool"] == outcome.ranks[2]["pool"]


def test_eight_ranks_create_a_study_on_an_empty_database(
    mpiexec: Callable, tmp_path: Path
) -> None:
    outcome = mpiexec(SEARCH.format(islands=3, n_trials=16, n_jobs=1), 8)
    assert outcome.status == 0, outcome.stderr
    with sqlite3.connect(tmp_path / "study.db") as database:
        assert database.execute("SELECT count(*) FROM studies").fetchone() == (1,)
    assert len(_trials(tmp_path)) == 16


def test_an_uncaught_exception_ends_every_rank(mpiexec: Callable) -> None:
    outcome = mpiexec(
        """
        import time
        import optuna_propulate
        study = optuna_propulate.create_study("sqlite:///study.db")

        def objective(trial):
            if study.sampler.configuration.worker == 1:
                raise ArithmeticError("out of luck")
            time.sleep(600)

        study.optimize(objective, n_trials=10)
        """,
        3,
        timeout=60,
    )
    assert outcome.status != 0
    assert "MPI rank 1 of 3" in outcome.stderr
    assert "out of luck" in outcome.stderr


def test_stop_on_any_rank_stops_the_job(mpiexec: Callable, tmp_path: Path) -> None:
    outcome = mpiexec(
        """
        import optuna_propulate
        study = optuna_propulate.create_study("sqlite:///study.db")

        def objective(trial):
            if study.sampler.configuration.worker == 2 and trial.number > 3:
                study.stop()
            return sphere(trial)

        study.optimize(objective, n_trials=100000)
        report(n=len(study.trials))
        """,
        3,
    )
    assert outcome.status == 0, outcome.stderr
    assert len({rank["n"] for rank in outcome.ranks}) == 1
    assert len(_trials(tmp_path)) < 1000


def test_a_drop_in_script_exchanges_individuals(mpiexec: Callable) -> None:
    outcome = mpiexec(
        """
        import time
        from mpi4py import MPI
        from optuna_propulate import PropulateSampler
        study = optuna.create_study(sampler=PropulateSampler(seed=1))
        slow = MPI.COMM_WORLD.rank == 1
        study.optimize(lambda t: time.sleep(0.05 * slow) or sphere(t), n_trials=20)
        report(workers=sorted({i.worker for i in study.sampler.breeding_pool(study)}))
        """,
        2,
    )
    assert outcome.status == 0, outcome.stderr
    assert outcome.ranks[1]["workers"] == [0, 1]


def test_a_rank_without_a_sampler_is_an_error_not_a_hang(mpiexec: Callable) -> None:
    outcome = mpiexec(
        """
        from mpi4py import MPI
        from optuna_propulate import PropulateSampler
        if MPI.COMM_WORLD.rank == 0:
            try:
                optuna.create_study(sampler=PropulateSampler()).optimize(sphere, n_trials=1)
            except TimeoutError as error:
                report(error=str(error))
                MPI.COMM_WORLD.Abort(3)
        """,
        2,
        environ={"OPTUNA_PROPULATE_COMM_TIMEOUT": "2"},
        timeout=60,
    )
    assert "Not all of the 2 MPI ranks" in outcome.ranks[0]["error"]


def test_bad_input_is_an_error_on_every_rank(mpiexec: Callable, tmp_path: Path) -> None:
    outcome = mpiexec(
        """
        import optuna_propulate
        from mpi4py import MPI
        errors = []
        for arguments in (
            {"storage": "sqlite:////nowhere/at/all.db"},
            {"storage": "postgresql://me:secret@localhost:1/none"},
            {"storage": "what is this"},
            {"storage": optuna.storages.InMemoryStorage()},
            {"storage": "sqlite:///study.db", "direction": "sideways"},
        ):
            try:
                optuna_propulate.create_study(**arguments)
            except Exception as error:
                errors.append(f"{type(error).__name__}: {error}")
        study = optuna_propulate.create_study("sqlite:///study.db")
        for budget in ({"n_trials": MPI.COMM_WORLD.rank}, {"n_trials": 1, "n_jobs": 0}):
            try:
                study.optimize(sphere, **budget)
            except ValueError as error:
                errors.append(str(error))
        report(errors=errors, n=len(study.trials))
        """,
        2,
    )
    assert outcome.status == 0, outcome.stderr
    for rank in outcome.ranks:
        assert len(rank["errors"]) == 7
        assert "secret" not in "".join(rank["errors"])
        assert rank["n"] == 0


def test_when_optimize_returns_every_rank_sees_every_trial(mpiexec: Callable) -> None:
    outcome = mpiexec(
        """
        import optuna_propulate
        study = optuna_propulate.create_study(
            "sqlite:///study.db", pruner=optuna.pruners.MedianPruner(n_startup_trials=1)
        )

        def objective(trial):
            x = trial.suggest_float("x", 0, 1)
            trial.report(x, 0)
            trial.should_prune()
            return x

        seen = []
        for n in (20, 40, 60):
            study.optimize(objective, n_trials=20)
            states = {trial.state.name for trial in study.trials}
            seen.append([len(study.trials), sorted(states), study.best_value])
        report(seen=seen)
        """,
        3,
    )
    assert outcome.status == 0, outcome.stderr
    for rank in outcome.ranks:
        assert rank["seen"] == outcome.ranks[0]["seen"]
        assert [n for n, _, _ in rank["seen"]] == [20, 40, 60]
        assert all(states == ["COMPLETE"] for _, states, _ in rank["seen"])


def test_alone_it_is_an_ordinary_study() -> None:
    study = optuna_propulate.create_study(direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=5, n_jobs=2)
    assert len(study.trials) == 5


def test_callbacks_catch_timeout_and_the_bar_work_over_all_ranks(mpiexec: Callable) -> None:
    outcome = mpiexec(
        """
        import optuna_propulate
        study = optuna_propulate.create_study("sqlite:///study.db", study_name="s")

        def objective(trial):
            sphere(trial)
            raise ArithmeticError

        heard = []
        study.optimize(
            objective, n_trials=6, catch=ArithmeticError, show_progress_bar=True,
            callbacks=[lambda study, trial: heard.append(trial.number)], gc_after_trial=True,
        )
        study.optimize(sphere, timeout=0)
        loaded = optuna_propulate.load_study("sqlite:///study.db", study_name="s")
        study.optimize(sphere, n_trials=40, show_progress_bar=True)
        report(heard=heard, n=len(loaded.trials), best=study.best_value)
        """,
        2,
    )
    assert outcome.status == 0, outcome.stderr
    assert sorted(outcome.ranks[0]["heard"] + outcome.ranks[1]["heard"]) == list(range(6))
    assert outcome.ranks[0]["n"] == outcome.ranks[1]["n"] == 46
    assert "6 of 6 trials, none complete, " in outcome.stderr
    (shown,) = re.findall(r"40 of 40 trials, best value (\S+), ", outcome.stderr)
    assert shown == f"{outcome.ranks[0]['best']:g}"


def test_thousands_of_trials_end_with_one_best_and_one_pool(
    mpiexec: Callable, tmp_path: Path
) -> None:
    outcome = mpiexec(SEARCH.format(islands=2, n_trials=2000, n_jobs=1), 4, timeout=280)
    assert outcome.status == 0, outcome.stderr
    trials = _trials(tmp_path)
    assert [trial.number for trial in trials] == list(range(2000))
    assert {rank["best"] for rank in outcome.ranks} == {min(trial.value for trial in trials)}
    for peers in (outcome.ranks[:2], outcome.ranks[2:]):
        assert peers[0]["pool"] == peers[1]["pool"]
        assert len(peers[0]["pool"]) >= 10


BAD_VALUES = ["None", "'three'", "float('nan')", "(1.0, 2.0)", "object()"]


@pytest.mark.parametrize("n_ranks", [1, 2])
def test_what_is_no_number_fails_the_trial_and_nothing_else(
    mpiexec: Callable, tmp_path: Path, n_ranks: int
) -> None:
    outcome = mpiexec(
        f"""
        import optuna_propulate
        values = [{", ".join(BAD_VALUES)}]
        study = optuna_propulate.create_study("sqlite:///study.db")

        def objective(trial):
            loss = sphere(trial)
            return values[trial.number] if trial.number < len(values) else loss

        study.optimize(objective, n_trials=25)
        report(pool=[i.number for i in study.sampler.breeding_pool(study)])
        """,
        n_ranks,
    )
    assert outcome.status == 0, outcome.stderr
    states = [trial.state.name for trial in _trials(tmp_path)]
    assert states == ["FAIL"] * len(BAD_VALUES) + ["COMPLETE"] * 20
    for rank in outcome.ranks:
        assert min(rank["pool"]) >= len(BAD_VALUES)
        assert rank["pool"] == outcome.ranks[0]["pool"]


def test_infinite_losses_are_values_and_are_bred_from_last(
    mpiexec: Callable, tmp_path: Path
) -> None:
    outcome = mpiexec(
        """
        import optuna_propulate
        study = optuna_propulate.create_study("sqlite:///study.db")

        def objective(trial):
            loss = sphere(trial)
            return {0: float("inf"), 1: float("-inf")}.get(trial.number, loss)

        study.optimize(objective, n_trials=40)
        report(pool=[i.number for i in study.sampler.breeding_pool(study)])
        """,
        2,
    )
    assert outcome.status == 0, outcome.stderr
    trials = _trials(tmp_path)
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    assert [trials[number].value for number in (0, 1)] == [float("inf"), float("-inf")]
    for rank in outcome.ranks:
        assert 1 in rank["pool"]
        assert 0 not in rank["pool"]


def test_a_bad_sampler_is_an_error_on_every_rank_before_anything_is_written(
    mpiexec: Callable, tmp_path: Path
) -> None:
    outcome = mpiexec(
        """
        import optuna_propulate
        errors = []
        for settings in (
            {"islands": 3},
            {"topology": "moebius"},
            {"population_size": 1},
            {"migration": lambda: optuna_propulate.Pollination(probability=1.5)},
        ):
            try:
                if "migration" in settings:
                    settings["migration"] = settings["migration"]()
                sampler = optuna_propulate.PropulateSampler(**settings)
                optuna_propulate.create_study("sqlite:///study.db", sampler=sampler)
            except ValueError as error:
                errors.append(str(error))
        report(errors=errors)
        """,
        2,
    )
    assert outcome.status == 0, outcome.stderr
    for rank in outcome.ranks:
        for error, name in zip(
            rank["errors"], ("islands", "topology", "population_size", "probability"), strict=True
        ):
            assert name in error
    assert not (tmp_path / "study.db").exists()


def test_one_line_says_what_begins_and_verbosity_reaches_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    optuna.logging.set_verbosity(optuna.logging.INFO)
    optuna_propulate.create_study(study_name="s")
    study = optuna_propulate.create_study(url, study_name="s")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    study._storage.flush()
    optuna_propulate.load_study(study_name="s", storage=url)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    optuna_propulate.load_study(study_name="s", storage=url)
    assert [line for line in caplog.messages if line.startswith("Study 's'")] == [
        "Study 's' (new): 1 rank, 1 island, in memory.",
        f"Study 's' (new): 1 rank, 1 island, in {url}.",
        f"Study 's' (resumed with 3 trials): 1 rank, 1 island, in {url}.",
    ]
