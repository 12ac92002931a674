"""The handover: what a copy of a storage in another process needs to go on with its trials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Any


if TYPE_CHECKING:
    from pathlib import Path

    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial

    from optuna_propulate.storages.wire.blocks import Numbers


@dataclass(frozen=True)
class Handover:
    """How to reach the writer, and the studies and running trials of the rank.

    Args:
        address: The writer's path, or its host and port.
        token: What the writer wants to be known.
        job: Tells the job from all others.
        spill_folder: Where what cannot be written is kept.
        studies: Of each study its id, place, directions, name, numbers and counter, as
            ``StudyView`` has them.
        trials: Of each running trial its study's id, and the trial.
    """

    address: str | list[Any]
    token: str
    job: str
    spill_folder: Path
    studies: tuple[tuple[int, int, list[StudyDirection], str, Numbers | None, int], ...]
    trials: tuple[tuple[int, FrozenTrial], ...]
