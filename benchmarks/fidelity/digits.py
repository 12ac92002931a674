"""Real learning curves: a multilayer perceptron on scikit-learn's 1,797 handwritten digits."""

from __future__ import annotations

import math
import os
from functools import cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np


if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

N_VALIDATION = 600
WORST = 10.0  # the loss of a training that diverges
GRID: dict[str, tuple[float, ...]] = {
    "n_hidden": (4, 8, 16, 32, 64, 128),
    "rate": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
    "momentum": (0.0, 0.5, 0.9, 0.97),
    "decay": (1e-6, 1e-4, 1e-3, 1e-2),
    "n_batch": (16, 64, 256),
}


def trained(path: Path, n_epochs: int, pool: Executor) -> Floats:
    """Return the validation losses of every setting of the grid after each epoch.

    They are trained once, which takes minutes, and kept.

    Args:
        path: Where they are kept, as NumPy's ``.npy``.
        n_epochs: How many epochs each is trained.
        pool: What trains them.

    Returns:
        Shape ``(6, 8, 4, 4, 3, n_epochs)``, in the order of ``GRID``.
    """
    if not path.exists():
        settings = list(product(*GRID.values()))
        curves = pool.map(_curve, settings, [n_epochs] * len(settings), chunksize=16)
        shape = [len(values) for values in GRID.values()]
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.npy")
        np.save(part, np.array(list(curves)).reshape([*shape, n_epochs]))
        part.replace(path)
    return np.asarray(np.load(path))


def _curve(settings: tuple[float, ...], n_epochs: int) -> list[float]:
    n_hidden, rate, momentum, decay, n_batch = settings
    with np.errstate(over="ignore", invalid="ignore"):
        return list(losses(n_epochs, int(n_hidden), rate, momentum, decay, int(n_batch)))


@cache
def digits() -> tuple[Floats, Floats, Floats, Floats]:
    """Return images, shape (n, 64), and labels, (n, 10), to train with and to validate with."""
    from sklearn.datasets import load_digits

    images, numbers = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order] / 16.0, np.eye(10)[numbers[order]]
    n = N_VALIDATION
    return images[n:], labels[n:], images[:n], labels[:n]


def losses(
    n_epochs: int, n_hidden: int, rate: float, momentum: float, decay: float, n_batch: int
) -> Iterator[float]:
    """Train by gradient descent with momentum; yield the validation loss after each epoch."""
    images, labels, others, truth = digits()
    rng = np.random.default_rng(0)
    weights = [
        rng.normal(0, 1 / math.sqrt(64), (64, n_hidden)),
        np.zeros(n_hidden),
        rng.normal(0, 1 / math.sqrt(n_hidden), (n_hidden, 10)),
        np.zeros(10),
    ]
    speeds = [np.zeros_like(weight) for weight in weights]

    def forward(batch: Floats) -> tuple[Floats, Floats]:
        hidden = np.tanh(batch @ weights[0] + weights[1])
        scores = hidden @ weights[2] + weights[3]
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return hidden, powers / powers.sum(axis=1, keepdims=True)

    for _ in range(n_epochs):
        order = rng.permutation(len(images))
        for start in range(0, len(order), n_batch):
            rows = order[start : start + n_batch]
            hidden, chances = forward(images[rows])
            error = (chances - labels[rows]) / len(rows)
            inner = (error @ weights[2].T) * (1 - hidden**2)
            slopes = [images[rows].T @ inner, inner.sum(0), hidden.T @ error, error.sum(0)]
            for weight, speed, slope in zip(weights, speeds, slopes, strict=True):
                speed *= momentum
                speed -= rate * (slope + decay * weight)
                weight += speed
        chances = np.clip((forward(others)[1] * truth).sum(axis=1), 1e-300, None)
        loss = float(-np.log(chances).mean())
        yield min(loss, WORST) if math.isfinite(loss) else WORST
