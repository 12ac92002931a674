"""The writer on a real database, beside a plain client that knows nothing of it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_propulate.storages.batched import BatchedRDBStorage
from optuna_propulate.storages.sql.engine import connect_engine
from optuna_propulate.storages.sql.write import BulkWriter
from optuna_propulate.storages.wire.changes import Change
from optuna_propulate.storages.wire.changes import distribution_json
from optuna_propulate.storages.wire.times import utc
from optuna_propulate.storages.writer.study_writer import StudyWriter
from optuna_propulate.storages.writer.study_writer import merged


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from optuna_propulate.storages.writer.study_writer import Outcome

UNIT = distribution_json(FloatDistribution(0, 1))


class Books:
    """A study in a database, its writer, and a plain client of the same study."""

    def __init__(self, url: str) -> None:
        self.plain = RDBStorage(url)
        self.study_id = self.plain.create_new_study([StudyDirection.MINIMIZE], "s")
        self.engine = connect_engine(url, None, writing=True)
        with self.engine.begin() as connection:
            self.writer = StudyWriter(connection, self.study_id)

    def write(self, *changes: Change) -> Outcome:
        with self.engine.begin() as connection:
            assert BulkWriter(connection).lock_study(self.study_id)
            return self.writer.write(connection, changes)

    def settle(self, *numbers: int) -> Outcome:
        self.writer.numbering.claimed(numbers)
        return self.write()

    def add(self, state: TrialState = TrialState.COMPLETE) -> int:
        """Let the plain client add a trial; return its id."""
        trial = optuna.trial.create_trial(state=state, value=_value(state, 0.5))
        return self.plain.create_new_trial(self.study_id, trial)

    def numbers(self) -> dict[int, int]:
        """Return the numbers of all trials by their ids; they are dense."""
        trials = self.plain.get_all_trials(self.study_id)
        assert sorted(trial.number for trial in trials) == list(range(len(trials)))
        return {trial._trial_id: trial.number for trial in trials}

    def trial(self, number: int) -> optuna.trial.FrozenTrial:
        (trial,) = (t for t in self.plain.get_all_trials(self.study_id) if t.number == number)
        return trial


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    books = Books(f"sqlite:///{tmp_path}/study.db")
    yield books
    books.engine.dispose()


def _value(state: TrialState, value: float) -> float | None:
    return value if state == TrialState.COMPLETE else None


def change(number: int, state: str = "COMPLETE", **about: Any) -> Change:
    now = utc(datetime.now())
    values = [float(number)] if state == "COMPLETE" else None
    done = now if state in ("COMPLETE", "PRUNED", "FAIL") else None
    params = [("x", 0.25, UNIT)]
    return Change(number, None, state, now, done, params, values, **about)


def test_numbers_told_out_of_order_are_kept_free_by_running_trials(books: Books) -> None:
    books.write(change(2))
    assert sorted(books.numbers().values()) == [0, 1, 2]
    assert books.trial(0).state == books.trial(1).state == TrialState.RUNNING
    books.write(change(0), change(1, "PRUNED"))
    states = [books.trial(number).state for number in range(3)]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE]
    assert [books.trial(number).params for number in range(3)] == [{"x": 0.25}] * 3
    assert books.trial(2).value == 2.0


def test_changes_about_a_trial_add_up_over_transactions(books: Books) -> None:
    books.write(change(0, "RUNNING", user={"a": "1"}, steps=[(1, 0.5)]))
    books.write(
        Change(0, None, "RUNNING", None, None, user={"a": "2", "b": "3"}, steps=[(1, 0.75)]),
        Change(0, None, "COMPLETE", None, utc(datetime.now()), values=[4.0], steps=[(2, 1.0)]),
    )
    trial = books.trial(0)
    assert trial.user_attrs == {"a": 2, "b": 3}
    assert trial.intermediate_values == {1: 0.75, 2: 1.0}
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 4.0)


def test_a_trial_that_others_added_floats_until_a_number_is_claimed_for_it(books: Books) -> None:
    books.write(change(0))
    foreign = books.add()
    assert books.numbers()[foreign] == 1
    outcome = books.write(change(1), change(2))
    assert books.numbers()[foreign] == 3
    assert books.trial(1).value == 1.0
    assert foreign in outcome.complete
    assert books.writer.numbering.n_unclaimed == 1
    books.settle(3)
    assert books.writer.numbering.n_unclaimed == 0
    books.write(change(4), change(5))
    assert books.numbers()[foreign] == 3
    assert books.trial(3).value == 0.5


def test_a_number_claimed_late_is_given_back_by_the_row_that_kept_it_free(books: Books) -> None:
    foreign = books.add()
    books.write(change(1))  # number 0 has been claimed for the foreign trial meanwhile
    assert books.numbers()[foreign] == 2
    assert books.trial(0).state == TrialState.RUNNING
    books.settle(0)
    assert books.numbers()[foreign] == 0
    assert len(books.numbers()) == 2
    assert books.trial(1).value == 1.0


def test_a_waiting_trial_of_others_may_be_taken_up_once_it_is_settled(books: Books) -> None:
    foreign = books.add(TrialState.WAITING)
    assert books.write(change(0)).waiting == {}
    assert books.settle(1).waiting == {foreign: 1}
    assert books.write(change(2)).waiting == {}


def test_trials_of_others_are_noticed_when_added_and_when_complete(books: Books) -> None:
    books.write(change(0))
    foreign = books.add(TrialState.RUNNING)
    with books.engine.connect() as connection:
        assert books.writer.poll(connection)[0]
    books.settle(1)
    with books.engine.connect() as connection:
        added, outcome = books.writer.poll(connection)
        assert not added
        assert not outcome.complete
    books.plain.set_trial_state_values(foreign, TrialState.COMPLETE, [0.5])
    with books.engine.connect() as connection:
        assert books.writer.poll(connection)[1].complete == {foreign: None}
        assert books.writer.poll(connection)[1].complete == {}


def test_what_has_ended_is_not_changed_any_more(books: Books) -> None:
    books.write(change(0))
    books.write(Change(0, None, "FAIL", None, None))
    trial = books.trial(0)
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.0)
    assert trial.datetime_start is not None


def test_a_trial_that_the_database_refuses_is_reported_and_fails_alone(
    postgresql: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)  # where what cannot be written is kept
    storage = BatchedRDBStorage(postgresql)
    study = optuna.create_study(storage=storage, study_name="s")
    trials = [study.ask() for _ in range(3)]
    trials[1].set_user_attr("k" * 1000, 1)  # 512 characters are allowed
    for trial in trials:
        study.tell(trial, trial.suggest_float("x", 0, 1))
    storage.flush()
    study.tell(study.ask(), 1.0)
    storage.close()
    reported = [r.message for r in caplog.records if "does not take trial 1" in r.message]
    assert len(reported) == 1
    assert "too long" in reported[0]
    states = [
        trial.state for trial in optuna.load_study(study_name="s", storage=postgresql).trials
    ]
    done = TrialState.COMPLETE
    assert states == [done, TrialState.FAIL, done, done]


def test_reports_that_have_piled_up_are_merged_in_a_time_that_follows_their_number() -> None:
    class Step(int):
        n_hashed = 0

        def __hash__(self) -> int:
            Step.n_hashed += 1
            return int(self)

    n = 500
    changes = [Change(3, None, "RUNNING", "then", None, steps=[(Step(i), 0.5)]) for i in range(n)]
    (change,) = merged(changes).values()
    assert change.steps == [(i, 0.5) for i in range(n)]
    assert Step.n_hashed <= 3 * n
