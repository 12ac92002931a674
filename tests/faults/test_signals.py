"""Signals and time limits: the search ends in order, with nothing lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.trial import TrialState

import optuna_propulate


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ALONE = """
import signal, sys, time, optuna_propulate
signal.signal(signal.SIGTERM, signal.SIG_DFL)  # else the handler that saves the coverage stays
study = optuna_propulate.create_study("sqlite:///study.db", study_name="s")
def objective(trial):
    x = trial.suggest_float("x", 0, 1)
    if trial.number == 5:
        print("started", flush=True)
        time.sleep(float(sys.argv[1]))
    return x
study.optimize(objective, n_trials=100_000, stop_grace=float(sys.argv[2]))
"""


def _states(path: Path) -> list[TrialState]:
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{path}/study.db")
    return [trial.state for trial in study.trials]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize(
    ("takes", "grace", "end"), [(1, 30, TrialState.COMPLETE), (60, 0.5, TrialState.FAIL)]
)
def test_a_signal_lets_the_running_trial_end_within_its_grace(
    tmp_path: Path, number: signal.Signals, takes: float, grace: float, end: TrialState
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ALONE, str(takes), str(grace)],
        cwd=tmp_path, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    assert process.wait(30) == 128 + number
    process.stdout.close()
    assert _states(tmp_path) == [TrialState.COMPLETE] * 5 + [end]


def test_a_second_signal_ends_the_running_trial_at_once(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ALONE, "60", "50"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGTERM)
    while "no trial starts any more" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert _states(tmp_path) == [TrialState.COMPLETE] * 5 + [TrialState.FAIL]


def test_a_signal_on_one_rank_stops_all(mpiexec: Callable, tmp_path: Path) -> None:
    outcome = mpiexec(
        """
        import signal, time
        import optuna_propulate
        from mpi4py import MPI
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # else the one that saves the coverage
        study = optuna_propulate.create_study("sqlite:///study.db", study_name="s")

        def objective(trial):
            x = trial.suggest_float("x", 0, 1)
            if MPI.COMM_WORLD.rank == 1 and trial.number > 50:
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            return x

        try:
            study.optimize(objective, n_trials=100_000)
        except SystemExit as end:
            report(status=end.code)
        """,
        3,
        timeout=60,
    )
    assert outcome.status == 0, outcome.stderr
    assert [rank["status"] for rank in outcome.ranks] == [128 + signal.SIGTERM] * 3
    assert set(_states(tmp_path)) == {TrialState.COMPLETE}
    assert "SIGTERM: no trial starts any more" in outcome.stderr


def test_after_the_timeout_running_trials_have_their_grace(
    mpiexec: Callable, tmp_path: Path
) -> None:
    outcome = mpiexec(
        """
        import time
        import optuna_propulate
        study = optuna_propulate.create_study("sqlite:///study.db", study_name="s")

        def objective(trial):
            x = trial.suggest_float("x", 0, 1)
            is_slow = study.sampler.configuration.worker == 0 and trial.number > 5
            time.sleep(60 if is_slow else 0.05)
            return x

        start = time.monotonic()
        study.optimize(objective, timeout=2, stop_grace=1)
        report(seconds=time.monotonic() - start)
        """,
        2,
        timeout=60,
    )
    assert outcome.status == 0, outcome.stderr
    assert all(rank["seconds"] < 30 for rank in outcome.ranks)
    states = _states(tmp_path)
    assert states.count(TrialState.FAIL) == 1
    assert states.count(TrialState.COMPLETE) == len(states) - 1 > 10


def test_a_user_s_own_handler_stays() -> None:
    heard = []
    term = signal.getsignal(signal.SIGTERM)
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    try:
        study = optuna_propulate.create_study()
        study.optimize(lambda trial: signal.raise_signal(signal.SIGUSR1) or 1.0, n_trials=2)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1] * 2
    assert signal.getsignal(signal.SIGTERM) == term


@pytest.mark.parametrize("grace", [-1, float("nan")])
def test_a_grace_is_not_negative(grace: float) -> None:
    with pytest.raises(ValueError, match="stop_grace"):
        optuna_propulate.create_study().optimize(lambda trial: 1.0, n_trials=1, stop_grace=grace)
