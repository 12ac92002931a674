"""What a job keeps in a study about itself does not grow with the study."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import optuna
from optuna.trial import TrialState
from optuna.trial import create_trial

from optuna_propulate.storages.batched import BatchedRDBStorage
from optuna_propulate.storages.sql.write import MARK


if TYPE_CHECKING:
    from pathlib import Path

MOST_BYTES = 1000


def test_the_mark_does_not_grow_with_what_others_enqueue(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    plain = optuna.create_study(storage=url, study_name="s")
    waiting = create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": {"x": 0.5}})
    plain.add_trials([waiting] * 500)
    for n_told in (5, 10):  # the second job finds the mark of the first
        storage = BatchedRDBStorage(url, flush_interval=0.01)
        study = optuna.load_study(study_name="s", storage=storage)
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=5)
        storage.flush()
        attributes = plain._storage.get_study_system_attrs(plain._study_id)
        (mark,) = (value for key, value in attributes.items() if key.startswith(MARK))
        assert len(json.dumps(mark)) < MOST_BYTES
        storage.close()
        states = [trial.state for trial in plain.trials]
        assert states.count(TrialState.COMPLETE) == n_told
        assert states.count(TrialState.WAITING) == 500 - n_told
