"""What all figures need: plotly, met at one place, and the trials of a study that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

from optuna_propulate._optuna_compat import is_multi_objective
from optuna_propulate.storages.outlines import outlined_trials
from optuna_propulate.trials import ISLAND
from optuna_propulate.trials import island_of


if TYPE_CHECKING:
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
