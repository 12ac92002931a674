"""BatchedRDBStorage beside Optuna's own RDBStorage: the same calls, the same database."""

from __future__ import annotations

import tempfile
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING
from typing import Any

import optuna
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle
from hypothesis.stateful import RuleBasedStateMachine
from hypothesis.stateful import consumes
from hypothesis.stateful import initialize
from hypothesis.stateful import rule
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import TrialState
from optuna.trial import create_trial
from support.storages import lent

from optuna_propulate.storages.batched import BatchedRDBStorage
from optuna_propulate.storages.sql.write import MARK


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from pathlib import Path

    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial


def _seen(storage: BaseStorage, *, alike: bool) -> dict[str, Any]:
    """Return all that a storage holds, without the ids, which may differ.

    Args:
        storage: The storage.
        alike: Whether times and numbers are left out: another client's trial has a later number
            where one of ours has claimed its own already.
    """
    seen = {}
    for study in storage.get_all_studies():
        trials = sorted(storage.get_all_trials(study._study_id))  # RDBStorage goes by id
        assert [trial.number for trial in trials] == list(range(len(trials)))
        shown = [_shown(trial, alike=alike) for trial in trials]
        # The marks of the writer are shown to other clients only.
        seen[study.study_name] = (
            study.directions,
            study.user_attrs,
            {k: v for k, v in study.system_attrs.items() if not k.startswith(MARK)},
            sorted(shown) if alike else shown,
        )
    return seen


def _shown(trial: FrozenTrial, *, alike: bool) -> str:
    # SQLite keeps no sign of zero.
    values = trial.values and [float(value) + 0.0 for value in trial.values]
    steps = {step: float(value) + 0.0 for step, value in trial.intermediate_values.items()}
    facts: list[Any] = [
        trial.state, values, list(trial.params.items()), trial.distributions,
        sorted(trial.user_attrs.items()),
        sorted((k, v) for k, v in trial.system_attrs.items() if k != "propulate:owner"),
        sorted(steps.items()),
        trial.datetime_start is None, trial.datetime_complete is None,
    ]  # fmt: skip
    if not alike:
        facts += [trial.number, trial.datetime_start, trial.datetime_complete]
    return repr(facts)  # as nan is not equal to itself


class Compared(BatchedRDBStorage):
    """A storage that compares itself after each change with what a plain client reads."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.plain = RDBStorage(url)
        self.n_compared = 0

    def compare(self) -> None:
        self.flush()
        assert _seen(self, alike=False) == _seen(self.plain, alike=False)
        self.n_compared += 1


def _comparing(name: str) -> Callable[..., Any]:
    def call(self: Compared, *args: Any, **kwargs: Any) -> Any:
        result = getattr(BatchedRDBStorage, name)(self, *args, **kwargs)
        self.compare()
        return result

    return call


for _name in (
    "create_new_study", "delete_study", "set_study_user_attr", "set_study_system_attr",
    "create_new_trial", "set_trial_param", "set_trial_state_values",
    "set_trial_intermediate_value", "set_trial_user_attr", "set_trial_system_attr",
):  # fmt: skip
    setattr(Compared, _name, _comparing(_name))


@pytest.fixture(scope="class")
def compared(sqlite_of_class: str) -> Iterator[Compared]:
    storage = Compared(sqlite_of_class)
    yield storage
    storage.close()


class TestEachOperationReachesTheDatabase(StorageTestCase):
    @pytest.fixture
    def storage(self, compared: Compared) -> Iterator[Compared]:
        yield from lent(compared)

    def test_pickle_storage(self, storage: Compared) -> None:  # type: ignore[override]
        pytest.skip("A comparing storage is not pickled; tests/storages/test_contract.py does it.")


NAMES = st.sampled_from(["a", "b", "ü \x7f'\"\\"])
FLOATS = st.floats(allow_nan=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | FLOATS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
PARAMS = st.sampled_from(
    [
        ("x", 0.25, FloatDistribution(0, 1)),
        ("x", 3, IntDistribution(1, 9)),  # not what it was in an earlier trial, perhaps
        ("n", 4, IntDistribution(1, 64, log=True)),
        ("k", 1, CategoricalDistribution((None, True, 1, "one", 0.5))),
    ]
)
DIRECTIONS = st.sampled_from([StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE])
ENDS = st.sampled_from([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])


@cache
def opened() -> tuple[BatchedRDBStorage, RDBStorage, RDBStorage]:
    """Return ours, Optuna's, and a plain client of ours, for all examples: a process writes."""
    folder = tempfile.mkdtemp()
    urls = [f"sqlite:///{folder}/{name}.db" for name in ("ours", "theirs")]
    return BatchedRDBStorage(urls[0], refresh_interval=0.02), *map(RDBStorage, reversed(urls))


class BothStorages(RuleBasedStateMachine):
    """Makes the same calls on both; whatever they return, raise or hold must be the same."""

    studies = Bundle("studies")
    trials = Bundle("trials")

    @initialize()
    def open_both(self) -> None:
        self.ours, self.theirs, self.plain = opened()
        self.n_studies = 0

    def teardown(self) -> None:
        for storage in (self.ours, self.theirs):
            for study in storage.get_all_studies():
                storage.delete_study(study._study_id)

    def both(self, method: str, ids: tuple[int, int] | None, *args: Any) -> tuple[Any, Any]:
        """Call a method of both storages with the id that each of them knows."""
        results = []
        for place, storage in enumerate((self.ours, self.theirs)):
            known = () if ids is None else (ids[place],)
            try:
                results.append(getattr(storage, method)(*known, *args))
            except Exception as error:
                results.append(type(error))
        assert isinstance(results[0], type) == isinstance(results[1], type), results
        if isinstance(results[0], type):
            assert results[0] == results[1]
        self.ours.flush()
        for study in self.ours.get_all_studies():
            self.ours.refresh(study._study_id)
        read = _seen(self.plain, alike=True)
        assert read == _seen(self.theirs, alike=True)
        assert read == _seen(self.ours, alike=True)
        return results[0], results[1]

    @rule(
        target=studies,
        directions=st.lists(st.sampled_from(StudyDirection), min_size=1, max_size=2),
    )
    def create_new_study(self, directions: list[StudyDirection]) -> tuple[int, int]:
        directions = [d for d in directions if d != StudyDirection.NOT_SET] or [
            StudyDirection.MINIMIZE
        ]
        self.n_studies += 1
        return self.both("create_new_study", None, directions, f"study {self.n_studies}")

    @rule(study=studies, key=NAMES, value=JSON, kind=st.sampled_from(["user", "system"]))
    def set_study_attr(self, study: tuple[int, int], key: str, value: Any, kind: str) -> None:
        self.both(f"set_study_{kind}_attr", study, key, value)

    @rule(target=trials, study=studies)
    def create_new_trial(self, study: tuple[int, int]) -> tuple[int, int]:
        return self.both("create_new_trial", study)

    @rule(target=trials, study=studies, state=st.sampled_from(TrialState), value=FLOATS)
    def create_from_template(
        self, study: tuple[int, int], state: TrialState, value: float
    ) -> tuple[int, int]:
        n = len(self.theirs.get_study_directions(study[1]))
        template = create_trial(
            state=state,
            values=[value] * n if state == TrialState.COMPLETE else None,
            params={"n": 4},
            distributions={"n": IntDistribution(1, 64, log=True)},
            user_attrs={"u": [1]},
            system_attrs={"s": None},
            intermediate_values={3: value},
        )
        template.datetime_start = datetime.now()
        return self.both("create_new_trial", study, template)

    @rule(trial=trials, param=PARAMS)
    def set_trial_param(self, trial: tuple[int, int], param: tuple[str, float, Any]) -> None:
        self.both("set_trial_param", trial, *param)

    @rule(trial=trials, key=NAMES, value=JSON, kind=st.sampled_from(["user", "system"]))
    def set_trial_attr(self, trial: tuple[int, int], key: str, value: Any, kind: str) -> None:
        self.both(f"set_trial_{kind}_attr", trial, key, value)

    @rule(trial=trials, step=st.integers(0, 3), value=FLOATS | st.just(float("nan")))
    def report(self, trial: tuple[int, int], step: int, value: float) -> None:
        self.both("set_trial_intermediate_value", trial, step, value)

    @rule(trial=consumes(trials) | trials, state=ENDS, value=FLOATS)
    def finish(self, trial: tuple[int, int], state: TrialState, value: float) -> None:
        values = [value] if state == TrialState.COMPLETE else None
        self.both("set_trial_state_values", trial, state, values)

    @rule(trial=trials)
    def run(self, trial: tuple[int, int]) -> None:
        ours, theirs = self.both("set_trial_state_values", trial, TrialState.RUNNING)
        assert ours == theirs

    @rule(study=studies)
    def add_from_elsewhere(self, study: tuple[int, int]) -> None:
        self.plain.create_new_trial(study[0])
        self.theirs.create_new_trial(study[1])

    @rule(study=studies)
    def enqueue_from_elsewhere(self, study: tuple[int, int]) -> None:
        for storage, study_id in ((self.plain, study[0]), (self.theirs, study[1])):
            template = create_trial(
                state=TrialState.WAITING, system_attrs={"fixed_params": {"x": 1.0}}
            )
            storage.create_new_trial(study_id, template)

    @rule(study=studies)
    def best(self, study: tuple[int, int]) -> None:
        ours, theirs = self.both("get_best_trial", study)
        if not isinstance(ours, type):
            assert ours.values == theirs.values

    @rule(study=studies, number=st.integers(0, 5))
    def by_number(self, study: tuple[int, int], number: int) -> None:
        ours, _ = self.both("get_trial_id_from_study_id_trial_number", study, number)
        if not isinstance(ours, type):
            assert self.ours.get_trial(ours).number == number


TestBothStorages = BothStorages.TestCase
# The same calls each time: what they meet depends on the clock, and cannot be replayed.
TestBothStorages.settings = settings(
    max_examples=10, stateful_step_count=30, deadline=None, derandomize=True, database=None
)


def test_a_study_can_be_copied_and_a_plain_client_can_add_to_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    storage = BatchedRDBStorage(url)
    study = optuna.create_study(storage=storage, study_name="s")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=20)
    storage.close()
    optuna.copy_study(
        from_study_name="s", from_storage=url, to_storage=url, to_study_name="copied"
    )
    copied = optuna.load_study(study_name="copied", storage=url)
    assert [t.params for t in copied.trials] == [
        t.params for t in optuna.load_study(study_name="s", storage=url).trials
    ]
    plain = optuna.load_study(study_name="s", storage=url)
    plain.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    assert [trial.number for trial in plain.trials] == list(range(22))
