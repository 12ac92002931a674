"""Objectives that take over signals: an asked-for end is an ordered end all the same."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.trial import TrialState


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SEARCH = """
import json, os, signal, sys, threading, time
import optuna, optuna_propulate

INT = signal.getsignal(signal.SIGINT)  # ignored below a shell's "&"

def strike_later(number, seconds):
    threading.Timer(seconds, os.kill, (os.getpid(), number)).start()

def search(rank, objective, number, name):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # else the handler that saves the coverage stays
    study = optuna_propulate.create_study("sqlite:///study.db", study_name=name)

    def observed(trial):
        x = trial.suggest_float("x", 0, 1)
        if rank == 0 and trial.number > 4:
            objective(trial, number)
        time.sleep(0.02)
        return x

    status = None
    try:
        study.optimize(observed, n_trials=100_000, stop_grace=1)
    except SystemExit as end:
        status = end.code
    after = [signal.getsignal(n) is h for n, h in (
        (signal.SIGTERM, signal.SIG_DFL), (signal.SIGUSR1, signal.SIG_DFL),
        (signal.SIGINT, INT),
    )]
    return [name, status, after]

def fit(trial, number):
    import torch, lightning
    from torch.utils.data import DataLoader, TensorDataset

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)
            self.is_struck = False
        def training_step(self, batch, index):
            if not self.is_struck:
                self.is_struck = True
                strike_later(number, 0.1)
            time.sleep(0.01)
            return self.layer(batch[0]).mean()
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.01)

    from lightning.pytorch.plugins.environments import LightningEnvironment
    data = DataLoader(TensorDataset(torch.zeros(4000, 4)), batch_size=4)
    lightning.Trainer(
        max_epochs=50, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accelerator="cpu", devices=1,
        plugins=[LightningEnvironment()],
    ).fit(Model(), data)

def keep_a_handler(trial, number):
    for each in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(each, lambda number, frame: None)
    os.kill(os.getpid(), number)
    if trial.number < 8:
        return  # the next trials of the rank still end
    time.sleep(60)

def swallow(trial, number):
    signal.signal(number, lambda number, frame: None)
    strike_later(number, 0.2)
    time.sleep(60)  # the grace ends it, though nothing here heeds the signal

def exit_by_oneself(trial, number):
    def leave(number, frame):
        raise SystemExit("by the objective's own handler")
    signal.signal(number, leave)
    strike_later(number, 0.2)
    time.sleep(60)
"""

NUMBERS = [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT]


def check_end(results: list[list[object]], number: int, path: Path, stderr: str) -> None:
    for name, status, handlers in results:
        assert status == 128 + number, (name, stderr)
        assert handlers == [True] * 3, name
        study = optuna.load_study(study_name=str(name), storage=f"sqlite:///{path}/study.db")
        states = [trial.state for trial in study.trials]
        assert set(states) <= {TrialState.COMPLETE, TrialState.FAIL}, name
        assert states.count(TrialState.FAIL) <= 1, name
    assert "Traceback" not in stderr


@pytest.mark.parametrize("number", NUMBERS)
def test_whatever_handlers_an_objective_of_a_rank_has_its_end_is_ordered(
    mpiexec: Callable, tmp_path: Path, number: int
) -> None:
    script = (
        SEARCH
        + f"""
from mpi4py import MPI
rank = MPI.COMM_WORLD.rank
report(results=[
    search(rank, objective, {int(number)}, objective.__name__)
    for objective in (fit, keep_a_handler, swallow, exit_by_oneself)
])
"""
    )
    outcome = mpiexec(script, 2, timeout=150)
    assert outcome.status == 0, outcome.stderr
    for rank in outcome.ranks:
        check_end(rank["results"], number, tmp_path, outcome.stderr)


@pytest.mark.parametrize("number", NUMBERS[:2])  # Ctrl-C is Optuna's own in a process alone
def test_whatever_handlers_an_objective_has_its_end_is_ordered(
    tmp_path: Path, number: int
) -> None:
    script = (
        SEARCH
        + f"""
for objective in (fit, swallow, exit_by_oneself):
    print(json.dumps(search(0, objective, {int(number)}, objective.__name__)), flush=True)
"""
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(results) == 3
    check_end(results, number, tmp_path, done.stderr)


def test_an_end_is_ordered_whoever_of_the_threads_reads_the_signal_first(tmp_path: Path) -> None:
    script = """
import os, signal, sys, threading, time
import optuna
from optuna_propulate.optimize.stopping import Stopping
from optuna_propulate.optimize.budget import Budget
from optuna_propulate.parallel.team import LocalTeam

sys.setswitchinterval(1e-5)
for _ in range(2):
    threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start()
struck = []

def leave(number, frame):
    struck.append(number)
    raise SystemExit("by the objective's own handler")

def objective(trial):
    signal.signal(signal.SIGUSR1, leave)
    threading.Timer(0.005, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    n_struck = len(struck)
    while len(struck) == n_struck:
        time.sleep(0.01)

n_left = 0
for _ in range(100):
    team = LocalTeam()
    with Stopping(optuna.create_study(), team, Budget(team, None), None, 30.0) as stopping:
        try:
            stopping.guard(objective)(None)
        except SystemExit:
            n_left += 1
        except Exception:
            pass
print(len(struck), n_left)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["100", "0"], done.stderr
