from __future__ import annotations

import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import optuna
import pytest

import optuna_propulate
from optuna_propulate import PropulateSampler
from optuna_propulate.visualization.dashboard import FIGURES
from optuna_propulate.visualization.dashboard import DashboardFigures
from optuna_propulate.visualization.dashboard import _command
from optuna_propulate.visualization.dashboard import note


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytest.importorskip("plotly", reason="Figures need the extra 'visualization'.")
pytest.importorskip("optuna_dashboard", reason="What is shown needs optuna-dashboard.")

TUNE = """
def objective(trial):
    return trial.suggest_float("x", -5, 5) ** 2
"""


def objective(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -5, 5) ** 2


def shown(study: optuna.Study) -> tuple[set[str], str]:
    """Return the figures and the note that the dashboard finds."""
    from optuna_dashboard._custom_plot_data import get_plotly_graph_objects
    from optuna_dashboard._note import get_note_from_system_attrs

    attributes = study._storage.get_study_system_attrs(study._study_id)
    figures = get_plotly_graph_objects(attributes)
    assert all(text.startswith("{") for text in figures.values())
    return set(figures), get_note_from_system_attrs(attributes, None)["body"]


def test_figures_and_a_note_are_saved_while_the_study_runs() -> None:
    study = optuna.create_study(sampler=PropulateSampler(seed=1))
    seen: list[int] = []
    figures = DashboardFigures(interval=1e-9)

    def look(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        figures(study, trial)
        seen.append(len(shown(study)[0]))

    study.optimize(objective, n_trials=3, callbacks=[look])
    assert seen[0] == len(FIGURES)
    names, body = shown(study)
    assert names == set(FIGURES)
    assert "breeding pool: 15 individuals" in body


def test_nothing_is_saved_before_the_interval() -> None:
    study = optuna.create_study(sampler=PropulateSampler(seed=1))
    study.optimize(objective, n_trials=5, callbacks=[DashboardFigures(interval=3600.0)])
    assert not study._storage.get_study_system_attrs(study._study_id)


def test_the_last_state_is_saved_when_a_search_of_ours_ends() -> None:
    study = optuna_propulate.create_study()
    study.optimize(objective, n_trials=5, callbacks=[DashboardFigures(interval=3600.0)])
    assert shown(study)[0] == set(FIGURES)


def test_another_samplers_study_is_left_as_it_is() -> None:
    study = optuna.create_study()
    study.optimize(objective, n_trials=3, callbacks=[DashboardFigures(interval=1e-9)])
    assert not study._storage.get_study_system_attrs(study._study_id)


def test_an_interval_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="interval"):
        DashboardFigures(interval=0.0)


def test_a_job_from_the_command_line_is_shown(mpiexec: Callable, tmp_path: Path) -> None:
    (tmp_path / "tune.py").write_text(TUNE)
    outcome = mpiexec(
        f"""
        from optuna_propulate.cli.main import main
        main(["run", {str(tmp_path / "tune.py")!r} + ":objective", "--n-trials", "60",
              "--storage", "sqlite:///study.db", "--study-name", "s", "--islands", "2",
              "--dashboard"])
        """,
        2,
    )
    assert outcome.status == 0, outcome.stderr
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/study.db")
    names, body = shown(study)
    assert names == set(FIGURES)
    assert "islands: 2, of 1 worker each" in body
    assert "topology: each sends one to the other" in body


def test_without_the_flag_nothing_is_imported() -> None:
    program = "import optuna_propulate.cli.run, sys; print('optuna_dashboard' in sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "False"


def test_the_note_shows_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql+psycopg://me:s3cret@host/db?password=s3cret"
    monkeypatch.setattr(sys, "argv", ["run", "--storage", url, f"--storage={url}", "--seed", "1"])
    body = note(optuna.create_study())
    assert "s3cret" not in body
    assert "--storage postgresql+psycopg://... --storage=postgresql+psycopg://..." in body
    assert "--seed 1" in body


def test_a_database_that_is_locked_does_not_end_the_search(tmp_path: Path) -> None:
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{tmp_path}/study.db", engine_kwargs={"connect_args": {"timeout": 0.1}}
    )
    study = optuna.create_study(storage=storage, sampler=PropulateSampler(seed=1))
    study.optimize(objective, n_trials=3)
    figures = DashboardFigures()
    other = sqlite3.connect(tmp_path / "study.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    figures.save(study)
    other.execute("ROLLBACK")
    other.close()
    assert not storage.get_study_system_attrs(study._study_id)
    figures.save(study)
    assert shown(study)[0] == set(FIGURES)


def test_one_rank_saves_and_the_other_does_not(mpiexec: Callable) -> None:
    outcome = mpiexec(
        """
        from optuna_propulate.visualization.dashboard import DashboardFigures
        report(saves=DashboardFigures()._saves)
        """,
        2,
    )
    assert [rank["saves"] for rank in outcome.ranks] == [True, False]


@pytest.mark.parametrize(
    ("arguments", "module", "shown_as"),
    [
        (["/opt/env/bin/optuna-propulate", "run"], None, "optuna-propulate run"),
        (["/opt/a/__main__.py", "run"], "a.b.__main__", "python -m a.b run"),
        (["/home/me/tune.py", "--n", "3"], None, "python tune.py --n 3"),
        ([], None, ""),
    ],
)
def test_the_note_gives_the_command_as_it_was_typed(
    arguments: list[str], module: str | None, shown_as: str
) -> None:
    assert _command(arguments, module) == shown_as
