"""Figure: what each operator achieved, over the trials."""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from typing import TYPE_CHECKING

from optuna.study import StudyDirection

from optuna_propulate.visualization.style import color_of
from optuna_propulate.visualization.style import is_chosen
from optuna_propulate.visualization.style import layout
from optuna_propulate.visualization.style import makers
from optuna_propulate.visualization.trials import in_order
from optuna_propulate.visualization.trials import plotly_for
from optuna_propulate.visualization.trials import trials_for


if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.study import Study
    from plotly.graph_objects import Figure


_TOP = 20  # as CreditChoice counts


_N_WINDOWS = 30


_HEIGHT = 450  # in pixels, as a figure has in optuna-dashboard


def plot_operator_success(study: Study) -> Figure:
    """Plot how often each operator bred, and how often with success, over the trials.

    A trial is counted for the operators of its lineage together, and is a success if fewer than
    20 trials that ended before it were better.

    Args:
        study: As for ``plot_best_values``.

    Returns:
        The figure: above, the share of the offspring of each operator that were a success, below,
        the share that it has of all offspring, in thirty windows of trials, each together with its
        neighbours.

    Raises:
        ImportError: If plotly is not installed.
        ValueError: If the study has several objectives, or none of its trials names an island.
    """
    plotly = plotly_for("plot_operator_success")
    trials = in_order(trials_for("plot_operator_success", study))
    sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
    width = max(1, -(-len(trials) // _N_WINDOWS))
    made: dict[str, list[int]] = defaultdict(lambda: [0] * _N_WINDOWS)
    good: dict[str, list[int]] = defaultdict(lambda: [0] * _N_WINDOWS)
    best: list[float] = []
    for place, (trial, operator) in enumerate(zip(trials, makers(trials), strict=True)):
        assert trial.value is not None
        loss = sign * trial.value
        made[operator][place // width] += 1
        if len(best) < _TOP or loss < best[-1]:
            good[operator][place // width] += 1
            insort(best, loss)
            del best[_TOP:]
    windows = range(-(-len(trials) // width))
    numbers = [min((window + 1) * width, len(trials)) for window in windows]
    sizes = [numbers[window] - window * width for window in windows]
    figure = plotly.subplots.make_subplots(
        rows=2,
        shared_xaxes=True,
        vertical_spacing=0.18,
        subplot_titles=("successful offspring", "share of all offspring"),
    )
    for operator in sorted(made):
        n = [_around(made[operator], window) for window in windows]
        shares = [
            _around(good[operator], window) / n[window] if n[window] else None
            for window in windows
        ]
        use = [n[window] / _around(sizes, window) for window in windows]
        line = {"color": color_of(operator), "dash": "solid" if is_chosen(operator) else "dot"}
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
    figure.update_layout(
        **layout(f"What each operator achieved: {study.study_name}", height=_HEIGHT),
        legend={"orientation": "h", "y": -0.22, "font": {"size": 10}},  # a card is narrow
        margin={"l": 50, "r": 20, "t": 75, "b": 20},
    )
    axes = layout("")
    figure.update_layout(xaxis2=axes["xaxis"], yaxis2=axes["yaxis"])
    return figure


def _around(counts: Sequence[int], window: int) -> int:
    """Return the sum of a window and its neighbours."""
    return sum(counts[max(0, window - 1) : window + 2])
