from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import pytest


if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "mnist.py"
FLAGS = ["--train-samples", "400", "--val-samples", "100", "--accelerator", "cpu", "--seed", "3"]
pytestmark = pytest.mark.skipif(
    find_spec("lightning") is None, reason="The example needs the extra 'mnist'."
)


def test_two_ranks_search_and_report(mpiexec: Callable, tmp_path: Path) -> None:
    arguments = [str(EXAMPLE), *FLAGS, "--n-trials", "6", "--epochs", "2", "--islands", "2"]
    outcome = mpiexec(
        f"""
        import runpy
        sys.argv = {arguments!r}
        sys.path.insert(0, {str(EXAMPLE.parent)!r})
        runpy.run_path(sys.argv[0], run_name="__main__")
        """,
        2,
        timeout=240,
    )
    assert outcome.status == 0, outcome.stderr
    study = optuna.load_study(study_name="mnist", storage=f"sqlite:///{tmp_path}/mnist.db")
    trials = study.trials
    assert [trial.number for trial in trials] == list(range(6))
    assert {trial.user_attrs["worker"] for trial in trials} == {0, 1}
    assert {trial.user_attrs["island"] for trial in trials} == {0, 1}
    assert {trial.user_attrs["device"] for trial in trials} == {"cpu"}
    complete = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    for trial in complete:
        assert set(trial.params) == {"conv_layers", "activation", "lr"}
        assert trial.value == max(trial.intermediate_values.values())
        assert sorted(trial.intermediate_values) == [0, 1]
    assert f"{study.best_value:g}, trial {study.best_trial.number}: " in outcome.stdout
    assert "island 1: " in outcome.stdout
    assert "optuna-dashboard sqlite:///mnist.db --artifact-dir mnist-files" in outcome.stdout
    assert "6 of 6 trials" in outcome.stderr
    n_right, n = re.search(r"reads ([\d,]+) of ([\d,]+) digits right", outcome.stdout).groups()
    assert 0.05 < int(n_right.replace(",", "")) / int(n.replace(",", "")) <= 1
    files = {path.name for path in tmp_path.iterdir() if not path.name.startswith("mnist.db-")}
    assert files == {
        "data",
        "mnist-best.pt",
        "mnist-errors.png",
        "mnist-files",
        "mnist.db",
        "script.py",
    }


def test_the_network_that_is_kept_is_that_of_the_best_trial(tmp_path: Path) -> None:
    """It reads the validation digits as well as the trial said."""
    program = f"""
import runpy, sys
sys.path.insert(0, {str(EXAMPLE.parent)!r})
sys.argv = {["mnist.py", *FLAGS, "--n-trials", "3", "--epochs", "2"]!r}
names = runpy.run_path({str(EXAMPLE)!r}, run_name="__main__")
import optuna, torch
from pathlib import Path
study = optuna.load_study(study_name="mnist", storage="sqlite:///mnist.db")
network = names["ConvNet"](**study.best_params).network
network.load_state_dict(torch.load("mnist-best.pt"))
digits = names["load_digits"](Path("data"), 400, 100, torch.device("cpu"), None)
from mnist_result import read
images, labels = digits.val.tensors
print("right:", (read(network, images) == labels).float().mean().item() - study.best_value)
"""
    process = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert abs(float(process.stdout.rpartition("right:")[2])) < 1e-6


def test_alone_it_needs_no_mpi_and_goes_on_where_it_ended(tmp_path: Path) -> None:
    program = f"""
import runpy, sys
sys.modules["mpi4py"] = None  # as if it were not installed
sys.argv = {[str(EXAMPLE), *FLAGS, "--n-trials", "1", "--epochs", "1"]!r}
sys.path.insert(0, {str(EXAMPLE.parent)!r})
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    for n in (1, 2):
        process = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert process.returncode == 0, process.stderr
        assert f"study mnist: {n} trials ({n} complete)" in process.stdout


WRONG_FLAGS = [
    (["--n-trials", "0"], "must be at least 1, but got 0"),
    (["--accelerator", "tpu"], "invalid choice: 'tpu'"),
    (["--islands", "2"], "islands=2 needs MPI"),
    (["--train-samples", "100000"], "share the"),
]


def test_a_wrong_flag_is_an_error_that_names_it(tmp_path: Path) -> None:
    program = f"""
import json, runpy, sys, traceback
sys.path.insert(0, {str(EXAMPLE.parent)!r})
for flags, _ in {WRONG_FLAGS!r}:  # in one process, as importing torch takes long
    sys.argv = [{str(EXAMPLE)!r}, "--n-trials", "1", *flags]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
        print("no error", file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    print("---", file=sys.stderr)
"""
    process = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    said = process.stderr.split("---")
    for (_, error), there in zip(WRONG_FLAGS, said, strict=False):
        assert error in there
        assert "no error" not in there
    assert len(said) == len(WRONG_FLAGS) + 1
    assert not (tmp_path / "mnist.db").exists()
