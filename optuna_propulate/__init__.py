"""Propulate's asynchronous island evolution for Optuna."""

from optuna_propulate.islands.migration import Migration
from optuna_propulate.islands.migration import Pollination
from optuna_propulate.parallel.devices import device_for_rank
from optuna_propulate.sampler import PropulateSampler
from optuna_propulate.storages.batched import BatchedRDBStorage
from optuna_propulate.study import IslandStudy
from optuna_propulate.study import create_study
from optuna_propulate.study import load_study
from optuna_propulate.version import __version__


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
