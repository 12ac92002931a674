"""The figure of an archipelago, made of plain dictionaries, so that plotly is met at one place."""

from __future__ import annotations

import math
from collections import Counter
from html import escape
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
from optuna.study import StudyDirection

from optuna_propulate.records.attributes import island_of
from optuna_propulate.records.survey import WorkerRecord
from optuna_propulate.records.survey import finite
from optuna_propulate.records.survey import goodness
from optuna_propulate.records.survey import survey
from optuna_propulate.visualization.layout import UNIT
from optuna_propulate.visualization.layout import arrange
from optuna_propulate.visualization.layout import arrow_curve
from optuna_propulate.visualization.layout import arrow_outline
from optuna_propulate.visualization.layout import bezier
from optuna_propulate.visualization.layout import dot_diameters
from optuna_propulate.visualization.layout import dots_in_disc
from optuna_propulate.visualization.layout import label_points
from optuna_propulate.visualization.layout import polar
from optuna_propulate.visualization.layout import ring
from optuna_propulate.visualization.style import INK
from optuna_propulate.visualization.style import NO_GROUND
from optuna_propulate.visualization.trials import plotly_for
from optuna_propulate.visualization.trials import trials_for


if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from optuna.study import Study
    from optuna.trial import FrozenTrial
    from plotly.graph_objects import Figure

    from optuna_propulate.records.survey import IslandRecord

_WIDTH, _NAME_HEIGHT = 900, 80  # pixels
_MARGIN = {"l": 10, "r": 100, "t": 80, "b": 10}
_INK, _ARROW, _UNKNOWN = "#22303c", "#93a1b0", "#e3e6ea"
_THICKEST = 9.0  # pixels across the arrow that most went along
_N_DETAILED, _N_NAMED, _N_LABELLED = 8, 40, 60  # islands told of, islands named, arrows labelled


def plot_archipelago(study: Study) -> Figure:
    """Plot the islands of a study, their workers, and the migrants that travelled between them.

    An island is a disc whose area follows the number of its active individuals (down to a
    smallest one) and whose colour is the best objective value among them. The dots in it are its
    workers, larger the more trials they finished; where they would be too small to be seen, they
    are left out. An arrow stands for all migrants from one island to another, and says how many
    where there is room. Trials that name no island, such as another sampler's, are counted below
    the title only.

    Args:
        study: A study of one objective, whoever loaded it; it may be running. Its trials are
            read once.

    Returns:
        The figure. In its traces ``"workers"`` and ``"migrants"``, ``customdata`` has a row for
        each dot (island, worker, finished trials) and for each arrow (origin, target, migrants).

    Raises:
        ImportError: If plotly is not installed.
        ValueError: If the study has several objectives, or none of its trials names an island.
    """
    plotly = plotly_for("plot_archipelago")
    trials = trials_for("plot_archipelago", study)
    islands, travelled = survey(trials, study.direction)
    places = arrange([island.n_active for island in islands])
    bests = [None if island.best is None else island.best.value for island in islands]
    scale = plotly.colors.sequential.Blues[1:-1]
    colors = [
        _UNKNOWN if share is None else plotly.colors.sample_colorscale(scale, share)[0]
        for share in goodness(bests, study.direction)
    ]
    traces = [
        *_discs(islands, places, colors, travelled),
        *_arrows([island.island for island in islands], places, travelled),
        _dots(islands, places),
        _names(islands, places),
        *_color_bar(finite(bests), scale, study.direction),
    ]
    title = _title(study.study_name, trials, islands, travelled)
    return plotly.graph_objects.Figure(traces, _layout(title, places))


def _discs(
    islands: Sequence[IslandRecord],
    places: NDArray[np.float64],
    colors: Sequence[str],
    travelled: Counter[tuple[int, int]],
) -> list[dict[str, Any]]:
    circle = polar(np.ones(181), np.linspace(0, 2 * math.pi, 181))
    came, left = Counter[int](), Counter[int]()
    for (origin, target), n_migrants in travelled.items():
        left[origin] += n_migrants
        came[target] += n_migrants
    return [
        _trace(
            f"island {island.island}",
            place[:2] + place[2] * circle,
            mode="lines",
            line={"color": "white", "width": 1, "simplify": False},
            fill="toself",
            fillcolor=color,
            hoveron="fills",
            text=_told_of_island(island, came[island.island], left[island.island]),
        )
        for island, place, color in zip(islands, places, colors, strict=True)
    ]


def _arrows(
    islands: Sequence[int], places: NDArray[np.float64], travelled: Counter[tuple[int, int]]
) -> list[dict[str, Any]]:
    """Return one trace for all arrows, as there may be thousands, and one for their labels."""
    if not travelled:
        return []
    index = {island: i for i, island in enumerate(islands)}
    thickest = min(_THICKEST / UNIT, 0.12 * places[:, 2].max())
    routes = travelled.most_common()
    curves, outlines = [], []
    for (origin, target), n_migrants in routes:
        i, j = index[origin], index[target]
        neighbours = (i - j) % len(islands) in (1, len(islands) - 1)
        curves.append(arrow_curve(places[i], places[j], neighbours=neighbours))
        width = thickest * max(0.25, n_migrants / routes[0][1])
        outlines += [arrow_outline(curves[-1], width), np.full((1, 2), np.nan)]
    ribbons = _trace(
        "arrows",
        np.concatenate(outlines),
        mode="lines",
        line={"color": "white", "width": 1 if len(routes) <= _N_LABELLED else 0},
        fill="toself",
        fillcolor=_ARROW,
        hoverinfo="skip",
    )
    return [ribbons, _labels(curves, routes)]


def _labels(
    curves: Sequence[NDArray[np.float64]], routes: Sequence[tuple[tuple[int, int], int]]
) -> dict[str, Any]:
    texts = [f"{n_migrants:,}" for _, n_migrants in routes]
    sizes = [max(20.0, 8 + 6.5 * len(text)) for text in texts]
    points = np.full((len(curves), 2), np.nan)
    if len(curves) <= _N_LABELLED:
        points = label_points(curves, [size / UNIT for size in sizes])
    shown = ~np.isnan(points[:, :1])
    middles = np.concatenate([bezier(curve, np.array([0.5])) for curve in curves])
    return _trace(
        "migrants",
        np.where(shown, points, middles),
        mode="markers+text",
        text=[text if there else "" for text, there in zip(texts, shown, strict=True)],
        textfont={"size": 11, "color": _INK},
        marker={
            "size": sizes,
            "color": "white",
            "opacity": shown[:, 0].astype(int).tolist(),
            "line": {"color": _ARROW, "width": 1},
        },
        customdata=[[*route, n_migrants] for route, n_migrants in routes],
        hovertext=[
            f"{_count(n_migrants, 'migrant')} from island {origin} to island {target}"
            for (origin, target), n_migrants in routes
        ],
    )


def _dots(islands: Sequence[IslandRecord], places: NDArray[np.float64]) -> dict[str, Any]:
    diameters = dot_diameters([len(i.workers) for i in islands], places[:, 2].tolist())
    points, workers = [np.empty((0, 2))], list[WorkerRecord]()
    for place, diameter, island in zip(places, diameters, islands, strict=True):
        if diameter > 0:
            points.append(place[:2] + place[2] * dots_in_disc(len(island.workers)))
            workers += island.workers
    most = max((worker.n_finished for worker in workers), default=1)
    sizes = [max(diameters) * math.sqrt(max(0.3, w.n_finished / most)) for w in workers]
    texts = [str(worker.worker) for worker in workers]
    fit = all(size >= 8 + 6 * len(text) for size, text in zip(sizes, texts, strict=True))
    outline = {"color": _INK, "width": 1 if max(diameters) > 8 else 0.5}
    return _trace(
        "workers",
        np.concatenate(points),
        mode="markers+text" if fit else "markers",
        text=texts,
        textfont={"size": 10, "color": _INK},
        marker={"size": sizes, "color": "white", "opacity": 1, "line": outline},
        customdata=[[worker.island, worker.worker, worker.n_finished] for worker in workers],
        hovertext=[_told_of_worker(worker) for worker in workers],
    )


def _names(islands: Sequence[IslandRecord], places: NDArray[np.float64]) -> dict[str, Any]:
    outward = ring(len(islands)) if len(islands) > 1 else np.array([[0.0, -1.0]])
    detailed, named = len(islands) <= _N_DETAILED, len(islands) <= _N_NAMED
    return _trace(
        "names",
        places[:, :2] + (places[:, 2:] + 10 / UNIT) * outward,
        mode="text",
        text=[_name(island) if detailed else str(island.island) for island in islands]
        if named
        else [],
        textposition=[_position(*way) for way in outward],
        textfont={"size": 12, "color": INK},
        cliponaxis=False,
        hoverinfo="skip",
    )


def _color_bar(
    values: Sequence[float], scale: Sequence[str], direction: StudyDirection
) -> list[dict[str, Any]]:
    """Return a trace that shows nothing but what the colours mean; none if there is one colour."""
    if len(set(values)) < 2:
        return []
    title = {"text": "best value", "font": {"size": 12, "color": INK}}
    bar = {
        "title": title,
        "tickfont": {"color": INK},
        "len": 0.5,
        "thickness": 14,
        "outlinewidth": 0,
    }
    marker = {
        "color": [min(values)],
        "cmin": min(values),
        "cmax": max(values),
        "colorscale": list(scale),
        "reversescale": direction != StudyDirection.MAXIMIZE,
        "showscale": True,
        "colorbar": bar,
    }
    return [_trace("colors", np.full((1, 2), np.nan), mode="markers", marker=marker)]


def _layout(title: str, places: NDArray[np.float64]) -> dict[str, Any]:
    """Return the layout: as high as the islands and their names are, and circles are round."""
    top = (places[:, 1] + places[:, 2]).max() + _NAME_HEIGHT / UNIT
    bottom = (places[:, 1] - places[:, 2]).min() - _NAME_HEIGHT / UNIT
    right = (_WIDTH - _MARGIN["l"] - _MARGIN["r"]) / 2 / UNIT
    font = {"size": 18, "color": INK}
    place = {"x": 0.02, "y": 1, "yanchor": "top", "pad": {"t": 34}}
    return {
        "title": {"text": title, "font": font, **place},
        "width": _WIDTH,
        "height": round((top - bottom) * UNIT) + _MARGIN["t"] + _MARGIN["b"],
        "margin": _MARGIN,
        "showlegend": False,
        "font": {"color": INK},
        "plot_bgcolor": NO_GROUND,
        "paper_bgcolor": NO_GROUND,
        "xaxis": {"visible": False, "range": [-right, right]},
        "yaxis": {"visible": False, "range": [bottom, top], "scaleanchor": "x"},
    }


def _trace(name: str, points: NDArray[np.float64], **rest: Any) -> dict[str, Any]:
    """Return a trace for plotly; its points are no finer than a screen, and NaN ends a shape."""
    x, y = points.round(4).T.tolist()
    return {"type": "scatter", "name": name, "x": x, "y": y, "hoverinfo": "text", **rest}


def _title(
    name: str,
    trials: Sequence[FrozenTrial],
    islands: Sequence[IslandRecord],
    travelled: Counter[tuple[int, int]],
) -> str:
    n_workers = len({worker.worker for island in islands for worker in island.workers})
    n_homeless = sum(island_of(trial) is None for trial in trials)
    facts = [
        _count(len(trials), "trial"),
        f"{_count(n_workers, 'worker')} on {_count(len(islands), 'island')}",
        _count(travelled.total(), "migrant"),
        *([f"{n_homeless:,} without an island"] if n_homeless else []),
    ]
    return (
        f"Archipelago of <b>{escape(name)}</b><br>"
        f"<span style='font-size: 13px'>{' · '.join(facts)}</span>"
    )


def _name(island: IslandRecord) -> str:
    best = [] if island.best is None else [f"best {island.best.value:.4g}"]
    return "<br>".join(
        [
            f"<b>island {island.island}</b>",
            _count(len(island.workers), "worker"),
            _count(island.n_active, "individual"),
            *best,
        ]
    )


def _told_of_island(island: IslandRecord, n_came: int, n_left: int) -> str:
    return "<br>".join(
        [
            f"<b>island {island.island}</b>, {_count(len(island.workers), 'worker')}",
            f"{_count(island.n_active, 'individual')} active, {island.n_bred:,} bred here",
            f"{_count(n_came, 'migrant')} in, {n_left:,} out",
            _told_of_best(island.best),
        ]
    )


def _told_of_worker(worker: WorkerRecord) -> str:
    return (
        f"<b>worker {worker.worker}</b><br>{_count(worker.n_finished, 'trial')}, "
        f"{worker.n_complete:,} complete<br>{_told_of_best(worker.best)}"
    )


def _told_of_best(best: FrozenTrial | None) -> str:
    return "no individual" if best is None else f"best {best.value:.6g}, trial {best.number}"


def _position(x: float, y: float) -> str:
    """Return where plotly puts a text relative to its point, in the direction (x, y)."""
    vertical = "top" if y > 0.3 else "bottom" if y < -0.3 else "middle"
    horizontal = "right" if x > 0.3 else "left" if x < -0.3 else "center"
    return f"{vertical} {horizontal}"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
