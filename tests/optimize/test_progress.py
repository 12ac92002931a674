"""How far a search is said to be: a bar in a terminal, lines elsewhere."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import textwrap
import threading
import time
from typing import TYPE_CHECKING

import optuna

import optuna_propulate
from optuna_propulate.optimize.budget import Budget
from optuna_propulate.optimize.progress import ProgressBar
from optuna_propulate.optimize.progress import ProgressLines
from optuna_propulate.optimize.progress import line_of
from optuna_propulate.parallel.team import LocalTeam


if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def sphere(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -5, 5) ** 2


def test_a_bar_shows_every_trial_once_and_the_best_value(
    capsys: pytest.CaptureFixture[str],
) -> None:
    study, budget = optuna_propulate.create_study(), Budget(LocalTeam(), 30)
    study.optimize(sphere, n_trials=5)
    with ProgressBar(study, 30, budget) as bar:

        def work() -> None:
            for _ in range(10):
                budget.note_finished()
                bar.refresh()

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        budget.share_finished()
    shown = capsys.readouterr().err.splitlines()[-1]
    assert "30/30" in shown
    assert f"best value {study.best_value:g}" in shown


def test_in_a_terminal_what_is_logged_stands_above_the_bar(tmp_path: Path) -> None:
    script = """
    import time
    import optuna_propulate

    def objective(trial):
        time.sleep(0.12)  # longer than tqdm waits before it draws again
        return trial.suggest_float("x", -5, 5) ** 2

    optuna_propulate.create_study().optimize(objective, n_trials=8, show_progress_bar=True)
    """
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=tmp_path, stderr=terminal,
    ) as process:  # fmt: skip
        os.close(terminal)
        drawn = b""
        while piece := _read(screen):
            drawn += piece
    os.close(screen)
    assert process.returncode == 0
    pieces = re.split(r"[\r\n]+", drawn.decode())
    bars = [piece for piece in pieces if "%|" in piece]
    logged = [piece for piece in pieces if "finished with value" in piece]
    assert "8/8" in bars[-1]
    assert len(logged) == 8
    assert not set(bars) & set(logged)


def _read(screen: int) -> bytes:
    try:
        return os.read(screen, 4096)
    except OSError:  # what Linux says when nobody has the terminal open any more
        return b""


def test_lines_say_how_far_the_search_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("optuna_propulate.optimize.progress._LINE_EVERY", 0.0)
    study, budget = optuna.create_study(), Budget(LocalTeam(), 3)
    lines = ProgressLines(study, 3, budget)

    def objective(trial: optuna.Trial) -> float:
        while time.monotonic() < lines._throttle._next:
            time.sleep(0.001)
        budget.note_finished()
        budget.share_finished()
        return 4.0 - trial.number

    with lines:
        study.optimize(objective, n_trials=3, callbacks=lines.callbacks)
    shown = [line.partition(" trials/s")[0] for line in capsys.readouterr().err.splitlines()]
    assert [line.rpartition(", ")[0] for line in shown if "best" in line] == [
        "1 of 3 trials, best value 4",
        "2 of 3 trials, best value 3",
        "3 of 3 trials, best value 2",
    ]


def test_a_search_alone_that_no_terminal_shows_ends_with_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = optuna_propulate.create_study()
    study.optimize(sphere, n_trials=20, show_progress_bar=True)
    assert f"20 of 20 trials, best value {study.best_value:g}" in capsys.readouterr().err


def test_a_line_says_how_much_is_left() -> None:
    assert line_of(40, 100, 20.0, "best value 3") == (
        "40 of 100 trials, best value 3, 2 trials/s, 0:00:30 left"
    )
    assert line_of(4, 3, 2.0, "best value 3") == "4 of 3 trials, best value 3, 2 trials/s"
    assert line_of(4, None, 2.0, "none complete") == "4 trials, none complete, 2 trials/s"
    assert line_of(0, 3, 2.0, "none complete") == "0 of 3 trials, none complete, 0 trials/s"
