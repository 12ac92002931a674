"""Figure: how many individuals went from island to island."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from optuna_propulate.records.attributes import island_of
from optuna_propulate.records.migrations import migrations_of
from optuna_propulate.visualization.style import layout
from optuna_propulate.visualization.style import nothing_yet
from optuna_propulate.visualization.trials import plotly_for
from optuna_propulate.visualization.trials import trials_for


if TYPE_CHECKING:
    from optuna.study import Study
    from plotly.graph_objects import Figure


def plot_migration_flows(study: Study) -> Figure:
    """Plot how many individuals, or copies of them, went from each island to each other one.

    Args:
        study: As for ``plot_lineage``.

    Returns:
        The figure: a matrix with a row for each island that they left.

    Raises:
        ImportError: If plotly is not installed.
        ValueError: If the study has several objectives, or none of its trials names an island.
    """
    plotly = plotly_for("plot_migration_flows")
    trials = trials_for("plot_migration_flows", study)
    flows = Counter((record.origin, record.target) for record in migrations_of(trials))
    known = {island for island in map(island_of, trials) if island is not None}
    islands = sorted(known.union(*flows)) if flows else sorted(known)
    names = [f"{island}" for island in islands]
    counts = [
        [flows[origin, target] if origin != target else None for target in islands]
        for origin in islands
    ]
    shown = [["" if count is None else f"{count}" for count in row] for row in counts]
    heatmap = plotly.graph_objects.Heatmap(
        z=counts,
        x=names,
        y=names,
        colorscale="Blues",
        zmin=0,
        zmax=max(1, *flows.values()) if flows else 1,
        showscale=bool(flows),
        text=shown if len(islands) <= 20 else None,
        texttemplate="%{text}" if len(islands) <= 20 else None,
        hovertemplate="%{z} from island %{y} to %{x}<extra></extra>",
        colorbar={"title": "migrants"},
    )
    figure = layout(
        f"Migrants between islands, {sum(flows.values()):,} together: {study.study_name}",
        xaxis={"title": {"text": "to island"}, "type": "category", "showgrid": False},
        yaxis={
            "title": {"text": "from island"},
            "type": "category",
            "autorange": "reversed",
            "showgrid": False,
        },
    )
    if not flows:
        heatmap.update(opacity=0.15)
        text = "no migrants yet" if len(islands) > 1 else "one island: nobody migrates"
        figure["annotations"] = [nothing_yet(text)]
    return plotly.graph_objects.Figure(heatmap, figure)
