"""The benchmark of pruners: what it counts, and that a seed says what a search does."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.fidelity.curves import DIGITS
from benchmarks.fidelity.curves import N_EPOCHS
from benchmarks.fidelity.curves import curves
from benchmarks.fidelity.curves import made
from benchmarks.fidelity.digits import GRID
from benchmarks.fidelity.digits import losses
from benchmarks.fidelity.runs import PRUNERS
from benchmarks.fidelity.runs import Key
from benchmarks.fidelity.runs import Run
from benchmarks.fidelity.runs import search


if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("scipy", reason="Wilcoxon's pruner and the ranks need scipy.")


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """Return a file of curves, instead of those that take minutes to train."""
    rng = np.random.default_rng(1)
    ends = rng.random([len(values) for values in GRID.values()])
    falling = np.linspace(2.0, 0.0, N_EPOCHS)
    np.save(tmp_path / "digits.npy", ends[..., None] + falling * (1 + ends[..., None]))
    curves.cache_clear()
    return tmp_path / "digits.npy"


@pytest.mark.parametrize(("pruner", "n_workers"), [*product(PRUNERS, (1, 4))])
def test_epochs_are_counted_and_a_seed_says_all(digits: Path, pruner: str, n_workers: int) -> None:
    key = Key(DIGITS, pruner, "PropulateSampler", n_workers, 1)
    run, again = (search(key, 16 * N_EPOCHS, digits) for _ in range(2))
    assert (run.best, run.n_trials, run.random) == (again.best, again.n_trials, again.random)
    assert run.best == tuple(sorted(run.best, reverse=True))
    assert 0.0 <= run.best[-1] < 1.0
    if pruner == "none":
        assert 16 <= run.n_trials <= 16 + n_workers
    else:
        assert run.n_trials > 16


def test_a_made_curve_ends_where_its_table_says() -> None:
    curve = made(0.7, np.random.default_rng(1))
    assert curve.shape == (N_EPOCHS,)
    assert curve[-1] == pytest.approx(0.7)
    assert curve[0] > 1.0


def test_the_network_learns_and_a_rate_too_high_is_worst() -> None:
    pytest.importorskip("sklearn", reason="The digits are scikit-learn's.")
    learnt = list(losses(3, 16, 0.1, 0.9, 1e-4, 64))
    assert learnt[-1] < learnt[0] < 2.3
    with np.errstate(over="ignore", invalid="ignore"):
        assert list(losses(2, 16, 1e6, 0.9, 1e-4, 64))[-1] > learnt[-1]


def test_the_report_compares_with_none_and_with_ours() -> None:
    from benchmarks.fidelity.__main__ import Report

    best = {
        ("none", "PropulateSampler"): 0.2, ("none", "TPE"): 0.4,
        ("median", "PropulateSampler"): 0.3, ("median", "TPE"): 0.1,
    }  # fmt: skip
    runs = [
        Run(Key(DIGITS, pruner, sampler, 1, seed), (1.0, loss, loss), 40, 0.0, 0.001)
        for (pruner, sampler), loss in best.items()
        for seed in range(3)
    ]
    lines = Report(runs).text().splitlines()
    ours, tpe = (next(line for line in lines if f"| median | {name}" in line) for name in
                 ("PropulateSampler", "TPE"))  # fmt: skip
    assert "| 1.50 | 2.00 | 2.00 | 1.000 | 0.300 | 0.300 | 0 : 3 | 40 | 0.0% |" in ours
    assert "| 1.50 (0 : 0) | 1.00 (0 : 3) | 1.00 (0 : 3) |" in tpe
    assert "| 3 : 0 | 40 |" in tpe
