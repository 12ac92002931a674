"""Figures of where individuals come from: the ancestors of a trial, and who moved where."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from optuna_propulate.evolution.arguments import check_integer
from optuna_propulate.records.attributes import generation_of
from optuna_propulate.records.attributes import island_of
from optuna_propulate.records.attributes import operators_of
from optuna_propulate.records.attributes import parents_of
from optuna_propulate.records.conversion import complete
from optuna_propulate.visualization.style import INK
from optuna_propulate.visualization.style import color_of
from optuna_propulate.visualization.style import is_chosen
from optuna_propulate.visualization.style import layout
from optuna_propulate.visualization.style import makers
from optuna_propulate.visualization.style import nothing_yet
from optuna_propulate.visualization.style import value_axis
from optuna_propulate.visualization.trials import plotly_for
from optuna_propulate.visualization.trials import trials_for


if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna.study import Study
    from optuna.trial import FrozenTrial
    from plotly.graph_objects import Figure


def plot_lineage(study: Study, trial: int | None = None, n_ancestors: int = 100) -> Figure:
    """Plot the ancestors of a trial, with the operators that made them.

    Args:
        study: A study of one objective, whoever loaded it; it may be running. Its trials are
            read once.
        trial: The trial's number; ``None`` for the best one.
        n_ancestors: How many ancestors are shown at most, the nearest ones; at least 1.

    Returns:
        The figure: a dot for each individual, at its generation and value, coloured by the first
        operator that bred it, full if it was chosen among several, and a line to each parent.

    Raises:
        ImportError: If plotly is not installed.
        ValueError: If the study has several objectives, none of its trials names an island, none
            is complete, the trial is not complete, or ``n_ancestors`` is below 1.
    """
    plotly = plotly_for("plot_lineage")
    check_integer("n_ancestors", n_ancestors, 1)
    trials = {one.number: one for one in complete(trials_for("plot_lineage", study))}
    if not trials:
        raise ValueError(f"No trial of the study {study.study_name!r} is complete.")
    start = study.best_trial.number if trial is None else trial
    if start not in trials:
        raise ValueError(f"trial must be the number of a complete trial, but got {trial}.")
    family = ancestors(trials, start, n_ancestors)
    edges = [
        (trials[child], trials[parent])
        for child in family
        for parent in parents_of(trials[child])
        if parent in family
    ]
    traces = [
        plotly.graph_objects.Scatter(
            x=[x for ends in edges for x in (*map(generation_of, ends), None)],
            y=[y for child, parent in edges for y in (child.value, parent.value, None)],
            mode="lines",
            line={"color": INK, "width": 0.7},
            hoverinfo="skip",
            showlegend=False,
        )
    ]
    members_of: dict[str, list[FrozenTrial]] = defaultdict(list)
    individuals = [trials[number] for number in family]
    for maker, individual in zip(makers(individuals), individuals, strict=True):
        members_of[maker].append(individual)
    for maker, members in sorted(members_of.items()):
        traces.append(
            plotly.graph_objects.Scatter(
                x=[generation_of(member) for member in members],
                y=[member.value for member in members],
                text=[
                    f"trial {member.number}, island {island_of(member)}<br>"
                    + " &gt; ".join(operators_of(member))
                    for member in members
                ],
                hovertemplate="%{text}<br>value %{y}<extra></extra>",
                mode="markers",
                marker={
                    "size": 9,
                    "color": color_of(maker),
                    "symbol": "circle" if is_chosen(maker) else "circle-open",
                },
                name=maker,
            )
        )
    figure = layout(
        f"Trial {start} and its {len(family) - 1} nearest ancestors: {study.study_name}",
        xaxis={"title": {"text": "generation"}},
        yaxis=value_axis("objective value", [one.value for one in individuals]),
        showlegend=True,
    )
    if len(family) == 1:
        figure["annotations"] = [{**nothing_yet("bred from nobody"), "y": 0.6}]
    return plotly.graph_objects.Figure(traces, figure)


def ancestors(trials: Mapping[int, FrozenTrial], start: int, n: int) -> list[int]:
    """Return a trial and its nearest ancestors by number, nearest first.

    Args:
        trials: The trials that may be among them, by number.
        start: The number of the trial.
        n: How many ancestors there are at most.
    """
    family = {start: None}
    generation = [start]
    while generation and len(family) <= n:
        parents = dict.fromkeys(
            parent for child in generation for parent in parents_of(trials[child])
        )
        generation = [parent for parent in parents if parent in trials and parent not in family]
        family.update(dict.fromkeys(generation))
    return list(family)[: n + 1]
