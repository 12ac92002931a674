"""Run from the registry's root, as `python -m pytest package/samplers/propulate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.testing.pytest_samplers import BasicSamplerTestCase
from optuna.testing.pytest_samplers import RelativeSamplerTestCase
from optuna.testing.pytest_samplers import SingleOnlySamplerTestCase
import optunahub
import pytest


if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.samplers import BaseSampler


REGISTRY = str(Path(__file__).parents[3])
PropulateSampler = optunahub.load_local_module(
    package="samplers/propulate", registry_root=REGISTRY
).PropulateSampler


class TestPropulateSampler(
    BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase
):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        make: Callable[[], BaseSampler] = PropulateSampler
        return make


def test_it_finds_the_minimum() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=PropulateSampler(seed=1))
    study.optimize(lambda trial: trial.suggest_float("x", -5, 5) ** 2, n_trials=60)
    assert study.best_value < 0.1
