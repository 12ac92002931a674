"""On a machine with a GPU: `tox run -e gpu`, where nothing is skipped for lack of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import pytest


if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE = Path(__file__).parents[2] / "examples" / "mnist.py"


@pytest.fixture(scope="module", autouse=True)
def n_gpus() -> int:
    """Return how many GPUs there are, at least 1."""
    torch = pytest.importorskip("torch", reason="PyTorch is not here: install the extra 'mnist'.")
    n = int(torch.cuda.device_count())
    if n == 0 and os.environ.get("REQUIRE_GPU"):
        pytest.fail("This run has to have a GPU, but there is none.")
    if n == 0:
        pytest.skip("There is no GPU here.")
    return n


def test_each_rank_has_its_gpu_and_one_says_that_they_are_shared(
    mpiexec: Callable, n_gpus: int
) -> None:
    n_ranks = n_gpus + 1  # one more than there are
    outcome = mpiexec(
        """
        import warnings
        import torch
        from optuna_propulate import device_for_rank

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            device = device_for_rank(accelerator="gpu")
        total = torch.ones(1000, device=device).sum().item()
        report(index=device.index, total=total, said=[str(warning.message) for warning in caught])
        """,
        n_ranks,
    )
    assert outcome.status == 0, outcome.stderr
    assert [rank["index"] for rank in outcome.ranks] == [n % n_gpus for n in range(n_ranks)]
    assert all(rank["total"] == 1000 for rank in outcome.ranks)
    said = [text for rank in outcome.ranks for text in rank["said"]]
    assert said == [f"{n_ranks} ranks of this node share {n_gpus} GPU(s)."]


def test_what_cuda_visible_devices_hides_is_not_used(mpiexec: Callable) -> None:
    outcome = mpiexec(
        """
        from optuna_propulate import device_for_rank
        error = ""
        try:
            device_for_rank(accelerator="gpu")
        except RuntimeError as refused:
            error = str(refused)
        report(device=str(device_for_rank()), error=error)
        """,
        2,
        environ={"CUDA_VISIBLE_DEVICES": ""},
    )
    assert outcome.status == 0, outcome.stderr
    assert {rank["device"] for rank in outcome.ranks} == {"cpu"}
    assert all("see no GPU" in rank["error"] for rank in outcome.ranks)


def test_two_ranks_search_mnist_on_the_gpus(mpiexec: Callable, tmp_path: Path) -> None:
    flags = ["--n-trials", "6", "--train-samples", "400", "--val-samples", "100"]
    outcome = mpiexec(
        f"""
        import runpy
        sys.argv = {["mnist.py", "--accelerator", "gpu", *flags]!r}
        sys.path.insert(0, {str(EXAMPLE.parent)!r})
        runpy.run_path({str(EXAMPLE)!r}, run_name="__main__")
        """,
        2,
        timeout=240,
    )
    assert outcome.status == 0, outcome.stderr
    study = optuna.load_study(study_name="mnist", storage=f"sqlite:///{tmp_path}/mnist.db")
    assert len(study.trials) == 6
    assert {trial.user_attrs["worker"] for trial in study.trials} == {0, 1}
    assert all(trial.user_attrs["device"].startswith("cuda:") for trial in study.trials)
    assert "digits right that no trial saw" in outcome.stdout


def test_a_network_that_the_gpu_trained_is_read_on_the_cpu(tmp_path: Path) -> None:
    program = f"""
import runpy, sys
sys.path.insert(0, {str(EXAMPLE.parent)!r})
sys.argv = ["mnist.py", "--n-trials", "1", "--train-samples", "100", "--val-samples", "50"]
names = runpy.run_path({str(EXAMPLE)!r}, run_name="__main__")
import torch
assert all(tensor.device.type == "cpu" for tensor in torch.load("mnist-best.pt").values())
"""
    process = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
