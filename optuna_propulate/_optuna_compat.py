"""The one module that touches private parts of Optuna; checked with Optuna 5.0.0."""

from __future__ import annotations

import copy
import logging
from importlib import import_module
from typing import TYPE_CHECKING
from typing import Any

from optuna.storages import InMemoryStorage
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.study import MaxTrialsCallback
from optuna.study._frozen import FrozenStudy
from optuna.study._optimize import _run_trial


if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial
    from sqlalchemy import Engine


__all__ = ["FrozenStudy"]


def rdb_models() -> ModuleType:
    """Return the module that holds the tables of Optuna's RDB storage."""
    return import_module("optuna.storages._rdb.models")


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Tell whether Optuna would accept ``value`` as the objective sees it."""
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except ValueError:
        return False


def run_trial(
    study: Study, objective: Callable[[Any], Any], catch: tuple[type[Exception], ...]
) -> int:
    """Ask, evaluate and tell one trial exactly as ``Study.optimize`` does; return its id."""
    return _run_trial(study, objective, catch)


def most_trials(callback: Callable[..., Any]) -> int | None:
    """Return how many trials Optuna's ``MaxTrialsCallback`` allows; ``None`` of another one."""
    return callback._n_trials if isinstance(callback, MaxTrialsCallback) else None


def set_in_optimize_loop(study: Study, value: bool) -> None:
    """Mark this thread as inside (or outside) ``optimize``; ``Study.stop`` demands it."""
    study._thread_local.in_optimize_loop = value


def in_optimize_loop(study: Study) -> bool:
    """Tell whether this thread is inside ``optimize`` already; works on a bracket view, too."""
    whole = getattr(study, "_study", study)
    return bool(whole._thread_local.in_optimize_loop)


def without_traceback(kind: type[Exception]) -> None:
    """Let Optuna log a trial that failed by an exception of this kind without its traceback."""

    def shorten(record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], kind):
            record.exc_info = None
        return True

    logging.getLogger("optuna.study._optimize").addFilter(shorten)


def set_stop_flag(study: Study, value: bool) -> None:
    """Set or clear the flag by which ``Study.stop`` ends a loop of this process."""
    study._stop_flag = value


def stop_flag(study: Study) -> bool:
    """Tell whether ``Study.stop`` was called in this process."""
    return study._stop_flag


def storage_of(study: Study) -> BaseStorage:
    """Return the study's storage; works on the bracket view of ``HyperbandPruner`` too."""
    return study._storage


def engine_of(study: Study) -> Engine | None:
    """Return the engine of a study in Optuna's own RDB storage; ``None`` in any other."""
    storage = study._storage
    backend = storage._backend if isinstance(storage, _CachedStorage) else storage
    return backend.engine if type(backend) is RDBStorage else None


def study_id_of(study: Study | FrozenStudy) -> int:
    """Return the storage's id of the study."""
    return study._study_id


def is_multi_objective(study: Study) -> bool:
    """Tell whether the study has more than one objective."""
    return bool(study._is_multi_objective())


def trial_id_of(trial: FrozenTrial) -> int:
    """Return the storage's id of the trial."""
    return trial._trial_id


def set_trial_id(trial: FrozenTrial, identity: int) -> None:
    """Give the trial another id."""
    trial._trial_id = identity


def trial_by_id(study: Study, identity: int) -> FrozenTrial:
    """Return the trial with the storage's id."""
    return study._storage.get_trial(identity)


def trial_by_number(study: Study, number: int) -> FrozenTrial:
    """Return one trial of the study; ``KeyError`` if there is none."""
    storage = study._storage
    return storage.get_trial(
        storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
    )


def is_fixed(trial: FrozenTrial) -> bool:
    """Tell whether the trial was enqueued with parameters of its own."""
    return "fixed_params" in trial.system_attrs


def all_trials(study: Study) -> list[FrozenTrial]:
    """Return every trial of the study in the order of the numbers, shared, not copied."""
    return study._storage.get_all_trials(study._study_id, deepcopy=False)


def set_attributes(
    study: Study, trial: FrozenTrial, user: dict[str, Any], system: dict[str, Any]
) -> None:
    """Set attributes on a running trial, in the storage and on the object that the objective sees.

    Optuna 5.0.0 passes ``before_trial`` the very object that ``Trial.user_attrs`` reads.
    """
    storage, identity = study._storage, trial._trial_id
    if type(storage) is InMemoryStorage:
        _set_in_memory(storage, identity, user, system)
    else:
        for key, value in user.items():
            storage.set_trial_user_attr(identity, key, value)
        for key, value in system.items():
            storage.set_trial_system_attr(identity, key, value)
    trial.user_attrs.update(user)
    trial.system_attrs.update(system)


def _set_in_memory(
    storage: InMemoryStorage, identity: int, user: dict[str, Any], system: dict[str, Any]
) -> None:
    """Set all attributes on one copy of the trial; Optuna makes a copy for each."""
    with storage._lock:
        trial = copy.copy(storage._get_trial(identity))
        storage.check_trial_is_updatable(identity, trial.state)
        trial.user_attrs = {**trial.user_attrs, **user}
        trial.system_attrs = {**trial.system_attrs, **system}
        storage._set_trial(identity, trial)
