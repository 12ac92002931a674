"""Optimisers that are no samplers of Optuna, asked and told on the virtual clock.

They see all parameters that a task may ask for, also those of other branches; what is
log-scaled they see on the log scale, and the steps of a wide integer as a float.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from typing import Any
from typing import Protocol

from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution

from benchmarks.quality.contenders import on_virtual_clock
from benchmarks.quality.tasks import space_of
from optuna_propulate.evolution.genes import from_unit
from optuna_propulate.evolution.genes import n_values


if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.distributions import BaseDistribution

    from benchmarks.quality.mixed import Suggest
    from benchmarks.quality.tasks import Task

    Space = dict[str, BaseDistribution]

_MOST_STEPS = 64  # of an integer that is searched as one


class Peer(Protocol):
    """Proposes units of the parameters, and hears their loss in any order."""

    def ask(self) -> tuple[Any, dict[str, float]]:
        """Return whatever ``tell`` needs, and each parameter's place in the unit interval."""
        ...

    def tell(self, asked: Any, loss: float) -> None:
        """Hear a loss."""
        ...


def _n_choices(distribution: BaseDistribution) -> int:
    return len(distribution.choices) if isinstance(distribution, CategoricalDistribution) else 0


def _n_steps(distribution: BaseDistribution) -> int:
    """Return how many steps an integer is searched by; 0 for one that is searched as a float."""
    if _n_choices(distribution) or isinstance(distribution, FloatDistribution):
        return 0
    n = n_values(distribution)
    return 0 if getattr(distribution, "log", False) or n > _MOST_STEPS else n


class CatCma:
    """CatCMA with margin, of the package cmaes; generations as the evaluations end."""

    def __init__(self, space: Space, seed: int, n_trials: int) -> None:
        from cmaes import CatCMAwM

        self._categories = [name for name, one in space.items() if _n_choices(one)]
        self._integers = [name for name, one in space.items() if _n_steps(one)]
        others = {*self._categories, *self._integers}
        self._floats = [name for name in space if name not in others]
        self._steps = {name: _n_steps(space[name]) for name in self._integers}
        self._choices = {name: _n_choices(space[name]) for name in self._categories}
        self._optimizer = CatCMAwM(
            x_space=[[0.0, 1.0] for _ in self._floats] or None,
            z_space=[
                [(step + 0.5) / n for step in range(n)] for n in self._steps.values()
            ] or None,
            c_space=list(self._choices.values()) or None,
            seed=seed,
        )  # fmt: skip
        self._told: list[tuple[Any, float]] = []

    def ask(self) -> tuple[Any, dict[str, float]]:
        asked = self._optimizer.ask()
        units: dict[str, float] = {}
        if self._floats:
            units |= dict(zip(self._floats, map(float, asked.x), strict=True))
        if self._integers:
            units |= dict(zip(self._integers, map(float, asked.z), strict=True))
        for place, name in enumerate(self._categories):
            n = self._choices[name]
            units[name] = (int(asked.c[place][:n].argmax()) + 0.5) / n
        return asked, units

    def tell(self, asked: Any, loss: float) -> None:
        self._told.append((asked, loss))
        if len(self._told) == self._optimizer.population_size:
            self._optimizer.tell(self._told)
            self._told = []


class Smac:
    """SMAC3's random forest, as its facade for hyperparameters sets it up."""

    def __init__(self, space: Space, seed: int, n_trials: int) -> None:
        from ConfigSpace import Categorical
        from ConfigSpace import ConfigurationSpace
        from ConfigSpace import Float
        from ConfigSpace import Integer
        from smac import HyperparameterOptimizationFacade
        from smac import Scenario

        self._n_values = {name: _n_choices(one) or _n_steps(one) for name, one in space.items()}
        searched = ConfigurationSpace(seed=seed)
        for name, one in space.items():
            n = self._n_values[name]
            if _n_choices(one):
                searched.add(Categorical(name, list(range(n))))
            elif n > 1:
                searched.add(Integer(name, (0, n - 1)))
            else:
                searched.add(Float(name, (0.0, 1.0)))
        self._folder = TemporaryDirectory()
        scenario = Scenario(
            searched, n_trials=n_trials, seed=seed, output_directory=Path(self._folder.name)
        )
        self._facade = HyperparameterOptimizationFacade(
            scenario, lambda config, seed: 0.0, overwrite=True, logging_level=False
        )

    def ask(self) -> tuple[Any, dict[str, float]]:
        asked = self._facade.ask()
        units = {
            name: (value + 0.5) / self._n_values[name] if self._n_values[name] else float(value)
            for name, value in dict(asked.config).items()
        }
        return asked, units

    def tell(self, asked: Any, loss: float) -> None:
        from smac.runhistory import TrialValue

        self._facade.tell(asked, TrialValue(cost=loss))


PEERS: dict[str, Callable[[Space, int, int], Peer]] = {"CatCMAwM": CatCma, "SMAC3": Smac}


def search_peer(task: Task, peer: str, n_workers: int, seed: int) -> list[tuple[float, float]]:
    """Search with one of ``PEERS``.

    Returns:
        The losses of the trials, seen and true, in the order of their ends.
    """
    warnings.simplefilter("ignore")
    space = space_of(task, seed)
    optimizer = PEERS[peer](space, seed, task.n_trials)

    def ask() -> tuple[Any, Suggest]:
        asked, units = optimizer.ask()

        def suggest(name: str, distribution: BaseDistribution) -> Any:
            return from_unit(min(max(units.get(name, 0.5), 0.0), 1.0), distribution)

        return asked, suggest

    return on_virtual_clock(task, n_workers, seed, ask, optimizer.tell)
