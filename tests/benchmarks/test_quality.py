"""The parts of the quality benchmark that a wrong figure could hide in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

import benchmarks.quality.mixed as quality_mixed
import benchmarks.quality.ours as quality_ours
import benchmarks.quality.report as quality_report
import benchmarks.quality.runs as quality_runs
from benchmarks.quality.contenders import search_optuna
from benchmarks.quality.functions import FUNCTIONS
from benchmarks.quality.peers import search_peer
from benchmarks.quality.runs import Record
from benchmarks.quality.tasks import Task
from benchmarks.quality.tasks import task_by_name
from benchmarks.quality.tasks import tasks
from optuna_propulate.evolution.genes import from_unit


if TYPE_CHECKING:
    from typing import Any

    from optuna.distributions import BaseDistribution

OPTIMA = {
    "sphere": 0.0, "rosenbrock": 1.0, "step": -5.12, "quartic": 0.0, "rastrigin": 0.0,
    "griewank": 0.0, "schwefel": 420.968746, "bisphere": 2.5, "birastrigin": 2.5,
}  # fmt: skip
MIXED = ("training", "categories", "ellipsoid", "integers", "branches", "inheritance")


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_the_functions_have_the_optima_of_the_paper(function: Any) -> None:
    optimum = np.full(function.n_dimensions, OPTIMA[function.name])
    assert abs(function.value(optimum) - function.best) < 1e-4
    rng = np.random.default_rng(1)
    for x in rng.uniform(-function.limit, function.limit, (500, function.n_dimensions)):
        assert function.value(x) > function.best


def test_the_wide_funnel_of_bisphere_is_thirty_deep() -> None:
    bisphere = next(function for function in FUNCTIONS if function.name == "bisphere")
    s = 1.0 - math.sqrt(1.0 / (2.0 * math.sqrt(50.0) - 8.2))
    assert bisphere.value(np.full(30, -math.sqrt(5.25 / s))) == pytest.approx(30.0)


@pytest.mark.parametrize("name", MIXED)
def test_mixed_tasks_are_never_better_than_zero_and_differ_by_seed(name: str) -> None:
    def at_random(seed: int) -> list[float]:
        rng = np.random.default_rng(7)
        loss = getattr(quality_mixed, name)(seed)

        def suggest(parameter: str, distribution: BaseDistribution) -> Any:
            return from_unit(rng.random(), distribution)

        return [loss(suggest) for _ in range(300)]

    assert min(at_random(1)) > 0.0
    assert at_random(1) == at_random(1)
    assert at_random(1) != at_random(2)


def test_the_curve_shows_the_true_loss_of_the_best_seen() -> None:
    losses = [(5.0, 50.0), (3.0, 90.0), (3.0, 10.0), (4.0, 1.0), (2.0, 70.0), (2.5, 0.0)]
    shown = quality_runs.curve(losses)
    assert quality_runs.checkpoints(6) == [5, 6]
    assert shown == [70.0, 70.0]
    assert quality_runs.curve([*losses[:4], (9.0, 0.0)]) == [90.0]


@pytest.mark.parametrize("n_workers", [1, 8])
def test_everybody_evaluates_the_same_number_of_trials(n_workers: int) -> None:
    inheritance = task_by_name("inheritance")
    short = Task("inheritance", "mixed", 40, inheritance.objective)
    ours = quality_ours.search(short, n_workers, 1)
    assert len(ours) == len(search_optuna(short, "NSGA-II", n_workers, 1)) == 40
    assert ours == quality_ours.search(short, n_workers, 1)
    assert ours != quality_ours.search(short, n_workers, 2)


@pytest.mark.parametrize("name", ["f02 3D", "f19 20D"])
def test_functions_of_bbob_are_above_their_optimum_which_the_seed_moves(name: str) -> None:
    task = task_by_name(name)

    def at_random(seed: int) -> list[float]:
        rng, evaluate = np.random.default_rng(7), task.objective(seed)
        return [evaluate(lambda _, space: from_unit(rng.random(), space))[1] for _ in range(50)]

    assert min(at_random(1)) > 0.0
    assert at_random(1) == at_random(1)
    assert at_random(1) != at_random(2)


@pytest.mark.parametrize("name", ["sphere", "branches", "integers", "categories"])
def test_catcma_finds_better_than_random(name: str) -> None:
    task = task_by_name(name).of(150)
    peer = [min(search_peer(task, "CatCMAwM", 4, seed))[1] for seed in range(4)]
    chance = [min(search_optuna(task, "Random", 4, seed))[1] for seed in range(4)]
    assert np.mean(peer) < np.mean(chance)


def test_a_run_is_looked_at_after_each_budget() -> None:
    losses = [(float(-n), float(-n)) for n in range(1, 301)]
    run = Record("branches", "Random", 1, 0, 300, quality_runs.curve(losses))
    assert [run.at(budget) for budget in (25, 50, 100, 200, 300)] == [-25, -50, -100, -200, -300]


def test_noise_is_seen_and_does_not_count() -> None:
    quartic = task_by_name("quartic")
    short = Task("quartic", "function", 30, quartic.objective)
    losses = quality_ours.search(short, 2, 1)
    assert all(seen != true for seen, true in losses)


def record(task: str, sampler: str, seed: int, loss: float, n_workers: int = 8) -> Record:
    n_trials = task_by_name(task).n_trials
    curve = [loss] * len(quality_runs.checkpoints(n_trials))
    return Record(task, sampler, n_workers, seed, n_trials, curve)


def report(ours: float, theirs: float, **of_task: float) -> quality_report.Report:
    return quality_report.Report(
        [
            record(task.name, sampler, seed, of_task.get(f"{sampler}_{task.name}", loss))
            for task in tasks()
            for sampler, loss in (("PropulateSampler", ours), ("NSGA-II", theirs), ("TPE", 9.0))
            for seed in range(3)
        ]
    )


def test_the_gate_is_quiet_where_nothing_falls_short() -> None:
    good = report(1e-20, 1.0)
    assert good.shortfalls == []
    assert good.mean_ranks == {"PropulateSampler": 1.0, "NSGA-II": 2.0, "TPE": 3.0}


def test_the_gate_names_what_falls_short() -> None:
    assert "NSGA-II has the first mean rank" in report(2.0, 1.0).shortfalls
    (slow,) = report(1e-20, 1.0, PropulateSampler_sphere=1e-11).shortfalls
    assert slow.startswith("sphere, 8 workers")
    (table,) = report(1e-20, 1.0, PropulateSampler_car=0.03, TPE_car=0.005).shortfalls
    assert table.startswith("car, 8 workers")
    ties = {f"PropulateSampler_{task.name}": 1.0 for task in tasks()[10:20]}
    assert any("NSGA-II is not beaten" in one for one in report(1e-20, 1.0, **ties).shortfalls)
