"""Figure: the best value of each island over time."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from optuna.study import StudyDirection

from optuna_propulate.records.attributes import island_of
from optuna_propulate.visualization.style import layout
from optuna_propulate.visualization.style import nothing_yet
from optuna_propulate.visualization.style import value_axis
from optuna_propulate.visualization.trials import in_order
from optuna_propulate.visualization.trials import plotly_for
from optuna_propulate.visualization.trials import trials_for


if TYPE_CHECKING:
    from datetime import datetime

    from optuna.study import Study
    from plotly.graph_objects import Figure


def plot_best_values(study: Study) -> Figure:
    """Plot the best value so far of each island against the time.

    Args:
        study: A study of one objective, whoever loaded it; it may be running. Its trials are
            read once.

    Returns:
        The figure, a line for each island.

    Raises:
        ImportError: If plotly is not installed.
        ValueError: If the study has several objectives, or none of its trials names an island.
    """
    plotly = plotly_for("plot_best_values")
    islands: dict[int, list[tuple[datetime, float]]] = defaultdict(list)
    trials = in_order(trials_for("plot_best_values", study))
    better = max if study.direction == StudyDirection.MAXIMIZE else min
    for trial in trials:
        island, value = island_of(trial), trial.value
        assert value is not None
        assert trial.datetime_complete is not None
        if island is None:
            continue
        curve = islands[island]
        if not curve or better(value, curve[-1][1]) != curve[-1][1]:
            curve.append((trial.datetime_complete, value))
    end = max((curve[-1][0] for curve in islands.values()), default=None)
    traces = [
        plotly.graph_objects.Scatter(
            x=[time for time, _ in curve] + [end],
            y=[value for _, value in curve] + [curve[-1][1]],
            mode="lines",
            line_shape="hv",
            name=f"island {island}",
        )
        for island, curve in sorted(islands.items())
    ]
    values = [value for curve in islands.values() for _, value in curve]
    figure = layout(
        f"Best value of each island: {study.study_name}",
        xaxis={"title": {"text": "time"}},
        yaxis=value_axis("best objective value so far", values),
        showlegend=True,
    )
    if not traces:
        figure["annotations"] = [nothing_yet("no trial is complete yet")]
    return plotly.graph_objects.Figure(traces, figure)
