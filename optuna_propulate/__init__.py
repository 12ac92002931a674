"""Propulate's asynchronous island evolution for Optuna."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING
from typing import Any

from optuna_propulate.version import __version__


if TYPE_CHECKING:
    from optuna_propulate.islands.migration import Migration
    from optuna_propulate.islands.migration import Pollination
    from optuna_propulate.parallel.devices import device_for_rank
    from optuna_propulate.sampler import PropulateSampler
    from optuna_propulate.storages.batched import BatchedRDBStorage
    from optuna_propulate.study import IslandStudy
    from optuna_propulate.study import create_study
    from optuna_propulate.study import load_study

__all__ = [
    "BatchedRDBStorage",
    "IslandStudy",
    "Migration",
    "Pollination",
    "PropulateSampler",
    "__version__",
    "create_study",
    "device_for_rank",
    "load_study",
]

_MODULES = {
    "BatchedRDBStorage": "storages.batched",
    "IslandStudy": "study",
    "Migration": "islands.migration",
    "Pollination": "islands.migration",
    "PropulateSampler": "sampler",
    "create_study": "study",
    "device_for_rank": "parallel.devices",
    "load_study": "study",
}
"""Where the public names are; imported when they are asked for, as the writer needs none."""

_PACKAGES = {
    "breeders", "evolution", "exchange", "islands", "operators", "optimize", "parallel", "records",
    "sampler", "storages", "study", "visualization",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    if name in _PACKAGES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PACKAGES})
