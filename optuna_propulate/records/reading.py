"""Reading the trials of a study as cheaply as its storage can."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna
from optuna.exceptions import StorageInternalError

from optuna_propulate._optuna_compat import all_trials
from optuna_propulate._optuna_compat import storage_of
from optuna_propulate._optuna_compat import study_id_of
from optuna_propulate._optuna_compat import trial_by_number


if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial


_NAMED = 10  # studies


def study_of(storage: BaseStorage, study_name: str | None) -> Study:
    """Return a study that exists.

    Args:
        storage: Where it is.
        study_name: Its name; ``None`` if there is no other.

    Raises:
        KeyError: If there is no study of this name; the names that there are are in the message.
        ValueError: If the name is missing and there is not exactly one study, likewise.
    """
    try:
        return optuna.load_study(study_name=study_name, storage=storage)
    except (KeyError, ValueError):
        names = optuna.get_all_study_names(storage)
        shown = ", ".join(map(repr, names[:_NAMED])) + ", ..." * (len(names) > _NAMED)
        there = f"those there are: {shown}" if names else "there are none"
        if study_name is not None and study_name not in names:
            raise KeyError(f"There is no study {study_name!r}; {there}.") from None
        if study_name is None and len(names) != 1:
            raise ValueError(
                f"Which study? Give its name (study_name, or --study-name); {there}."
            ) from None
        raise


def read_trials(study: Study) -> list[FrozenTrial]:
    """Return every trial of the study, read anew where the storage can do without a cache."""
    read = getattr(storage_of(study), "read_trials", None)
    return all_trials(study) if read is None else list(read(study_id_of(study)))


def n_trials_of(study: Study) -> int:
    """Return how many trials the study has; reads them only where the storage cannot count."""
    count = getattr(storage_of(study), "count_trials", None)
    return len(all_trials(study)) if count is None else int(count(study_id_of(study)))


def found(study: Study, number: int) -> FrozenTrial | None:
    """Return the trial with this number, or ``None`` if it cannot be read yet."""
    try:
        return trial_by_number(study, number)
    except (KeyError, StorageInternalError):  # not to be read yet, or the database is away
        return None
