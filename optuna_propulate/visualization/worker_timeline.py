"""The figure of the workers' time: who evaluated what, and who had nothing to do."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
from optuna.trial import TrialState

from optuna_propulate.records.attributes import island_of
from optuna_propulate.records.attributes import worker_of
from optuna_propulate.visualization.style import layout
from optuna_propulate.visualization.trials import plotly_for
from optuna_propulate.visualization.trials import trials_for


if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence
    from datetime import datetime

    from optuna.study import Study
    from optuna.trial import FrozenTrial
    from plotly.graph_objects import Figure

    Span = tuple[datetime, datetime]

_TIME = "datetime64[us]"
_N_NAMED = 64  # how many workers are named
_COLORS = {
    TrialState.COMPLETE: "#0072b2",
    TrialState.PRUNED: "#e69f00",
    TrialState.FAIL: "#d55e00",
    TrialState.RUNNING: "#999999",
}


def plot_worker_timeline(study: Study) -> Figure:
    """Plot when each worker evaluated a trial; where there is no line, it was idle.

    The title says which share of their time, from the first start to the last end, all workers
    together evaluated.

    Args:
        study: A study of one objective, whoever loaded it; it may be running. Its trials are
            read once.

    Returns:
        The figure: a row for each worker, by island, with a line for each trial, coloured by its
        state. ``customdata`` has the trials' numbers.

    Raises:
        ImportError: If plotly is not installed.
        ValueError: If the study has several objectives, or none of its trials names an island.
    """
    plotly = plotly_for("plot_worker_timeline")
    trials = trials_for("plot_worker_timeline", study)
    now = max(
        (
            time
            for trial in trials
            for time in (trial.datetime_complete, trial.datetime_start)
            if time
        ),
        default=None,
    )
    placed = [
        (trial, (trial.datetime_start, trial.datetime_complete or now))
        for trial in trials
        if trial.datetime_start is not None and now is not None and worker_of(trial) is not None
    ]
    spans: dict[tuple[int, int], list[Span]] = defaultdict(list)
    for trial, span in placed:
        spans[_seat(trial)].append(span)
    rows = {seat: row for row, seat in enumerate(sorted(spans))}
    few = len(rows) <= _N_NAMED
    traces = []
    for state, color in _COLORS.items():
        shown = [(trial, span) for trial, span in placed if trial.state == state]
        if shown:
            traces.append(
                plotly.graph_objects.Scattergl(
                    # A line from start to end, and a gap; in arrays, as plotly copies lists.
                    x=np.array([(start, end, end) for _, (start, end) in shown], _TIME).ravel(),
                    y=np.array([(rows[_seat(t)],) * 2 + (np.nan,) for t, _ in shown]).ravel(),
                    customdata=np.repeat([trial.number for trial, _ in shown], 3),
                    hovertemplate="trial %{customdata}<extra></extra>",
                    mode="lines",
                    line={"color": color, "width": _thickness(len(rows))},
                    name=state.name.lower(),
                )
            )
    figure = layout(
        f"{study.study_name}: {len(rows)} workers, {utilisation(spans):.0%} of their time busy",
        xaxis={"title": {"text": "time"}},
        yaxis={
            "tickvals": list(rows.values()) if few else None,
            "ticktext": [f"island {i}, worker {w}" for i, w in rows] if few else None,
            "autorange": "reversed",
            "showgrid": False,
        },
        height=250 + 14 * min(len(rows), _N_NAMED),
        showlegend=True,
    )
    return plotly.graph_objects.Figure(traces, figure)


def utilisation(spans: Mapping[tuple[int, int], Sequence[Span]]) -> float:
    """Return which share of the whole time all workers were busy, in [0, 1].

    Args:
        spans: Of each worker, from when to when it evaluated; what overlaps counts once.
    """
    if not any(spans.values()):
        return 0.0
    first = min(start for there in spans.values() for start, _ in there)
    last = max(end for there in spans.values() for _, end in there)
    whole = (last - first).total_seconds() * len(spans)
    busy = 0.0
    for there in spans.values():
        until = first
        for start, end in sorted(there):
            busy += max(0.0, (end - max(start, until)).total_seconds())
            until = max(until, end)
    return busy / whole if whole else 1.0


def _seat(trial: FrozenTrial) -> tuple[int, int]:
    island, worker = island_of(trial), worker_of(trial)
    assert worker is not None
    return (-1 if island is None else island, worker)


def _thickness(n_rows: int) -> float:
    return max(2.0, min(10.0, 300.0 / n_rows))
