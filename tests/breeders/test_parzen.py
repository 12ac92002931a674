"""The two densities that operators draw from: the adaptive normal one and the Parzen mixture."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution

from optuna_propulate.breeders.gene_matrix import GeneMatrix
from optuna_propulate.breeders.normal_distribution import AdaptiveNormal
from optuna_propulate.breeders.normal_distribution import generation_size
from optuna_propulate.breeders.parzen import Mixture
from optuna_propulate.evolution.genes import Gene
from optuna_propulate.evolution.genes import from_unit
from optuna_propulate.evolution.individual import Individual


SPACE = {
    "c": CategoricalDistribution(("a", "b", "c")),
    "n": IntDistribution(0, 9),
    "x": FloatDistribution(0.0, 1.0),
}


def some(n: int, seed: int, missing: str = "") -> list[Individual]:
    rng = np.random.default_rng(seed)
    return [
        Individual(
            {
                name: Gene(from_unit(rng.random(), distribution), distribution)
                for name, distribution in SPACE.items()
                if name != missing or number % 2
            },
            loss=0.0,
            number=number,
        )
        for number in range(n)
    ]


@pytest.mark.parametrize("n", [0, 1, 20])
@pytest.mark.parametrize("missing", ["", "x", "c"])
def test_a_mixture_is_a_density_and_draws_follow_it(n: int, missing: str) -> None:
    matrix, individuals = GeneMatrix(), some(n, 1, missing)
    for individual in [*some(2, 0), *individuals]:
        matrix.include(individual)
    mixture, rng = Mixture(matrix, individuals), np.random.default_rng(2)
    uniform, _ = Mixture(matrix, []).sample(40_000, rng)
    density = np.exp(mixture.log_density(uniform))
    assert abs(density.mean() - 1.0) < 0.06  # of the discrete ones, too: bins are equal
    drawn, sources = mixture.sample(40_000, rng)
    assert set(sources) == set(range(n + 1))
    for power in (1.0, 2.0):  # moments by importance are those of the draws
        expected = (uniform**power * density[:, None]).mean(axis=0)
        np.testing.assert_allclose((drawn**power).mean(axis=0), expected, atol=0.04)


def test_a_normal_finds_the_optimum_and_shape_of_an_ellipsoid() -> None:
    n, rng = 6, np.random.default_rng(1)
    weights, normal = np.logspace(0, 4, n), AdaptiveNormal(np.full(n, 0.8), 0.2)
    n_points = generation_size(n)
    for _ in range(400):
        points = normal.draw(n_points, rng)
        normal.learn(points[np.argsort((points - 0.3) ** 2 @ weights)])
        if normal.has_converged:
            break
    assert ((normal.mean - 0.3) ** 2 @ weights) < 1e-15


def test_far_points_move_a_normal_by_a_few_standard_deviations() -> None:
    normal = AdaptiveNormal(np.zeros(2), 1e-3)
    points = np.array([[1e6, 1e6], [1e6, -1e6], [0.0, 1e-3], [1e-3, 0.0], [0.0, 0.0], [0.0, 0.0]])
    normal.learn(points)
    assert np.linalg.norm(normal.mean) < 1e-2
    assert normal.sigma < 3e-3


def test_missing_genes_count_as_the_mean() -> None:
    normal = AdaptiveNormal(np.full(2, 0.5), 0.1)
    points = np.array([[0.6, np.nan]] * 3 + [[0.4, 0.4]] * 3)
    normal.learn(points)
    assert normal.mean[0] > 0.5
    assert abs(normal.mean[1] - 0.5) < 1e-12
