"""The command line, as a process of its own and under mpirun."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import pytest
from support.servers import wait_until

from optuna_propulate.cli.objective import load_objective
from optuna_propulate.storages.wire.changes import Change
from optuna_propulate.storages.wire.times import utc
from optuna_propulate.storages.writer.spill import Spill


if TYPE_CHECKING:
    from collections.abc import Callable

OBJECTIVE = (
    "from helper import square\ndef objective(t): return square(t.suggest_float('x', -5, 5))"
)
RUN = ["run", "tune.py:objective", "--study-name", "s"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tune.py").write_text(OBJECTIVE)
    (tmp_path / "helper.py").write_text("def square(x): return x * x")
    return tmp_path


def _call(
    folder: Path, *arguments: str, environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "optuna_propulate", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=90, check=False,
        env={**os.environ, **(environ or {})},
    )  # fmt: skip


def _trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    url = f"sqlite:///{folder}/optuna_propulate.db"
    return optuna.load_study(study_name="s", storage=url).trials


def _spill_of(folder: Path, study_name: str, steps: list[int]) -> Path:
    """Return a spill file of one complete trial for each step that was reported."""
    now = utc(datetime.now())
    spill = Spill(folder, "job")
    spill.add(
        study_name,
        [
            Change(number, None, "COMPLETE", now, now, values=[1.0], steps=[(step, 0.5)])
            for number, step in enumerate(steps)
        ],
    )
    return spill.path


def test_a_search_is_run_gone_on_with_and_summarised(folder: Path) -> None:
    for n_trials in (20, 40):
        options = ["--n-trials", "20", "--seed", "1", "--sampler-option", "population_size=4"]
        done = _call(folder, *RUN, *options)
        assert done.returncode == 0, done.stderr
        assert f"study s: {n_trials} trials ({n_trials} complete)" in done.stdout
    assert len(_trials(folder)) == 40
    refused = _call(folder, "summary", "--top", "0")
    assert (refused.returncode, refused.stderr) == (
        2,
        "optuna-propulate: --top must be at least 1, but got 0.\n",
    )
    shown = _call(folder, "summary", "--top", "2")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("'x'") == 2
    assert "trials/s" in shown.stdout
    drawn = _call(folder, "plot", "--output", "islands.html")
    assert drawn.returncode == 0, drawn.stderr
    assert "plotly" in (folder / "islands.html").read_text()
    drawn = _call(folder, "plot", "--figure", "worker_timeline")
    assert drawn.returncode == 0, drawn.stderr
    assert "of their time busy" in (folder / "worker_timeline.html").read_text()


def test_ranks_search_together(folder: Path, mpiexec: Callable) -> None:
    arguments = [*RUN, "--n-trials", "60", "--islands", "[1, 1]", "--topology", "ring"]
    outcome = mpiexec(f"from optuna_propulate.cli.main import main\nmain({arguments!r})", 2)
    assert outcome.status == 0, outcome.stderr
    trials = _trials(folder)
    assert len(trials) == 60
    assert {trial.user_attrs["island"] for trial in trials} <= {0, 1}


def test_workers_are_started_by_the_command_itself(folder: Path, mpiexec: Callable) -> None:
    arguments = ["--workers", "3", "--n-trials", "60", "--islands", "[1, 2]"]
    done = _call(folder, *RUN, *arguments, environ={"MPIEXEC": mpiexec.launcher})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("study s: 60 trials (60 complete)") == 1
    trials = _trials(folder)
    assert len(trials) == 60
    assert {trial.user_attrs["worker"] for trial in trials} <= {0, 1, 2}
    twice = _call(folder, *RUN, *arguments, environ={"PMI_SIZE": "2"})
    assert twice.returncode == 2
    assert "leave it out under mpirun" in twice.stderr


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_import_names_the_unfit_trial_in_one_line_and_takes_the_others(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    if database == "postgresql":
        url = request.getfixturevalue("postgresql")
    study = optuna.create_study(study_name=tmp_path.name, storage=url)
    spill = _spill_of(tmp_path, study.study_name, steps=[1, 2**70, 3])
    done = _call(tmp_path, "import", str(spill), "--storage", url)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("optuna-propulate: ")]
    assert "2 trials were put into the database; not fit for it: trial 1 of study" in line
    assert "Traceback" not in done.stderr
    reread = optuna.load_study(study_name=study.study_name, storage=url)
    assert [list(trial.intermediate_values) for trial in reread.trials] == [[1], [3]]


def test_a_function_of_a_module_is_found(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    function = load_objective("helper:square")
    assert function(3) == 9  # type: ignore[arg-type]


def test_a_shell_completes_commands_and_options() -> None:
    script = """
    eval "$(shtab -s bash optuna_propulate.cli.main.parser)"
    COMP_WORDS=(optuna-propulate ru) COMP_CWORD=1
    _shtab_optuna_propulate; echo "${COMPREPLY[@]}"
    COMP_WORDS=(optuna-propulate run --pa) COMP_CWORD=2
    _shtab_optuna_propulate; echo "${COMPREPLY[@]}"
    """
    place = str(Path(sys.executable).parent)
    process = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "PATH": f"{place}:{os.environ['PATH']}"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert process.stdout.split() == ["run", "--patience"], process.stderr


def test_ctrl_c_ends_a_search_with_its_summary(folder: Path) -> None:
    (folder / "slow.py").write_text(
        "import time, pathlib\n"
        "def objective(t):\n"
        "    if t.number == 5: pathlib.Path('under way').touch()\n"
        "    time.sleep(0.02)\n"
        "    return t.suggest_float('x', -5, 5)\n"
    )
    command = ["run", "slow.py:objective", "--n-trials", "10000", "--study-name", "s"]
    with subprocess.Popen(
        [sys.executable, "-m", "optuna_propulate", *command],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored below an "&"
    ) as process:  # fmt: skip
        wait_until(lambda: (folder / "under way").exists())
        process.send_signal(signal.SIGINT)
        shown, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert shown.startswith("study s: ")
    assert "optuna_propulate/cli" not in said
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{folder}/optuna_propulate.db")
    assert all(trial.state.is_finished() for trial in study.trials)
