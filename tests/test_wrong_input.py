"""Wrong input: one line that says what to do, and nothing is changed."""

from __future__ import annotations

import sqlite3
import sys
import threading
from typing import TYPE_CHECKING
from typing import Any

import optuna
import pytest

import optuna_propulate
from optuna_propulate import PropulateSampler
from optuna_propulate.cli.main import main
from optuna_propulate.storages.sql.open import shown


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OBJECTIVE = "def objective(trial): return trial.suggest_float('x', -5, 5) ** 2\n"
SEARCH = "import optuna_propulate as op\nstudy = op.create_study()\n"
SECRET = "postgresq:/me:s3cret@host"
THERE = ["--storage", "sqlite:///study.db"]
RUN = ["run", "tune.py:objective", "--n-trials", "1"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder: files with objectives, and a study ``s`` of two trials."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "tune.py").write_text(OBJECTIVE)
    (tmp_path / "guarded.py").write_text(
        f"{OBJECTIVE}{SEARCH}if __name__ == '__main__': study.optimize(objective, n_trials=5)"
    )
    (tmp_path / "ours.py").write_text(f"{OBJECTIVE}{SEARCH}study.optimize(objective, n_trials=5)")
    (tmp_path / "optunas.py").write_text(
        f"import optuna\n{OBJECTIVE}optuna.create_study().optimize(objective, n_trials=5)"
    )
    (tmp_path / "broken.py").write_text("x = 1\nx = = 1\n")
    study = optuna.create_study(storage="sqlite:///study.db", study_name="s")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    return tmp_path


def contents(folder: Path) -> dict[str, Any]:
    """Return what is in the folder, and which trials the study has."""
    study = optuna.load_study(study_name="s", storage="sqlite:///study.db")
    passing = ("__pycache__", "study.db-shm", "study.db-wal")  # while a database is open
    names = sorted(path.name for path in folder.iterdir() if path.name not in passing)
    return {"files": names, "trials": study.trials, "studies": study._storage.get_all_studies()}


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        ([], 2, "COMMAND"),
        (["tune"], 2, "invalid choice: 'tune'"),
        (
            ["run", "tune.py:objective"],
            2,
            "give --n-trials, --n-trials-total, --timeout",
        ),
        (["run", "tune.py:objective", "--n-trials", "-5"], 2, "n_trials must be at least 0"),
        (["run", "tune.py:objective", "--n-trials", "x"], 2, "invalid int value: 'x'"),
        (["run", "tune.py:objective", "--timeout", "-1"], 2, "timeout must not be negative"),
        (["run", "tune.py:objective", "--timeout", "nan"], 2, "timeout must be a number"),
        ([*RUN, "--stop-grace", "-1"], 2, "stop_grace must not be negative"),
        (["run", "tune.py:nothing", "--n-trials", "1"], 2, "tune.py has no function nothing"),
        (["run", "other.py:f", "--n-trials", "1"], 2, "there is no file other.py"),
        (["run", "other:f", "--n-trials", "1"], 2, "No module named 'other'"),
        (["run", "tune", "--n-trials", "1"], 2, "neither FILE.py:function nor"),
        (["run", "ours.py:objective", "--n-trials", "1"], 2, "importing ours.py runs a search"),
        (["run", "optunas.py:objective", "--n-trials", "1"], 2, "if __name__ == '__main__':"),
        ([*RUN, "--direction", "up"], 2, "invalid choice: 'up'"),
        ([*RUN, *THERE, "--study-name", "s", "--direction", "maximize"], 2, "direction minimize"),
        ([*RUN, "--islands", "0"], 2, "islands must be at least 1"),
        ([*RUN, "--islands", "many"], 2, "islands must be"),
        ([*RUN, "--islands", "2"], 2, "needs MPI"),
        ([*RUN, "--topology", "cube"], 2, "topology"),
        ([*RUN, "--migration-probability", "3"], 2, "probability must be in [0, 1]"),
        ([*RUN, "--seed", "-3"], 2, "seed must be at least 0"),
        ([*RUN, "--sampler-option", "a"], 2, "KEY=VALUE"),
        ([*RUN, "--sampler-option", "a=1"], 2, "takes population_size, islands"),
        ([*RUN, "--sampler-option", "population_size=abc"], 2, "must be an integer"),
        ([*RUN, "--sampler-option", "population_size=1"], 2, "at least 2"),
        ([*RUN, "--sampler-option", "island=1"], 2, "island"),
        ([*RUN, "--workers", "0"], 2, "--workers must be at least 1"),
        ([*RUN, "--target", "nan"], 2, "target must be a number"),
        ([*RUN, "--patience", "0"], 2, "patience must be at least 1"),
        ([*RUN, "--retry", "-1"], 2, "--retry must be at least 0"),
        ([*RUN, "--catch", "nope"], 2, "--catch takes the name of an exception"),
        ([*RUN, "--catch", "os.path.join"], 2, "--catch takes the name of an exception"),
        ([*RUN, "--pruner", "BasePruner"], 2, "--pruner must be one of HyperbandPruner"),
        ([*RUN, "--pruner-option", "a=1"], 2, "--pruner-option needs --pruner"),
        ([*RUN, "--pruner", "MedianPruner", "--pruner-option", "a=1"], 2, "argument 'a'"),
        ([*RUN, "--storage", SECRET], 2, "cannot be parsed"),
        ([*RUN, "--storage", "oracle://me:s3cret@host/db"], 2, "one of sqlite, postgresql"),
        ([*RUN, "--storage", "mysql+nope://me:s3cret@host/db"], 2, "cannot be opened"),
        ([*RUN, "--storage", "mysql+mysqldb://me:s3cret@h/db"], 2, "optuna-propulate[mysql]"),
        ([*RUN, "--storage", "sqlite:///no/where.db"], 2, "there is no folder"),
        ([*RUN, "--storage", "sqlite:///tune.py"], 2, "tune.py is no database"),
        (["summary", "--storage", "sqlite:///tune.py"], 2, "tune.py is no database"),
        ([*RUN, "--study-name", ""], 2, "--study-name: a name, but it is empty"),
        ([*RUN, "--catch", "nowhere.Error"], 2, "--catch nowhere.Error: No module named"),
        (["run", "broken.py:objective", "--n-trials", "1"], 2, "broken.py, line 2: "),
        (["summary", "--top", "0"], 2, "--top must be at least 1"),
        (["summary"], 2, "There is no file"),
        (["summary", "--storage", SECRET], 2, "cannot be parsed"),
        (["summary", *THERE, "--study-name", "none"], 2, "those there are: 's'"),
        (["plot", *THERE, "--study-name", "none"], 2, "those there are: 's'"),
        (["plot", *THERE, "--figure", "none"], 2, "invalid choice: 'none'"),
        (["plot", *THERE, "--output", "x.gif"], 2, "must end in .html"),
        (["plot", *THERE, "--output", "no/x.html"], 2, "there is no folder no"),
        (["plot", *THERE, "--figure", "lineage"], 1, "island"),
        (["import", "none.jsonl", *THERE], 2, "there is no file none.jsonl"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_line(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    reason: str,
) -> None:
    before = contents(folder)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("optuna-propulate: ")
    assert reason in line
    assert "s3cret" not in line
    assert contents(folder) == before


def test_an_image_needs_kaleido_and_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optuna_propulate.cli.plot.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        main(["plot", *THERE, "--output", "x.png"])
    assert "pip install kaleido" in capsys.readouterr().err
    assert not (folder / "x.png").exists()


def test_workers_need_mpi_and_say_so(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optuna_propulate.cli.workers.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        main([*RUN, "--workers", "2"])
    assert ended.value.code == 2
    assert "pip install 'optuna-propulate[mpich]'" in capsys.readouterr().err


def test_a_file_that_only_searches_as_a_script_is_run(folder: Path) -> None:
    main(["run", "guarded.py:objective", "--n-trials", "3", *THERE, "--study-name", "g"])
    assert len(optuna.load_study(study_name="g", storage="sqlite:///study.db").trials) == 3


def _optimize(**arguments: Any) -> Callable[[], object]:
    study = optuna_propulate.create_study()
    arguments.setdefault("func", lambda trial: trial.suggest_float("x", 0, 1))
    return lambda: study.optimize(**arguments)


@pytest.mark.parametrize(
    ("step", "kind", "reason"),
    [
        (lambda: _optimize(n_trials=-1)(), ValueError, "n_trials must be at least 0"),
        (lambda: _optimize(n_trials=2.5)(), TypeError, "n_trials must be an integer"),
        (lambda: _optimize(n_trials="5")(), TypeError, "n_trials must be an integer"),
        (lambda: _optimize(timeout=-1)(), ValueError, "timeout must not be negative"),
        (lambda: _optimize(timeout="1 h")(), TypeError, "timeout must be a number"),
        (lambda: _optimize(n_trials=1, n_jobs=0)(), ValueError, "n_jobs must be at least 1"),
        (lambda: _optimize(n_trials=1, catch=3)(), TypeError, "catch must hold"),
        (lambda: _optimize(n_trials=1, catch="Error")(), TypeError, "catch must hold"),
        (lambda: _optimize(n_trials=1, callbacks=print)(), TypeError, "callbacks must be a list"),
        (lambda: _optimize(n_trials=1, callbacks=[3])(), TypeError, "must be callable"),
        (lambda: _optimize(func=3, n_trials=1)(), TypeError, "must be callable"),
        (lambda: PropulateSampler(population_size="a"), TypeError, "must be an integer"),  # type: ignore[arg-type]
        (lambda: PropulateSampler(seed=0.5), TypeError, "seed must be an integer"),  # type: ignore[arg-type]
        (lambda: PropulateSampler(seed=-1), ValueError, "seed must be at least 0"),
        (
            lambda: optuna_propulate.create_study(directions=["minimize", "maximize"]),
            ValueError,
            "takes one objective, but the study has 2",
        ),
        (
            lambda: optuna_propulate.create_study(
                "sqlite:///study.db", study_name="s", direction="maximize", load_if_exists=True
            ),
            ValueError,
            "exists with direction minimize, not maximize",
        ),
        (
            lambda: optuna_propulate.create_study("sqlite:///study.db", study_name="s"),
            optuna.exceptions.DuplicatedStudyError,
            "already exists",
        ),
        (
            lambda: optuna_propulate.load_study("sqlite:///study.db", study_name="none"),
            KeyError,
            "those there are: 's'",
        ),
        (lambda: optuna_propulate.load_study("sqlite:///x.db"), FileNotFoundError, "x.db"),
        (lambda: optuna_propulate.load_study("s"), ValueError, "cannot be parsed"),
    ],
)
def test_an_argument(
    folder: Path, step: Callable[[], object], kind: type[Exception], reason: str
) -> None:
    before = contents(folder)
    with pytest.raises(kind, match=reason):
        step()
    assert contents(folder) == before


def test_a_database_in_memory_is_shown_as_it_is_written() -> None:
    assert shown("sqlite:///:memory:") == "sqlite:///:memory:"


def test_a_study_that_is_gone_on_with_keeps_its_directions(folder: Path) -> None:
    for direction in (None, "minimize", optuna.study.StudyDirection.MINIMIZE):
        study = optuna_propulate.create_study(
            "sqlite:///study.db", study_name="s", direction=direction, load_if_exists=True
        )
        assert study.direction == optuna.study.StudyDirection.MINIMIZE
    optuna_propulate.create_study("sqlite:///study.db", study_name="up", direction="maximize")
    again = optuna_propulate.create_study(
        "sqlite:///study.db", study_name="up", load_if_exists=True
    )
    assert again.direction == optuna.study.StudyDirection.MAXIMIZE


def test_a_sampler_of_one_objective_refuses_a_study_of_several(folder: Path) -> None:
    url = "sqlite:///study.db"
    optuna.create_study(storage=url, study_name="two", directions=["minimize", "minimize"])
    with pytest.raises(ValueError, match="takes one objective, but the study has 2"):
        optuna_propulate.load_study(url, study_name="two")
    other = optuna.samplers.NSGAIISampler()
    study = optuna_propulate.load_study(url, study_name="two", sampler=other)
    study.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 1.0), n_trials=2)
    assert len(study.trials) == 2


def test_of_all_ranks_one_says_what_is_wrong(folder: Path, mpiexec: Callable) -> None:
    wrong = [
        ["run", "tune.py:objective", "--n-trials", "x"],
        [*RUN, *THERE, "--study-name", "s", "--direction", "maximize"],
        [*RUN, "--islands", "5"],
        ["run", "broken.py:objective", "--n-trials", "1"],
        ["summary", "--storage", "sqlite:///nowhere.db"],
    ]
    outcome = mpiexec(
        f"""
        from optuna_propulate.cli.main import main

        statuses = []
        for arguments in {wrong!r}:
            try:
                main(arguments)
                statuses.append(None)
            except SystemExit as ended:
                statuses.append(ended.code)
        report(statuses=statuses)
        raise SystemExit(statuses[0])
        """,
        3,
    )
    assert outcome.status != 0
    assert outcome.stderr.count("optuna-propulate: ") == len(wrong)
    assert [rank["statuses"] for rank in outcome.ranks] == [
        [2, 2, 2, 2, 2], [0, 0, 0, 0, None], [0, 0, 0, 0, None],
    ]  # fmt: skip


def test_a_rank_that_alone_lacks_a_file_says_so(folder: Path, mpiexec: Callable) -> None:
    outcome = mpiexec(
        f"""
        from mpi4py import MPI
        from optuna_propulate.cli.main import main
        os.environ["OPTUNA_PROPULATE_COMM_TIMEOUT"] = "60"  # this rank ends sooner
        main({RUN!r} if MPI.COMM_WORLD.rank == 0 else ["run", "not.py:f", "--n-trials", "1"])
        """,
        2,
    )
    assert outcome.status != 0
    assert "optuna-propulate: there is no file not.py" in outcome.stderr


def test_a_summary_under_mpirun_is_printed_once(folder: Path, mpiexec: Callable) -> None:
    arguments = ["summary", *THERE, "--study-name", "s"]
    outcome = mpiexec(f"from optuna_propulate.cli.main import main; main({arguments!r})", 3)
    assert outcome.status == 0, outcome.stderr
    assert outcome.stdout.count("study s: 2 trials") == 1


def test_a_locked_database_is_waited_for_with_a_word(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optuna_propulate.storages.sql.open._PATIENCE", 0.2)
    optuna.logging.enable_propagation()
    holder = sqlite3.connect("study.db", isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(2.0, holder.execute, ["ROLLBACK"])
    release.start()
    try:
        optuna_propulate.create_study("sqlite:///study.db", study_name="new")
    finally:
        release.join()
        holder.close()
        optuna.logging.disable_propagation()
    assert "Still opening sqlite:///study.db: it is locked" in caplog.text
