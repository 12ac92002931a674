"""Where islands, dots, arrows and labels lie, in units of the ring's radius."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np


if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

UNIT = 190
"""The radius of the ring in pixels."""

_DOTS = (3.0, 26.0)  # pixels across; smaller ones could not be told apart


def ring(n_islands: int) -> NDArray[np.float64]:
    """Return where the islands lie: clockwise on the unit circle, a single one at its centre.

    An even number of them leaves the top of the ring free; the first lies left of it.

    Args:
        n_islands: How many, at least 1.

    Returns:
        Their centres, shape ``(n_islands, 2)``.
    """
    if n_islands == 1:
        return np.zeros((1, 2))
    first = math.pi / 2 + (0 if n_islands % 2 else math.pi / n_islands)
    return polar(np.ones(n_islands), first - 2 * math.pi * np.arange(n_islands) / n_islands)


def arrange(n_active: Sequence[int]) -> NDArray[np.float64]:
    """Return the discs of the islands: none meets another, areas follow the individuals.

    Args:
        n_active: The number of active individuals of each island.

    Returns:
        Centres and radii, shape ``(n_islands, 3)``; no radius is below 0.4 of the largest.
    """
    n_islands = len(n_active)
    largest = 0.7 if n_islands == 1 else min(0.42, 0.64 * math.sin(math.pi / n_islands))
    shares = np.array(n_active) / max(1, *n_active)
    return np.column_stack((ring(n_islands), largest * np.sqrt(np.maximum(shares, 0.16))))


def dots_in_disc(n_dots: int) -> NDArray[np.float64]:
    """Return well-spread points in the unit disc: a ring of few, the seeds of a sunflower of many.

    Any two are at least ``1.1 / sqrt(n_dots)`` apart, and half of that from the edge.

    Args:
        n_dots: How many.

    Returns:
        The points, shape ``(n_dots, 2)``.

    Reference:
        Vogel, A better way to construct the sunflower head, 1979.
    """
    index = np.arange(n_dots)
    if n_dots <= 1:
        return np.zeros((n_dots, 2))
    if n_dots <= 6:
        return polar(np.full(n_dots, 0.55), math.pi / 2 - 2 * math.pi * index / n_dots)
    radii = (1 - 0.55 / math.sqrt(n_dots)) * np.sqrt((index + 0.5) / n_dots)
    return polar(radii, index * math.pi * (3 - math.sqrt(5)))


def dot_diameters(n_dots: Sequence[int], radii: Sequence[float]) -> list[float]:
    """Return how large a dot may be on each island, in pixels, so that none touches another.

    It is the same everywhere, that sizes may be compared, and 0 where so many cannot be seen.

    Args:
        n_dots: How many dots each island has.
        radii: The radius of each island, in units of the ring's radius.
    """
    rooms = [radius * UNIT / math.sqrt(max(n, 1)) for n, radius in zip(n_dots, radii, strict=True)]
    smallest, largest = _DOTS
    diameter = min([largest, *(room for room in rooms if room >= smallest)])
    return [diameter if room >= smallest else 0.0 for room in rooms]


def arrow_curve(
    origin: NDArray[np.float64], target: NDArray[np.float64], *, neighbours: bool
) -> NDArray[np.float64]:
    """Return the control points of the quadratic curve along which an arrow runs.

    It bends to its own left, so that the one in the other direction runs beside it, and towards
    the middle of the ring if other islands lie between.

    Args:
        origin: The disc that it leaves: centre and radius, shape ``(3,)``.
        target: The disc that it goes to.
        neighbours: Whether no island lies between the two.

    Returns:
        Start, control point and end, shape ``(3, 2)``.
    """
    along = target[:2] - origin[:2]
    inwards, bow = (1.0, 0.16) if neighbours else (0.4, 0.13)
    middle = (origin[:2] + target[:2]) / 2
    control = inwards * middle + bow * np.array([-along[1], along[0]])
    shores = [
        disc[:2] + 1.1 * disc[2] * (control - disc[:2]) / np.hypot(*(control - disc[:2]))
        for disc in (origin, target)
    ]
    return np.array([shores[0], control, shores[1]])


def bezier(curve: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points of a quadratic Bézier curve, shape ``(n_times, 2)``.

    Args:
        curve: Start, control point and end, shape ``(3, 2)``.
        times: Where on the curve, each in [0, 1], shape ``(n_times,)``.
    """
    t = times[:, None]
    return np.hstack(((1 - t) ** 2, 2 * t * (1 - t), t**2)) @ curve


def arrow_outline(curve: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """Return the closed outline of an arrow, shape ``(n_points, 2)``.

    Args:
        curve: Start, control point and end, shape ``(3, 2)``.
        width: The width of its shaft, in units of the ring's radius.
    """
    length = np.hypot(*np.diff(bezier(curve, np.linspace(0, 1, 24)), axis=0).T).sum()
    head = min(2 * width + min(2 * width, 6 / UNIT), 0.6 * length)
    shaft = bezier(curve, np.linspace(0, 1 - head / length, 24))
    along = np.gradient(shaft, axis=0)
    across = np.column_stack((-along[:, 1], along[:, 0])) / np.hypot(*along.T)[:, None]
    side, barb = across * width / 2, across[-1:] * (width + min(width, 2.5 / UNIT))
    left, right = shaft + side, shaft - side
    point = (shaft[-1:] + barb, curve[2:], shaft[-1:] - barb)
    return np.concatenate((left, *point, right[::-1], left[:1]))


def label_points(
    curves: Sequence[NDArray[np.float64]], sizes: Sequence[float]
) -> NDArray[np.float64]:
    """Return where each arrow is labelled, so that no label covers another.

    Args:
        curves: The arrows, the most important first: control points, each of shape ``(3, 2)``.
        sizes: The diameters of their labels, in units of the ring's radius.

    Returns:
        A point on each arrow, shape ``(n_arrows, 2)``; NaN where there is no room.
    """
    points = np.full((len(curves), 2), np.nan)
    times = np.array([0.42, 0.34, 0.5, 0.26, 0.58, 0.2, 0.66])
    for i, (curve, size) in enumerate(zip(curves, sizes, strict=True)):
        for point in bezier(curve, times):
            apart = np.hypot(*(points[:i] - point).T)
            if not np.any(apart < 0.55 * (size + np.array(sizes[:i]))):  # NaN is not below
                points[i] = point
                break
    return points


def polar(radii: NDArray[np.float64], angles: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return points of these distances and directions from the origin, shape ``(n, 2)``."""
    return np.column_stack((radii * np.cos(angles), radii * np.sin(angles)))
