"""Figures of a search over time: the best of each island, and what each operator achieved."""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from typing import TYPE_CHECKING

from optuna.study import StudyDirection

from optuna_propulate.trials import complete
from optuna_propulate.trials import island_of
from optuna_propulate.trials import operators_of
from optuna_propulate.visualization.common import plotly_for
from optuna_propulate.visualization.common import trials_for


if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from optuna.study import Study
    from optuna.trial import FrozenTrial
    from plotly.graph_objects import Figure

_TOP = 20  # as CreditChoice counts
_N_WINDOWS = 30
_HEIGHT = 450  # in pixels, as a figure has in optuna-dashboard


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
    trials = _in_order(trials_for("plot_best_values", study))
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
    return plotly.graph_objects.Figure(
        traces,
        {
            "title": f"Best value of each island: {study.study_name}",
            "xaxis_title": "time",
            "yaxis_title": "best objective value so far",
        },
    )


def plot_operator_success(study: Study) -> Figure:
    """Plot how often each operator bred, and how often with success, over the trials.

    A trial is counted for the last operator of its lineage, and is a success if fewer than 20
    trials that ended before it were better.

    Args:
        study: As for ``plot_best_values``.

    Returns:
        The figure: above, the share of the offspring of each operator that were a success, below,
        the share that it has of all offspring, both in thirty windows of trials.

    Raises:
        ImportError: If plotly is not installed.
        ValueError: If the study has several objectives, or none of its trials names an island.
    """
    plotly = plotly_for("plot_operator_success")
    trials = _in_order(trials_for("plot_operator_success", study))
    sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
    width = max(1, -(-len(trials) // _N_WINDOWS))
    made: dict[str, list[int]] = defaultdict(lambda: [0] * _N_WINDOWS)
    good: dict[str, list[int]] = defaultdict(lambda: [0] * _N_WINDOWS)
    best: list[float] = []
    for place, trial in enumerate(trials):
        assert trial.value is not None
        loss = sign * trial.value
        operator = (operators_of(trial) or ("unknown",))[-1]
        made[operator][place // width] += 1
        if len(best) < _TOP or loss < best[-1]:
            good[operator][place // width] += 1
            insort(best, loss)
            del best[_TOP:]
    windows = range(-(-len(trials) // width))
    numbers = [min((window + 1) * width, len(trials)) for window in windows]
    figure = plotly.subplots.make_subplots(
        rows=2,
        shared_xaxes=True,
        vertical_spacing=0.18,
        subplot_titles=("successful offspring", "share of all offspring"),
    )
    colors = plotly.colors.qualitative.Safe
    for index, operator in enumerate(sorted(made)):
        n, line = made[operator], {"color": colors[index % len(colors)]}
        shares = [good[operator][w] / n[w] if n[w] else None for w in windows]
        use = [n[w] / (numbers[w] - w * width) for w in windows]
        for row, values in ((1, shares), (2, use)):
            trace = plotly.graph_objects.Scatter(
                x=numbers,
                y=values,
                name=operator,
                legendgroup=operator,
                showlegend=row == 1,
                line=line,
                connectgaps=True,
            )
            figure.add_trace(trace, row=row, col=1)
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    figure.update_xaxes(title_text="complete trials", row=2, col=1)
    figure.update_layout(title=f"What each operator achieved: {study.study_name}", height=_HEIGHT)
    return figure


def _in_order(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the complete trials in the order of their ends."""
    ended = [trial for trial in complete(trials) if trial.datetime_complete is not None]
    return sorted(ended, key=lambda trial: (trial.datetime_complete, trial.number))
