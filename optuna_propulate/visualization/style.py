"""What the figures have in common: colours, grounds and axes, in light and in dark pages."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING
from typing import Any
from zlib import crc32

from optuna_propulate.records.attributes import operators_of


if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.trial import FrozenTrial

PALETTE = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6d31", "#7f7f7f",
)  # fmt: skip
"""Colours that the colour-blind can tell apart, on white and on black (Okabe and Ito, 2008)."""

INK = "#7d8894"
"""Of letters and thin lines: a grey that is seen on white and on black."""

NO_GROUND = "rgba(0, 0, 0, 0)"
"""Lets the page be seen, which may be light or dark."""

OTHERS = "others"
_GRID = "rgba(125, 136, 148, 0.25)"
_DECADES = 2.0  # from which on values are shown on a logarithmic axis
_N_MAKERS = 6  # are told apart
_FIRST = ("CovarianceSampling", "Recombination", "RandomInitialization", OTHERS)


def layout(title: str, **rest: Any) -> dict[str, Any]:
    """Return a layout with the ground of the page."""
    axis = {"gridcolor": _GRID, "zerolinecolor": _GRID, "linecolor": _GRID}
    axes = {name: {**axis, **rest.pop(name, {})} for name in ("xaxis", "yaxis")}
    return {
        "title": title,
        "font": {"color": INK},
        "colorway": PALETTE,
        "plot_bgcolor": NO_GROUND,
        "paper_bgcolor": NO_GROUND,
        **axes,
        **rest,
    }


def value_axis(title: str, values: Sequence[float | None]) -> dict[str, Any]:
    """Return an axis of objective values: logarithmic if they are positive and span decades."""
    shown = [value for value in values if value is not None and math.isfinite(value)]
    axis: dict[str, Any] = {"title": {"text": title}}
    if shown and min(shown) > 0.0 and math.log10(max(shown) / min(shown)) >= _DECADES:
        return {**axis, "type": "log", "exponentformat": "power", "dtick": _tick(shown)}
    return axis


def nothing_yet(text: str) -> dict[str, Any]:
    """Return an annotation for a figure that has nothing to show."""
    middle = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5}
    return {"text": text, "showarrow": False, "font": {"size": 16, "color": INK}, **middle}


def makers(trials: Sequence[FrozenTrial]) -> list[str]:
    """Return by what each trial was bred: its operators in their order; rare ones together."""
    chains = [" > ".join(operators_of(trial)) or "unknown" for trial in trials]
    by_number = Counter(sorted(chains)).most_common()
    common = {chain for chain, _ in by_number[: _N_MAKERS - (len(by_number) > _N_MAKERS)]}
    return [chain if chain in common else OTHERS for chain in chains]


def color_of(maker: str) -> str:
    """Return the colour of a maker, the same in all figures: that of its first operator."""
    first = maker.partition(" > ")[0]
    if first in _FIRST:
        return PALETTE[_FIRST.index(first)]
    rest = PALETTE[len(_FIRST) :]
    return rest[crc32(first.encode()) % len(rest)]


def is_chosen(maker: str) -> bool:
    """Tell whether its offspring were chosen among several."""
    return maker.endswith(" > Screening")


def _tick(values: Sequence[float]) -> int:
    """Return how many decades lie between two ticks, so that there are eight at most."""
    return max(1, math.ceil(math.log10(max(values) / min(values)) / 8))
