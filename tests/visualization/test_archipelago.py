from __future__ import annotations

import math
import re
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState
from optuna.trial import create_trial

from optuna_propulate import Migration
from optuna_propulate import Pollination
from optuna_propulate import PropulateSampler
from optuna_propulate._optuna_compat import storage_of
from optuna_propulate.islands import migrations
from optuna_propulate.records.summary import summarize
from optuna_propulate.records.survey import goodness
from optuna_propulate.visualization import plot_archipelago
from optuna_propulate.visualization.layout import arrange
from optuna_propulate.visualization.layout import arrow_curve
from optuna_propulate.visualization.layout import arrow_outline
from optuna_propulate.visualization.layout import bezier
from optuna_propulate.visualization.layout import dot_diameters
from optuna_propulate.visualization.layout import dots_in_disc
from optuna_propulate.visualization.layout import label_points


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from pathlib import Path

SEARCH = """
import optuna_propulate
study = optuna_propulate.create_study(
    "sqlite:///study.db", study_name="mpi",
    sampler=optuna_propulate.PropulateSampler(
        seed=1, islands=[2, 3], migration=optuna_propulate.Migration(probability=0.5)
    ),
)
study.optimize(sphere, n_trials=80)
"""


def _sphere(trial: optuna.Trial) -> float:
    return sum(trial.suggest_float(name, -5, 5) ** 2 for name in ("x", "y"))


def _search(n_islands: int, rounds: int = 30, **settings: Any) -> optuna.Study:
    """Run a study of islands that exchange individuals through its storage, in turns."""
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(study_name="turns", storage=storage)
    workers = [
        optuna.load_study(
            study_name="turns",
            storage=storage,
            sampler=PropulateSampler(islands=n_islands, island=island, seed=1, **settings),
        )
        for island in range(n_islands)
    ]
    for _ in range(rounds):
        for worker in workers:
            worker.optimize(_sphere, n_trials=1)
    return study


def _recorded(rows: Iterable[dict[str, Any]], direction: str = "minimize") -> optuna.Study:
    """Return a study of one trial for each row: island, worker, value, state, migrants."""
    study = optuna.create_study(study_name="recorded", direction=direction)
    for row in rows:
        attributes = {name: row[name] for name in ("island", "worker") if name in row}
        record = {"policy": row.get("policy", "pollination"), "time": 1.0}
        state = row.get("state", TrialState.COMPLETE)
        study.add_trial(
            create_trial(
                state=state,
                params={"x": 0.5},
                distributions={"x": FloatDistribution(0, 1)},
                value=row.get("value", 1.0) if state == TrialState.COMPLETE else None,
                user_attrs=attributes,
                system_attrs={"propulate:migrations": {**record, "migrants": row["migrants"]}}
                if "migrants" in row
                else {},
            )
        )
    return study


def _traces(study: optuna.Study) -> dict[str, Any]:
    return {trace.name: trace for trace in plot_archipelago(study).data}


def _arrows(study: optuna.Study) -> dict[tuple[int, int], int]:
    traces = _traces(study)
    rows = traces["migrants"].customdata if "migrants" in traces else ()
    return {(origin, target): n_migrants for origin, target, n_migrants in rows}


def _travelled(study: optuna.Study) -> dict[tuple[int, int], int]:
    return dict(Counter((record.origin, record.target) for record in migrations(study)))


def _dots(study: optuna.Study) -> dict[tuple[int, int], int]:
    return {(island, worker): n for island, worker, n in _traces(study)["workers"].customdata}


def _finished(study: optuna.Study) -> dict[tuple[int, int], int]:
    attributes = [trial.user_attrs for trial in study.trials if trial.state.is_finished()]
    return dict(Counter((names["island"], names["worker"]) for names in attributes))


def _area(trace: Any) -> float:
    return float(np.ptp(trace.x) * np.ptp(trace.y))


def test_a_job_of_five_ranks_is_drawn_as_its_database_records_it(
    mpiexec: Callable, tmp_path: Path
) -> None:
    outcome = mpiexec(SEARCH, 5)
    assert outcome.status == 0, outcome.stderr
    study = optuna.load_study(study_name="mpi", storage=f"sqlite:///{tmp_path}/study.db")
    assert _arrows(study) == _travelled(study) != {}
    assert _dots(study) == _finished(study)
    assert {key: key[0] for key in _dots(study)} == {
        (0, 0): 0, (0, 1): 0, (1, 2): 1, (1, 3): 1, (1, 4): 1
    }  # fmt: skip
    title = plot_archipelago(study).layout.title.text
    assert "mpi" in title
    assert "80 trials" in title
    assert "5 workers on 2 islands" in title


@pytest.mark.parametrize("policy", [Pollination, Migration])
def test_arrows_dots_and_discs_are_what_the_study_records(policy: type) -> None:
    study = _search(3, migration=policy(probability=1.0))
    traces = _traces(study)
    assert _arrows(study) == _travelled(study)
    assert len(_arrows(study)) == 6
    assert _dots(study) == _finished(study)
    summary = summarize(study)
    for island, n_active in re.findall(r"island (\d): (\d+) individuals active", summary):
        assert f"{n_active} individuals active" in traces[f"island {island}"].text
        assert f"{n_active} individuals<br>" in traces["names"].text[int(island)]


def test_a_label_says_how_many_travelled_and_the_widest_arrow_is_of_most() -> None:
    study = _recorded(
        [
            {"island": 0, "worker": 0, "migrants": [[0, 0, 1, 1]] * 1200},
            {"island": 1, "worker": 1, "migrants": [[1, 1, 0, 0]] * 3},
        ]
    )
    traces = _traces(study)
    assert list(traces["migrants"].text) == ["1,200", "3"]
    assert "1,200 migrants from island 0 to island 1" in traces["migrants"].hovertext
    assert "3 migrants from island 1 to island 0" in traces["migrants"].hovertext
    assert "3 migrants in, 1,200 out" in traces["island 0"].text
    x, y = np.array(traces["arrows"].x, float), np.array(traces["arrows"].y, float)
    first, second = np.split(np.column_stack((x, y)), np.flatnonzero(np.isnan(x)))[:2]
    assert np.hypot(*(first[0] - first[-2])) > 2 * np.hypot(*(second[1] - second[-2]))


def test_an_island_without_trials_is_drawn_if_somebody_went_there() -> None:
    traces = _traces(_recorded([{"island": 0, "worker": 0, "migrants": [[0, 0, 2, 7]]}]))
    assert {"island 0", "island 2"} <= traces.keys()
    assert "0 workers" in traces["island 2"].text
    assert "no individual" in traces["island 2"].text


def test_who_left_for_good_counts_where_it_lives() -> None:
    left = {"policy": "migration", "migrants": [[0, 0, 1, 1]]}
    rows = [
        {"island": 0, "worker": 0, "value": 1.0, **left},
        {"island": 0, "worker": 0, "value": 5.0},
        {"island": 1, "worker": 1, "value": 9.0},
    ]
    traces = _traces(_recorded(rows))
    assert "1 individual active, 2 bred here" in traces["island 0"].text
    assert "best 5, trial 1" in traces["island 0"].text
    assert "2 individuals active, 1 bred here" in traces["island 1"].text
    assert "best 1, trial 0" in traces["island 1"].text


@pytest.mark.parametrize(("direction", "best"), [("minimize", "1"), ("maximize", "3")])
def test_the_best_island_is_the_darkest(direction: str, best: str) -> None:
    rows = [{"island": i, "worker": i, "value": v} for i, v in enumerate((3.0, 1.0, 1.5))]
    traces = _traces(_recorded(rows, direction))
    light = {
        name: sum(map(int, re.findall(r"\d+", trace.fillcolor)))
        for name, trace in traces.items()
        if name.startswith("island")
    }
    darkest = min(light, key=lambda name: light[name])
    assert f"best {best}, trial" in traces[darkest].text
    assert traces["colors"].marker.cmin == 1.0
    assert traces["colors"].marker.cmax == 3.0
    assert traces["colors"].marker.reversescale == (direction == "minimize")


def test_a_feasible_trial_is_better_than_one_that_is_not() -> None:
    study = _recorded([{"island": 0, "worker": 0, "value": value} for value in (1.0, 2.0)])
    trials = study.trials
    trials[0].set_constraint("c", 1.0)
    feasible_last = optuna.create_study()
    feasible_last.add_trials(trials)
    assert "best 2, trial 1" in _traces(feasible_last)["island 0"].text


def test_areas_follow_the_active_individuals() -> None:
    counts = (100, 50, 25, 1)
    rows = [{"island": i, "worker": i} for i, count in enumerate(counts) for _ in range(count)]
    traces = _traces(_recorded(rows))
    areas = [_area(traces[f"island {i}"]) for i in range(4)]
    assert areas[1] / areas[0] == pytest.approx(0.5, rel=0.01)
    assert areas[2] / areas[0] == pytest.approx(0.25, rel=0.01)
    assert areas[3] / areas[0] == pytest.approx(0.16, rel=0.01)


def test_one_island_has_neither_arrows_nor_colours_to_compare() -> None:
    study = optuna.create_study(sampler=PropulateSampler(seed=1))
    study.optimize(_sphere, n_trials=10)
    assert _traces(study).keys() == {"island 0", "workers", "names"}
    assert _dots(study) == {(0, 0): 10}


def test_larger_dots_finished_more_and_running_trials_do_not_count() -> None:
    rows = [
        *[{"island": 0, "worker": 0}] * 4,
        *[{"island": 0, "worker": 1, "state": TrialState.FAIL}] * 2,
        {"island": 0, "worker": 2, "state": TrialState.RUNNING},
    ]
    dots = _traces(_recorded(rows))["workers"]
    assert [list(row) for row in dots.customdata] == [[0, 0, 4], [0, 1, 2]]
    assert dots.marker.size[1] / dots.marker.size[0] == pytest.approx(0.5**0.5)
    assert "4 trials, 4 complete<br>best 1, trial 0" in dots.hovertext[0]
    assert "2 trials, 0 complete<br>no individual" in dots.hovertext[1]


def test_a_thousand_workers_are_dots_that_do_not_touch() -> None:
    rows = [{"island": worker % 4, "worker": worker} for worker in range(1000)]
    figure = plot_archipelago(_recorded(rows))
    dots = next(trace for trace in figure.data if trace.name == "workers")
    assert len(dots.x) == 1000
    height = figure.layout.height - figure.layout.margin.t - figure.layout.margin.b
    points = height / np.ptp(figure.layout.yaxis.range) * np.column_stack((dots.x, dots.y))
    apart = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    assert apart[~np.eye(1000, dtype=bool)].min() > max(dots.marker.size) >= 3
    assert dots.mode == "markers"


def test_dots_too_small_to_be_seen_are_left_out_and_still_counted() -> None:
    rows = [{"island": int(w > 0), "worker": w} for w in range(1500)]
    traces = _traces(_recorded(rows))
    assert [list(row) for row in traces["workers"].customdata] == [[0, 0, 1]]
    assert "1,499 workers" in traces["island 1"].text


def test_trials_that_name_no_island_belong_to_none() -> None:
    study = _recorded([{"island": 1, "worker": 0}, {}, {"island": "north"}])
    assert {name for name in _traces(study) if name.startswith("island")} == {"island 1"}
    assert "2 without an island" in plot_archipelago(study).layout.title.text


def test_names_do_not_overflow_where_islands_are_many() -> None:
    def names(n_islands: int) -> list[str]:
        rows = [{"island": island, "worker": island} for island in range(n_islands)]
        return list(_traces(_recorded(rows))["names"].text)

    assert names(8)[7].startswith("<b>island 7</b>")
    assert names(9)[8] == "8"
    assert names(41) == []


def test_the_name_of_a_study_is_shown_as_it_is() -> None:
    study = optuna.create_study(study_name="a<b>", sampler=PropulateSampler())
    study.optimize(_sphere, n_trials=1)
    assert "a&lt;b&gt;" in plot_archipelago(study).layout.title.text


def test_values_without_a_colour_do_no_harm() -> None:
    rows = [
        {"island": 0, "worker": 0, "value": math.inf},
        {"island": 1, "worker": 1, "state": TrialState.FAIL},
        {"island": 2, "worker": 2, "value": 1.0},
    ]
    traces = _traces(_recorded(rows))
    assert traces["island 0"].fillcolor == traces["island 1"].fillcolor
    assert traces["island 2"].fillcolor != traces["island 0"].fillcolor
    assert "colors" not in traces


def test_trials_are_read_once_and_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    study = _search(2, rounds=5)
    calls = []
    read = storage_of(study).get_all_trials

    def spy(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs["deepcopy"])
        return read(*args, **kwargs)

    monkeypatch.setattr(storage_of(study), "get_all_trials", spy)
    plot_archipelago(study)
    assert calls == [False]


def test_the_figure_can_be_written() -> None:
    html = plot_archipelago(_search(2, rounds=5)).to_html(include_plotlyjs=False)
    assert "Archipelago of" in html


@pytest.mark.parametrize("n_trials", [0, 3])
def test_a_study_of_another_sampler_is_refused_and_told_what_is_missing(n_trials: int) -> None:
    study = optuna.create_study(study_name="s", sampler=optuna.samplers.RandomSampler())
    study.optimize(_sphere, n_trials=n_trials)
    with pytest.raises(ValueError, match=f"None of the {n_trials} trials .* 's' .* 'island'"):
        plot_archipelago(study)


def test_several_objectives_are_refused() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"])
    with pytest.raises(ValueError, match="one objective"):
        plot_archipelago(study)


def test_without_plotly_the_error_names_the_extra() -> None:
    script = (
        "import sys; sys.modules['plotly'] = None; import optuna_propulate.visualization as v; "
        "import optuna; v.plot_archipelago(optuna.create_study())"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert process.returncode == 1
    assert "pip install 'optuna-propulate[visualization]'" in process.stderr


def test_plotly_is_not_imported_before_it_is_needed() -> None:
    script = (
        "import sys; import optuna_propulate.visualization; "
        "sys.exit(any(name.split('.')[0] == 'plotly' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=60))
def test_discs_never_meet(n_active: list[int]) -> None:
    discs = arrange(n_active)
    for i, disc in enumerate(discs):
        for other in discs[:i]:
            assert np.hypot(*(disc - other)[:2]) > disc[2] + other[2]


@given(st.integers(1, 400))
def test_dots_are_spread_over_the_disc(n_dots: int) -> None:
    dots = dots_in_disc(n_dots)
    assert dots.shape == (n_dots, 2)
    apart = np.hypot(*(dots[:, None] - dots[None]).transpose(2, 0, 1)) + 9 * np.eye(n_dots)
    assert apart.min() >= 1.1 / n_dots**0.5
    assert 1 - np.hypot(*dots.T).max() >= 0.55 / n_dots**0.5


@given(st.lists(st.tuples(st.integers(0, 2000), st.floats(0.01, 0.8)), min_size=1, max_size=9))
def test_dots_have_one_scale_on_all_islands(islands: list[tuple[int, float]]) -> None:
    n_dots, radii = zip(*islands, strict=True)
    drawn = [diameter for diameter in dot_diameters(n_dots, radii) if diameter > 0]
    assert len(set(drawn)) <= 1
    assert all(3 <= diameter <= 26 for diameter in drawn)


@pytest.mark.parametrize("n_islands", [2, 3, 4, 5, 6, 7, 12, 25])
def test_arrows_cross_no_island_and_not_the_one_that_comes_back(n_islands: int) -> None:
    discs = arrange([1] * n_islands)
    times = np.linspace(0, 1, 30)
    for i in range(n_islands):
        for j in range(i):
            neighbours = (i - j) % n_islands in (1, n_islands - 1)
            there = arrow_curve(discs[i], discs[j], neighbours=neighbours)
            back = arrow_curve(discs[j], discs[i], neighbours=neighbours)
            for curve in (there, back):
                outline = arrow_outline(curve, width=0.1 * discs[0, 2])
                for disc in discs:
                    assert np.hypot(*(outline - disc[:2]).T).min() > disc[2]
            way, way_back = bezier(there, times), bezier(back, times)
            assert np.hypot(*(way[:, None] - way_back[None]).transpose(2, 0, 1)).min() > 0.005


def test_an_arrow_points_to_its_target() -> None:
    discs = arrange([1, 1])
    curve = arrow_curve(discs[0], discs[1], neighbours=True)
    outline = arrow_outline(curve, width=0.02)
    assert outline[outline[:, 0].argmax()] == pytest.approx(curve[2])
    assert (outline[0] == outline[-1]).all()
    assert curve[0, 0] < curve[2, 0]


@given(st.integers(2, 8), st.floats(0.05, 0.5))
def test_labels_cover_no_other_label_and_the_most_important_has_one(n: int, size: float) -> None:
    discs = arrange([1] * n)
    curves = [
        arrow_curve(discs[i], discs[j], neighbours=(i - j) % n in (1, n - 1))
        for i in range(n)
        for j in range(n)
        if i != j
    ]
    points = label_points(curves, [size] * len(curves))
    assert not np.isnan(points[0]).any()
    shown = points[~np.isnan(points[:, 0])]
    apart = np.hypot(*(shown[:, None] - shown[None]).transpose(2, 0, 1)) + 9 * np.eye(len(shown))
    assert apart.min() > size


@pytest.mark.parametrize("n_islands", [2, 3, 4])
def test_up_to_four_islands_every_arrow_has_its_label(n_islands: int) -> None:
    study = _search(n_islands, migration=Pollination(probability=1.0))
    labels = _traces(study)["migrants"]
    assert set(labels.marker.opacity) == {1}
    assert list(labels.text) == [str(n) for _, _, n in labels.customdata]


def test_goodness_runs_from_the_worst_to_the_best() -> None:
    values = [4.0, None, 2.0, math.inf, 3.0]
    assert goodness(values, StudyDirection.MINIMIZE) == [0.0, None, 1.0, None, 0.5]
    assert goodness(values, StudyDirection.MAXIMIZE) == [1.0, None, 0.0, None, 0.5]
    assert goodness([2.0, 2.0], StudyDirection.MINIMIZE) == [1.0, 1.0]
    assert goodness([None], StudyDirection.MINIMIZE) == [None]
