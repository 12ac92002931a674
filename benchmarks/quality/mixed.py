"""Mixed search spaces: log floats, stepped integers, categories with interactions, branches.

Each is a surface whose best value, 0, is known; none is separable, and where the optimum lies
depends on the seed. Values are asked for one by one, as an Optuna objective does.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution


if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.distributions import BaseDistribution

    Suggest = Callable[[str, BaseDistribution], Any]

RATE = FloatDistribution(1e-5, 1.0, log=True)
DECAY = FloatDistribution(1e-8, 1e-1, log=True)
MOMENTUM = FloatDistribution(0.0, 0.99)
BATCH = IntDistribution(8, 512, log=True)
LAYERS = IntDistribution(1, 6)
WIDTH = IntDistribution(16, 512, step=16)
DROPOUT = FloatDistribution(0.0, 0.5, step=0.05)
SHARE = FloatDistribution(0.0, 1.0)
OPTIMIZERS = CategoricalDistribution(("sgd", "adam", "rmsprop", "lion"))
ACTIVATIONS = CategoricalDistribution(("relu", "tanh", "gelu"))


def training(seed: int) -> Callable[[Suggest], float]:
    """A network's training: the best rate depends on optimizer and batch, the width on depth."""
    rng = np.random.default_rng(seed)
    best_rate = dict(zip(OPTIMIZERS.choices, rng.uniform(-3.5, -1.5, 4), strict=True))
    floor = dict(zip(OPTIMIZERS.choices, rng.permutation([0.0, 0.02, 0.05, 0.1]), strict=True))
    penalty = dict(zip(ACTIVATIONS.choices, rng.permutation([0.0, 0.03, 0.08]), strict=True))
    decay, momentum, dropout = rng.uniform(-6, -3), rng.uniform(0.5, 0.95), rng.uniform(0.1, 0.4)
    layers = int(rng.integers(2, 6))

    def loss(suggest: Suggest) -> float:
        optimizer = suggest("optimizer", OPTIMIZERS)
        batch = suggest("batch", BATCH)
        depth = suggest("layers", LAYERS)
        rate = math.log10(suggest("rate", RATE))
        shift = 0.5 * math.log10(batch / 64.0)
        width = suggest("width", WIDTH)
        return float(
            floor[optimizer]
            + penalty[suggest("activation", ACTIVATIONS)]
            + 0.2 * (rate - best_rate[optimizer] - shift) ** 2
            + 0.02 * (math.log10(suggest("decay", DECAY)) - decay) ** 2
            + 0.5 * (suggest("momentum", MOMENTUM) - momentum) ** 2
            + 0.03 * (depth - layers) ** 2
            + 0.1 * math.log2(width * depth / (128.0 * layers)) ** 2
            + 1.0 * (round(dropout / 0.05) * 0.05 - suggest("dropout", DROPOUT)) ** 2
        )

    return loss


def training_time(values: dict[str, Any]) -> float:
    """How long such a training takes: deep and wide networks take up to 40 times as long."""
    return 0.2 + float(values["layers"] * values["width"]) / 400.0


def categories(seed: int) -> Callable[[Suggest], float]:
    """Six categories whose pairs interact, and two floats whose best place they decide on."""
    rng = np.random.default_rng(seed)
    spaces = [CategoricalDistribution([f"c{j}" for j in range(n)]) for n in (4, 5, 6, 4, 3, 5)]
    best = [int(rng.integers(len(space.choices))) for space in spaces]
    single = [rng.uniform(0.1, 1.0, len(space.choices)) for space in spaces]
    pairs = {
        (i, j): rng.uniform(0.0, 0.7, (len(spaces[i].choices), len(spaces[j].choices)))
        for i in range(6)
        for j in range(i)
    }
    for i in range(6):
        single[i][best[i]] = 0.0
        for j in range(i):
            pairs[i, j][best[i], best[j]] = 0.0
    places = rng.uniform(0.1, 0.9, (2, 6))

    def loss(suggest: Suggest) -> float:
        chosen = [spaces[i].choices.index(suggest(f"category_{i}", spaces[i])) for i in range(6)]
        total = sum(single[i][chosen[i]] for i in range(6))
        total += sum(table[chosen[i], chosen[j]] for (i, j), table in pairs.items())
        total += abs(suggest("x", SHARE) - places[0, chosen[0]])
        total += abs(suggest("y", SHARE) - places[1, chosen[2]])
        return float(total)

    return loss


def ellipsoid(seed: int) -> Callable[[Suggest], float]:
    """Eight log-scaled floats: a rotated ellipsoid of condition 1,000 in their logarithms."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    weights = np.logspace(-1.5, 1.5, 8)
    centre = rng.uniform(-4.0, -1.0, 8)
    space = FloatDistribution(1e-5, 1.0, log=True)

    def loss(suggest: Suggest) -> float:
        x = np.array([math.log10(suggest(f"x{i}", space)) for i in range(8)])
        return float(weights @ (rotation @ (x - centre)) ** 2)

    return loss


def integers(seed: int) -> Callable[[Suggest], float]:
    """Ten integers, half of them stepped: a rotated bowl with ripples on the grid."""
    rng = np.random.default_rng(seed)
    spaces = [IntDistribution(0, 100, step=5), IntDistribution(0, 20)] * 5
    optimum = rng.integers(3, 18, 10)
    mixing = np.eye(10) + 0.3 * rng.normal(size=(10, 10))

    def loss(suggest: Suggest) -> float:
        at = [suggest(f"n{i}", space) // space.step for i, space in enumerate(spaces)]
        off = np.array(at) - optimum
        return float(np.sum((mixing @ off) ** 2) / 10.0 + 2.0 * np.sum(off % 3 != 0))

    return loss


def branches(seed: int) -> Callable[[Suggest], float]:
    """Three kinds of model with parameters of their own; the best kind is hard to tune."""
    rng = np.random.default_rng(seed)
    c, gamma = rng.uniform(-1.0, 2.0), rng.uniform(-3.0, -1.0)
    trees, depth = rng.uniform(4.0, 8.0), int(rng.integers(4, 15))
    rate, units = rng.uniform(-3.5, -1.5), rng.uniform(0.3, 0.9)
    momentum = rng.uniform(0.3, 0.9)

    def loss(suggest: Suggest) -> float:
        share: float = 0.3 * (suggest("features", SHARE) - 0.6) ** 2
        kind = suggest("kind", CategoricalDistribution(("svm", "forest", "network")))
        if kind == "svm":
            off = math.log10(suggest("c", FloatDistribution(1e-3, 1e3, log=True))) - c
            span = math.log10(suggest("gamma", FloatDistribution(1e-5, 10.0, log=True))) - gamma
            return 0.20 + share + 0.02 * off**2 + 0.03 * (span + 0.5 * off) ** 2
        if kind == "forest":
            off = math.log2(suggest("trees", IntDistribution(4, 1024, log=True))) - trees
            levels: int = suggest("depth", IntDistribution(1, 20)) - depth
            return share + 0.12 + 0.01 * off**2 + 0.003 * levels**2
        off = math.log10(suggest("rate", RATE)) - rate
        size = math.log2(suggest("units", IntDistribution(8, 1024, log=True)) / 8.0) / 7.0 - units
        push: float = suggest("momentum", MOMENTUM) - momentum
        return share + 0.3 * off**2 + 1.5 * (size + 0.3 * off) ** 2 + 1.0 * push**2

    return loss


def inheritance(seed: int) -> Callable[[Suggest], float]:
    """One to eight blocks, each with two parameters that exist only if the block does.

    A deep model is better, but only if its blocks are tuned, and blocks are tuned best in
    shallower models: who adds a block by chance must inherit the others.
    """
    rng = np.random.default_rng(seed)
    places = rng.uniform(0.1, 0.9, (8, 2))
    rates = CategoricalDistribution(("a", "b", "c"))
    kinds = [rates.choices[i] for i in rng.integers(3, size=8)]

    def loss(suggest: Suggest) -> float:
        n_blocks = suggest("n_blocks", IntDistribution(1, 8))
        faults = 0.0
        for block in range(n_blocks):
            scale = suggest(f"scale_{block}", SHARE) - places[block, 0]
            noise = suggest(f"noise_{block}", SHARE) - places[block, 1]
            faults += 4.0 * scale**2 + 4.0 * (noise - 0.5 * scale) ** 2
            faults += 0.5 * (suggest(f"kind_{block}", rates) != kinds[block])
        return float((8 - n_blocks) * 0.5 + faults)

    return loss
