"""What a process sees of the trials of others: of a plain client, and of a job with its writer."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState
from optuna.trial import create_trial

from optuna_propulate.storages.client.cache import TrialCache
from optuna_propulate.storages.sql.engine import connect_engine
from optuna_propulate.storages.sql.write import BulkWriter
from optuna_propulate.storages.wire.changes import Change
from optuna_propulate.storages.wire.times import utc
from optuna_propulate.storages.writer.study_writer import StudyWriter


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from optuna.trial import FrozenTrial


class Others:
    """A plain client and a job's writer, and the cache of a process that watches them."""

    def __init__(self, url: str) -> None:
        self.plain = RDBStorage(url)
        self.study_id = self.plain.create_new_study([StudyDirection.MINIMIZE])
        self.writing = connect_engine(url, None, writing=True)
        with self.writing.begin() as connection:
            self.writer = StudyWriter(connection, self.study_id)
            self.writer.mark(BulkWriter(connection))
        self.reading = connect_engine(url, None)
        self.left_out: set[int] = set()
        self.cache = TrialCache(
            self.reading, self.study_id, lambda trial: trial._trial_id in self.left_out
        )

    def run(self, *numbers: int) -> None:
        """Let the job write complete trials with these numbers; each has its number as value."""
        now = utc(datetime.now())
        with self.writing.begin() as connection:
            self.writer.write(
                connection,
                [Change(n, None, "COMPLETE", now, now, [], [float(n)]) for n in numbers],
            )

    def settle(self, *numbers: int) -> None:
        self.writer.numbering.claimed(numbers)
        self.run()

    def add(self, value: float) -> int:
        return self.plain.create_new_trial(self.study_id, create_trial(value=value))

    def seen(self) -> dict[int, float | None]:
        """Return the values of all trials as the cache has them after one refresh."""
        self.cache.refresh(0.0)
        trials = self.cache.by_number
        assert all(number == trial.number for number, trial in trials.items())
        return {number: _value(trials[number]) for number in sorted(trials)}

    def there(self) -> dict[int, float | None]:
        """Return the values of all trials as the database has them."""
        trials = self.plain.get_all_trials(self.study_id)
        return {t.number: _value(t) for t in sorted(trials, key=lambda trial: trial.number)}


def _value(trial: FrozenTrial) -> float | None:
    return trial.value if trial.state == TrialState.COMPLETE else None


@pytest.fixture
def others(tmp_path: Path) -> Iterator[Others]:
    others = Others(f"sqlite:///{tmp_path}/study.db")
    yield others
    others.writing.dispose()
    others.reading.dispose()


def test_new_trials_of_others_are_seen(others: Others) -> None:
    assert others.seen() == {}
    others.add(0.5)
    assert others.seen() == {0: 0.5}
    others.settle(0)
    others.run(1, 2)
    others.add(0.25)
    assert others.seen() == others.there() == {0: 0.5, 1: 1.0, 2: 2.0, 3: 0.25}


def test_a_trial_that_goes_on_is_read_until_it_has_ended(others: Others) -> None:
    identity = others.plain.create_new_trial(others.study_id)
    assert others.seen() == {0: None}
    others.plain.set_trial_user_attr(identity, "note", "x")
    others.plain.set_trial_intermediate_value(identity, 1, 0.5)
    assert others.seen() == {0: None}
    trial = others.cache.by_number[0]
    assert trial.user_attrs == {"note": "x"}
    assert trial.intermediate_values == {1: 0.5}
    others.plain.set_trial_state_values(identity, TrialState.COMPLETE, [0.5])
    others.settle(0)
    assert others.seen() == {0: 0.5}
    ended = others.cache.by_number[0]
    others.seen()
    assert others.cache.by_number[0] is ended  # read once


def test_a_finished_trial_that_is_renumbered_is_seen_where_it_is_now(others: Others) -> None:
    others.run(0)
    others.add(0.5)
    assert others.seen() == {0: 0.0, 1: 0.5}
    others.run(1, 2)
    assert others.seen() == others.there() == {0: 0.0, 1: 1.0, 2: 2.0, 3: 0.5}


def test_what_this_process_has_a_later_state_of_is_left_out_until_it_has_not(
    others: Others,
) -> None:
    others.add(0.5)
    identity = others.add(0.25)
    others.left_out.add(identity)
    assert others.seen() == {0: 0.5}
    others.left_out.clear()
    assert others.seen() == {0: 0.5, 1: 0.25}


def test_nothing_is_read_again_within_the_interval_unless_it_has_expired(others: Others) -> None:
    assert others.seen() == {}
    others.add(0.5)
    others.cache.refresh(1000.0)
    assert others.cache.by_number == {}
    others.cache.expire()
    others.cache.refresh(1000.0)
    assert others.cache.by_number.keys() == {0}
