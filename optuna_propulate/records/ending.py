"""Why the latest search of a study ended, where it was for its goal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna_propulate._optuna_compat import storage_of
from optuna_propulate._optuna_compat import study_id_of


if TYPE_CHECKING:
    from optuna.study import Study

ENDED = "propulate:ended"


def keep_end(study: Study, reason: str) -> None:
    """Keep in the study why a search ended, in words."""
    storage_of(study).set_study_system_attr(study_id_of(study), ENDED, reason)


def end_of(study: Study) -> str | None:
    """Return why a search of the study ended, in words; ``None`` if for no goal."""
    attributes = storage_of(study).get_study_system_attrs(study_id_of(study))
    return attributes.get(ENDED)
