"""Outlines: the trials of a study in bulk, without what figures and summaries do not show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from optuna_propulate._optuna_compat import all_trials
from optuna_propulate._optuna_compat import engine_of
from optuna_propulate._optuna_compat import study_id_of
from optuna_propulate.storages.sql.read import read_trials_after
from optuna_propulate.storages.sql.read import uncollected


if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial


def outlined_trials(study: Study) -> list[FrozenTrial]:
    """Return every trial of the study, perhaps without parameters and intermediate values.

    Optuna's own RDB storage takes a minute and gigabytes to read 100,000 trials: there, they are
    read in bulk.

    Raises:
        StorageInternalError: If the database cannot be read.
    """
    engine = engine_of(study)
    if engine is None:
        return all_trials(study)
    try:
        with engine.connect() as connection, uncollected():
            trials = list(read_trials_after(connection, study_id_of(study), -1, outlined=True))
    except SQLAlchemyError as error:
        reason = getattr(error, "orig", None) or error
        raise StorageInternalError(f"The trials cannot be read: {reason}") from error
    return sorted(trials, key=lambda trial: trial.number)
