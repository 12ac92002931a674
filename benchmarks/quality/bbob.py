"""Twelve of the noiseless functions of BBOB, the standard benchmark of continuous optimisation.

Reference:
    Hansen et al., COCO: A platform for comparing continuous optimizers in a black-box setting,
    Optimization Methods and Software 36, 2021; through the package ioh.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.distributions import FloatDistribution


if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.quality.mixed import Suggest

NUMBERS = (2, 4, 5, 7, 9, 11, 13, 14, 16, 18, 19, 23)
DIMENSIONS = (3, 5, 10, 20)
_SPACE = FloatDistribution(-5.0, 5.0)


def bbob(number: int, n_dimensions: int) -> Callable[[int], Callable[[Suggest], float]]:
    """Return what maps a seed, which is the instance, to how far a place is above the optimum.

    Args:
        number: One of ``NUMBERS``.
        n_dimensions: How many floats it takes.
    """
    names = [f"x{i}" for i in range(n_dimensions)]

    def objective(seed: int) -> Callable[[Suggest], float]:
        import ioh

        problem = ioh.get_problem(
            number, instance=seed + 1, dimension=n_dimensions, problem_class=ioh.ProblemClass.BBOB
        )
        best = problem.optimum.y

        def loss(suggest: Suggest) -> float:
            return float(problem([suggest(name, _SPACE) for name in names]) - best)

        return loss

    return objective
