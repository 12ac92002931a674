"""Children of an objective are the objective's own: nothing of ours hinders them."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import optuna
from optuna.trial import TrialState


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WAYS = [
    "pool", "terminate", "executor fork", "executor spawn", "executor forkserver", "loader",
    "loky", "os.fork", "subprocess", "signal in a child",
]  # fmt: skip

SCRIPT = """
import multiprocessing, os, signal, subprocess, sys, time
import concurrent.futures
import optuna, optuna_propulate

def double(x):
    return 2 * x

def sleep_long():
    time.sleep(1000)

def wait_for(child):
    child.join(60)
    assert child.exitcode is not None, "a child hangs"
    return child.exitcode

def objective(trial):
    x = trial.suggest_float("x", 0, 1)
    way = ways[(trial.number // n_ranks) % len(ways)]
    trial.set_user_attr("way", way)
    if way == "pool":
        with multiprocessing.Pool(2) as pool:
            assert pool.map(double, [x, 1.0]) == [2 * x, 2.0]
    elif way == "terminate":
        child = multiprocessing.Process(target=sleep_long)
        child.start()
        child.terminate()
        assert wait_for(child) == -signal.SIGTERM
    elif way.startswith("executor"):
        context = multiprocessing.get_context(way.split()[1])
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            assert pool.submit(double, x).result(60) == 2 * x
    elif way == "loader":
        import torch
        from torch.utils.data import DataLoader, TensorDataset
        data = TensorDataset(torch.full((8, 1), x))
        assert sum(len(batch) for batch, in DataLoader(data, 2, num_workers=2)) == 8
    elif way == "loky":
        import joblib
        assert joblib.Parallel(2)(joblib.delayed(abs)(-n) for n in range(4)) == [0, 1, 2, 3]
    elif way == "os.fork":
        child = os.fork()
        if child == 0:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    elif way == "subprocess":
        subprocess.run([sys.executable, "-c", "pass"], check=True, timeout=60)
    elif way == "signal in a child":
        child = os.fork()
        if child == 0:
            assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
            os.kill(os.getpid(), signal.SIGUSR1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGUSR1
    return x

ways, n_ranks = {ways!r}, {n_ranks}
if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # else the handler that saves the coverage stays
    study = optuna_propulate.create_study("sqlite:///study.db", study_name="s")
    study.optimize(objective, n_trials={n_ranks} * len(ways))
"""


def check(path: Path, n_ranks: int) -> None:
    trials = optuna.load_study(study_name="s", storage=f"sqlite:///{path}/study.db").trials
    assert [trial.number for trial in trials] == list(range(n_ranks * len(WAYS)))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert {trial.user_attrs["way"] for trial in trials} == set(WAYS)


def test_an_objective_may_have_children(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(ways=WAYS, n_ranks=1))
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    check(tmp_path, 1)


def test_an_objective_of_a_rank_may_have_children(mpiexec: Callable, tmp_path: Path) -> None:
    outcome = mpiexec(SCRIPT.format(ways=WAYS, n_ranks=2), 2, timeout=200)
    assert outcome.status == 0, outcome.stderr
    check(tmp_path, 2)
