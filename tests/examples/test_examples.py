"""Each example runs as its first line says, with a small budget."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import optuna
import pytest


if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def run(name: str, folder: Path, *flags: str) -> str:
    process = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *flags],
        cwd=folder, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return process.stdout


def on_ranks(name: str, n_ranks: int, mpiexec: Callable, *flags: str) -> str:
    arguments = [str(EXAMPLES / name), *flags]
    outcome = mpiexec(
        f"""
        import runpy
        sys.argv = {arguments!r}
        runpy.run_path(sys.argv[0], run_name="__main__")
        """,
        n_ranks,
    )
    assert outcome.status == 0, outcome.stderr
    return str(outcome.stdout)


def test_quickstart_finds_rosenbrocks_valley(mpiexec: Callable, tmp_path: Path) -> None:
    on_ranks("quickstart.py", 2, mpiexec)
    study = optuna.load_study(
        study_name="quickstart", storage=f"sqlite:///{tmp_path}/quickstart.db"
    )
    assert len(study.trials) == 1000
    # Unseeded: all but a few searches in a hundred end below 1e-6, some still walk the valley.
    assert median(trial.value for trial in study.trials[-100:]) < 10  # 4,400 for random points


def test_drop_in_finds_the_better_branch(tmp_path: Path) -> None:
    output = run("drop_in.py", tmp_path)
    assert "'kind': 'network'" in output
    assert float(re.findall(r"Best: (\S+)", output)[0]) < 0.1


def test_islands_print_their_summary(mpiexec: Callable, tmp_path: Path) -> None:
    output = on_ranks("islands.py", 4, mpiexec)
    assert output.count("island 1:") == 1  # rank 0 prints, and nobody else
    study = optuna.load_study(study_name="islands", storage=f"sqlite:///{tmp_path}/islands.db")
    assert {trial.user_attrs["island"] for trial in study.trials} == {0, 1}
    assert study.best_value < 20  # at random: 60


def test_the_support_vector_machine_learns(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="The example needs scikit-learn, as its docstring says.")
    output = run("sklearn_svm.py", tmp_path, "--n-trials", "20")
    assert float(output.split()[1]) > 0.95


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("slurm/*.sbatch")), ids=lambda p: p.name)
def test_batch_scripts_are_shell_and_start_what_exists(script: Path, tmp_path: Path) -> None:
    text = script.read_text()
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    (tmp_path / "srun").write_text('#!/bin/bash\necho "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_CPUS_PER_TASK": "1",
        "STORAGE": "sqlite:///s.db",
    }
    process = subprocess.run(
        ["bash", str(script)], env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    command = process.stdout.split()
    if command[0] == "python":
        assert (script.parent / command[1]).exists()
        flags = subprocess.run(
            [sys.executable, str(script.parent / command[1]), "--help"],
            capture_output=True, text=True, check=False,
        ).stdout  # fmt: skip
    else:
        assert command[:2] == ["optuna-propulate", "run"]
        flags = subprocess.run(
            [sys.executable, "-m", "optuna_propulate", "run", "--help"],
            capture_output=True, text=True, check=False,
        ).stdout  # fmt: skip
    for flag in re.findall(r"(--[a-z-]+)", process.stdout):
        assert flag in flags
    assert "#SBATCH --signal=USR1@" in text
