"""The figures of a search: drawn from real studies, and from ones that are known to the number."""

from __future__ import annotations

from datetime import datetime
from datetime import timedelta
from typing import TYPE_CHECKING
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from optuna.trial import create_trial

from optuna_propulate import PropulateSampler
from optuna_propulate import visualization
from optuna_propulate.visualization import plot_best_values
from optuna_propulate.visualization import plot_lineage
from optuna_propulate.visualization import plot_migration_flows
from optuna_propulate.visualization import plot_operator_success
from optuna_propulate.visualization import plot_worker_timeline
from optuna_propulate.visualization.worker_timeline import utilisation


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytest.importorskip("plotly", reason="Figures need the extra 'visualization'.")

PLOTS = [getattr(visualization, name) for name in visualization.__all__]
START = datetime(2026, 1, 1)

SEARCH = """
import optuna_propulate
study = optuna_propulate.create_study(
    "sqlite:///study.db", study_name="mpi",
    sampler=optuna_propulate.PropulateSampler(
        seed=1, islands=2, migration=optuna_propulate.Pollination(probability=0.5)
    ),
)
study.optimize(lambda trial: sum(trial.suggest_float(c, -5, 5) ** 2 for c in "xy"), n_trials=300)
"""


def trial_of(
    value: float,
    island: int = 0,
    worker: int = 0,
    seconds: tuple[float, float] = (0.0, 1.0),
    parents: tuple[int, ...] = (),
    operators: tuple[str, ...] = ("RandomInitialization",),
    generation: int = 0,
    **system_attrs: Any,
) -> optuna.trial.FrozenTrial:
    lineage = {"operators": list(operators), "parents": list(parents)}
    trial = create_trial(
        value=value,
        user_attrs={"island": island, "worker": worker, "generation": generation},
        system_attrs={"propulate:lineage": lineage, **system_attrs},
    )
    trial.datetime_start, trial.datetime_complete = (
        START + timedelta(seconds=second) for second in seconds
    )
    return trial


def study_of(*trials: optuna.trial.FrozenTrial, direction: str = "minimize") -> optuna.Study:
    study = optuna.create_study(direction=direction, study_name="known")
    study.add_trials(trials)
    return study


def test_all_figures_show_a_job_of_four_ranks(mpiexec: Callable, tmp_path: Path) -> None:
    assert mpiexec(SEARCH, 4).status == 0
    study = optuna.load_study(study_name="mpi", storage=f"sqlite:///{tmp_path}/study.db")
    figures = {plot.__name__: plot(study) for plot in PLOTS}
    assert all("mpi" in figure.layout.title.text for figure in figures.values())
    assert [t.name for t in figures["plot_best_values"].data] == ["island 0", "island 1"]
    ends = [trace.y[-1] for trace in figures["plot_best_values"].data]
    assert min(ends) == study.best_value
    rows = figures["plot_worker_timeline"].layout.yaxis.ticktext
    assert len(rows) == 4
    assert "4 workers" in figures["plot_worker_timeline"].layout.title.text
    (flows,) = figures["plot_migration_flows"].data
    assert flows.z[0][1] + flows.z[1][0] > 0
    assert "CovarianceSampling" in {t.name for t in figures["plot_operator_success"].data}


def test_the_best_value_only_gets_better() -> None:
    trials = [
        trial_of(v, int(v == 9), seconds=(0, i + 1)) for i, v in enumerate([3.0, 5.0, 9.0, 1.0])
    ]
    first, second = plot_best_values(study_of(*trials)).data
    assert list(first.y) == [3.0, 1.0, 1.0]
    assert list(second.y) == [9.0, 9.0]
    (rising, _) = plot_best_values(study_of(*trials, direction="maximize")).data
    assert list(rising.y) == [3.0, 5.0, 5.0]


def test_an_operator_is_a_success_among_the_best_twenty() -> None:
    good = [trial_of(-i, operators=("A",), seconds=(0, i + 1)) for i in range(60)]
    bad = [trial_of(99.0, operators=("A", "B"), seconds=(0, 100 + i)) for i in range(60)]
    figure = plot_operator_success(study_of(*good, *bad))
    of_a, use_of_a, of_b, use_of_b = figure.data
    assert (of_a.name, of_b.name) == ("A", "A > B")
    assert [share for share in of_a.y if share is not None] == [1.0] * 16  # with neighbours
    assert [share for share in of_b.y if share is not None] == [0.0] * 16
    assert list(use_of_a.y) == pytest.approx([1.0] * 14 + [2 / 3, 1 / 3] + [0.0] * 14)
    assert list(use_of_b.y) == pytest.approx([0.0] * 14 + [1 / 3, 2 / 3] + [1.0] * 14)


def test_busy_and_idle_add_up() -> None:
    def span(start: float, end: float) -> tuple[datetime, datetime]:
        return START + timedelta(seconds=start), START + timedelta(seconds=end)

    assert utilisation({(0, 0): [span(0, 10)], (0, 1): [span(0, 5)]}) == 0.75
    assert utilisation({(0, 0): [span(0, 6), span(4, 10)]}) == 1.0  # threads overlap
    assert utilisation({}) == 0.0
    figure = plot_worker_timeline(
        study_of(trial_of(1.0, seconds=(0, 10)), trial_of(2.0, worker=1, seconds=(5, 10)))
    )
    assert "2 workers, 75%" in figure.layout.title.text


def test_the_timeline_tells_states_apart() -> None:
    failed = create_trial(state=TrialState.FAIL, user_attrs={"island": 0, "worker": 0})
    figure = plot_worker_timeline(study_of(trial_of(1.0), failed))
    assert {trace.name for trace in figure.data} == {"complete", "fail"}


def test_a_lineage_has_the_nearest_ancestors_of_the_best() -> None:
    trials = [
        trial_of(9.0),
        trial_of(8.0),
        trial_of(7.0, parents=(0, 1), operators=("A",), generation=1),
        trial_of(6.0, parents=(2, 999), operators=("B",), generation=2),
        trial_of(99.0, parents=(3,), operators=("C",), generation=3),
    ]
    lines, *dots = plot_lineage(study_of(*trials)).data
    assert {dot.name: list(dot.y) for dot in dots} == {
        "RandomInitialization": [9.0, 8.0],
        "A": [7.0],
        "B": [6.0],
    }
    assert len(lines.x) == 3 * 3
    _, *dots = plot_lineage(study_of(*trials), trial=4, n_ancestors=1).data
    assert [dot.name for dot in dots] == ["B", "C"]


def test_flows_are_counted_by_where_from_and_where_to() -> None:
    record = {"policy": "pollination", "time": 1.0, "migrants": [[0, 0, 1, 1], [1, 0, 1, 1]]}
    trials = [trial_of(1.0), trial_of(2.0, **{"propulate:migrations": record})]
    (flows,) = plot_migration_flows(study_of(*trials, trial_of(3.0, island=1, worker=1))).data
    assert [list(row) for row in flows.z] == [[None, 2], [0, None]]


@pytest.mark.parametrize("plot", PLOTS)
def test_a_study_of_another_sampler_is_told_what_it_lacks(plot: Any) -> None:
    study = optuna.create_study()
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    with pytest.raises(ValueError, match="'island'"):
        plot(study)
    with pytest.raises(ValueError, match="one objective"):
        plot(optuna.create_study(directions=["minimize", "maximize"]))


@pytest.mark.parametrize("plot", PLOTS)
def test_corrupt_records_are_no_records(plot: Any) -> None:
    trial = trial_of(1.0)
    trial.system_attrs["propulate:lineage"] = {"operators": 3, "parents": "all"}
    assert len(plot(study_of(trial, trial_of(2.0, parents=(0,)))).data) > 0


@pytest.mark.parametrize("plot", PLOTS)
def test_a_study_in_memory_is_drawn_while_it_runs(plot: Any) -> None:
    study = optuna.create_study(sampler=PropulateSampler(seed=1))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=30)
    study.ask().suggest_float("x", 0, 1)
    assert len(plot(study).data) > 0


def test_bad_arguments_of_a_lineage_are_refused() -> None:
    study = study_of(trial_of(1.0))
    with pytest.raises(ValueError, match="n_ancestors"):
        plot_lineage(study, n_ancestors=0)
    with pytest.raises(ValueError, match="trial must"):
        plot_lineage(study, trial=7)


def test_values_that_span_decades_are_on_a_logarithmic_axis() -> None:
    def descending(*values: float) -> optuna.Study:
        return study_of(
            *(
                trial_of(value, seconds=(0, i + 1), parents=(i - 1,) if i else ())
                for i, value in enumerate(values)
            )
        )

    wide, near = descending(1e3, 1.0, 1e-5), descending(2.0, 1.5, 1.0)
    through_zero = descending(100.0, 1.0, 0.0)
    for plot in (plot_best_values, plot_lineage):
        assert plot(wide).layout.yaxis.type == "log"
        assert plot(near).layout.yaxis.type is None
        assert plot(through_zero).layout.yaxis.type is None


def test_figures_with_nothing_to_show_say_so() -> None:
    study = study_of(trial_of(1.0, seconds=(0, 1)))
    assert "nobody migrates" in plot_migration_flows(study).layout.annotations[0].text
    assert plot_lineage(study).layout.annotations[0].text == "bred from nobody"


def test_an_operator_has_one_colour_in_all_figures() -> None:
    trials = [
        trial_of(
            float(i), operators=(chain,) if i % 2 else (chain, "Screening"), seconds=(0, i + 1)
        )
        for i, chain in enumerate(["Recombination", "CovarianceSampling", "Mine"] * 6)
    ]
    study = study_of(*trials)
    lines = {trace.name: trace.line.color for trace in plot_operator_success(study).data}
    dots = {
        trace.name: trace.marker.color
        for number in range(6)
        for trace in plot_lineage(study, number).data[1:]
    }
    assert lines == dots
    assert lines["Mine"] == lines["Mine > Screening"] != lines["Recombination"]
