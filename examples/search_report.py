"""What a search found: the best trial, each island's top trials, each rank's share of the work."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_propulate.storages.sql.open import shown


if TYPE_CHECKING:
    from collections.abc import Iterable

    import optuna
    from optuna.trial import FrozenTrial

N_TOP = 3


def print_report(study: optuna.Study, storage: str) -> None:
    """Print what a study of one objective found.

    Args:
        study: The study; its trials say their island and worker in user attributes.
        storage: The URL of its storage; a password is not shown.
    """
    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    maximise = study.direction is StudyDirection.MAXIMIZE
    complete.sort(key=lambda trial: trial.value or 0.0, reverse=maximise)
    print(f"\n{len(trials)} trials in study {study.study_name!r}, {len(complete)} complete.")
    if complete:
        print(f"Best: {_line(complete[0])}")
    for island, members in sorted(_by(complete, "island").items()):
        print(f"Island {island}, top {min(N_TOP, len(members))} of {len(members)}:")
        for trial in members[:N_TOP]:
            print(f"  {_line(trial)}")
    for worker, members in sorted(_by(trials, "worker").items()):
        busy = sum(trial.duration.total_seconds() for trial in members if trial.duration)
        print(f"Rank {worker}: {len(members)} trials, busy for {busy:.1f} s")
    print(f"The study lies in {shown(storage)}. To watch it, with the extra 'dashboard':")
    print(f"  optuna-dashboard {shown(storage)}")


def _line(trial: FrozenTrial) -> str:
    genes = ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in sorted(trial.params.items())
    )
    return f"trial {trial.number}: {trial.value:.4g} with {genes}"


def _by(trials: Iterable[FrozenTrial], attribute: str) -> dict[int, list[FrozenTrial]]:
    """Group trials by a user attribute, leaving out those that another sampler made."""
    groups = defaultdict(list)
    for trial in trials:
        if attribute in trial.user_attrs:
            groups[trial.user_attrs[attribute]].append(trial)
    return groups
