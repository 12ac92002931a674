"""What all figures need: plotly, met at one place, and the trials of a study that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

from optuna_propulate._optuna_compat import is_multi_objective
from optuna_propulate.records.attributes import ISLAND
from optuna_propulate.records.attributes import island_of
from optuna_propulate.records.conversion import complete
from optuna_propulate.storages.outlines import outlined_trials


if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.study import Study
    from optuna.trial import FrozenTrial


def plotly_for(figure: str) -> Any:
    """Return plotly.

    Args:
        figure: The name of the function that needs it.

    Raises:
        ImportError: If plotly is not installed.
    """
    try:
        import plotly.colors
        import plotly.graph_objects
        import plotly.subplots
    except ImportError as error:
        raise ImportError(
            f"{figure} needs plotly: pip install 'optuna-propulate[visualization]'"
        ) from error
    return plotly


def trials_for(figure: str, study: Study) -> list[FrozenTrial]:
    """Return the trials of a study of one objective, some of which name their island.

    They may be without parameters and intermediate values.

    Args:
        figure: The name of the function that draws them.
        study: The study; it is read once.

    Raises:
        ValueError: If the study has several objectives, or none of its trials names an island.
    """
    if is_multi_objective(study):
        raise ValueError(f"{figure} draws studies of one objective, but got several.")
    trials = outlined_trials(study)
    if all(island_of(trial) is None for trial in trials):
        raise ValueError(
            f"None of the {len(trials)} trials of the study {study.study_name!r} has the user "
            f"attribute {ISLAND!r}, by which PropulateSampler says where a trial comes from."
        )
    return trials


def in_order(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the complete trials in the order of their ends."""
    ended = [trial for trial in complete(trials) if trial.datetime_complete is not None]
    return sorted(ended, key=lambda trial: (trial.datetime_complete, trial.number))
