"""What Optuna offers around a study works with ours: pruners, callbacks, figures and others."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.trial import TrialState

import optuna_propulate
from optuna_propulate.records.attributes import operators_of


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def search(folder: Path, n_trials: int = 60) -> optuna_propulate.study.IslandStudy:
    sampler = optuna_propulate.PropulateSampler(seed=1)
    study = optuna_propulate.create_study(
        f"sqlite:///{folder}/study.db", study_name="s", sampler=sampler
    )
    study.optimize(objective, n_trials=n_trials)
    return study


def objective(trial: optuna.Trial) -> float:
    x, y = trial.suggest_float("x", -5, 5), trial.suggest_float("y", -5, 5)
    kind = trial.suggest_categorical("kind", ["a", "b"])
    return x**2 + 0.01 * y**2 + (kind == "a")


@pytest.mark.parametrize(
    "pruner",
    [
        "optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9)",
        "optuna.pruners.MedianPruner(n_startup_trials=3)",
        "optuna.pruners.SuccessiveHalvingPruner()",
    ],
)
def test_ranks_prune_trials_of_one_study(pruner: str, mpiexec: Callable, tmp_path: Path) -> None:
    outcome = mpiexec(
        f"""
        import optuna
        import optuna_propulate
        from optuna_propulate.evolution.ranking import by_loss

        def objective(trial):
            x = trial.suggest_float("x", -5, 5)
            for step in range(9):
                trial.report(x**2 + 9 - step, step)
                if trial.should_prune():
                    raise optuna.TrialPruned
            return x**2

        study = optuna_propulate.create_study(
            "sqlite:///study.db", study_name="s", pruner={pruner}
        )
        study.optimize(objective, n_trials=120)
        (known,) = study.sampler._states[study._storage].values()
        report(pool=[by_loss(individual) for individual in known.island.breeding_pool])
        """,
        2,
    )
    assert outcome.status == 0, outcome.stderr
    first, second = [rank["pool"] for rank in outcome.ranks]
    assert first == second
    assert min(last_step for _, last_step, *_ in first) == -math.inf  # that of a complete one
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/study.db")
    states = [trial.state for trial in study.trials]
    assert len(states) == 120
    assert set(states) == {TrialState.COMPLETE, TrialState.PRUNED}
    later = study.trials[30:]
    assert sum(operators_of(trial) == ("RandomInitialization",) for trial in later) < 9
    assert study.best_value < 1.0
    pruned = study.get_trials(states=[TrialState.PRUNED])
    assert all(trial.intermediate_values for trial in pruned)


def test_callbacks_are_called_and_may_stop_the_study(tmp_path: Path) -> None:
    study = optuna_propulate.create_study(f"sqlite:///{tmp_path}/study.db", study_name="s")
    seen: list[int] = []
    study.optimize(
        objective,
        n_trials=100,
        callbacks=[
            lambda study, trial: seen.append(trial.number),
            optuna.study.MaxTrialsCallback(20, states=(TrialState.COMPLETE,)),
        ],
    )
    assert seen == list(range(20))


def test_importances_find_the_parameter_that_matters(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="Importances need scikit-learn.")
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=1)
    importances = optuna.importance.get_param_importances(search(tmp_path), evaluator=evaluator)
    assert importances["x"] > importances["y"]


@pytest.mark.parametrize(
    "plot",
    [
        "plot_optimization_history",
        "plot_parallel_coordinate",
        "plot_slice",
        "plot_contour",
        "plot_edf",
        "plot_timeline",
        "plot_rank",
        "plot_param_importances",
    ],
)
def test_optunas_figures_show_our_studies(plot: str, tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="Figures need the extra 'visualization'.")
    figure = getattr(optuna.visualization, plot)(search(tmp_path, n_trials=30))
    assert len(figure.data) > 0


def test_artifacts_are_kept_with_their_trials(tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir()
    store = optuna.artifacts.FileSystemArtifactStore(tmp_path / "artifacts")

    def with_artifact(trial: optuna.Trial) -> float:
        value = trial.suggest_float("x", 0, 1)
        path = tmp_path / f"model-{trial.number}.txt"
        path.write_text(f"{value}")
        optuna.artifacts.upload_artifact(
            artifact_store=store, file_path=str(path), study_or_trial=trial
        )
        return value

    study = optuna_propulate.create_study(f"sqlite:///{tmp_path}/study.db", study_name="s")
    study.optimize(with_artifact, n_trials=5)
    loaded = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/study.db")
    for trial in loaded.trials:
        (artifact,) = optuna.artifacts.get_all_artifact_meta(trial, storage=loaded._storage)
        with store.open_reader(artifact.artifact_id) as file:
            assert float(file.read()) == trial.params["x"]


def test_optunas_command_line_reads_our_studies(tmp_path: Path) -> None:
    study = search(tmp_path, n_trials=20)
    url = f"sqlite:///{tmp_path}/study.db"

    program = "import sys; from optuna.cli import main; sys.exit(main())"
    for arguments in (["studies"], ["trials", "--study-name", "s"]):
        process = subprocess.run(
            [sys.executable, "-c", program, *arguments, "--storage", url, "-f", "json"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert process.returncode == 0, process.stderr
        assert len(json.loads(process.stdout)) == (1 if arguments == ["studies"] else 20)
    best = subprocess.run(
        [sys.executable, "-c", program, "best-trial", "--study-name", "s", "--storage", url,
         "-f", "json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert json.loads(best.stdout)["number"] == study.best_trial.number
