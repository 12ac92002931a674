"""Several jobs add trials to one study: the laws, over whatever may come in between."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_propulate.storages.wire.blocks import SHARED
from optuna_propulate.storages.wire.blocks import Numbers
from optuna_propulate.storages.wire.changes import Change
from optuna_propulate.storages.wire.times import utc
from optuna_propulate.storages.writer import jobs as writer_jobs
from optuna_propulate.storages.writer.database import Database
from optuna_propulate.storages.writer.jobs import EXPIRES_AFTER
from optuna_propulate.storages.writer.jobs import StudyLockedError
from optuna_propulate.storages.writer.jobs import UndecidedError
from optuna_propulate.storages.writer.jobs import Watch


if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Job:
    """A job of one rank: its writer in this process, and what the rank knows."""

    def __init__(self, url: str, study_id: int, name: str, clock: Clock) -> None:
        self._url, self._study_id, self.name, self._clock = url, study_id, name, clock
        self.database = self._opened()
        self.numbers: Numbers | None = None
        self.is_late = False
        self.is_lost = False
        self._place = self._counter = 0
        self._closed_at: int | None = None
        self.running: list[int] = []
        self.told: list[str] = []

    def _opened(self) -> Database:
        database = Database(self._url, None, job=self.name)
        database._watches[self._study_id] = Watch(self._clock)
        database._who["system"] = self.name  # nobody can look whether its process is gone
        return database

    def begin(self) -> None:
        try:
            (numbers, self._place, *_), _ = self.database.call(
                "begin", [self._study_id, None, None]
            )
        except UndecidedError:
            return
        base, self.is_late, blocks, _ = numbers
        self.numbers = Numbers(base, blocks)

    def ask(self) -> None:
        assert self.numbers is not None
        index = self._counter + SHARED * self.is_late
        self._counter += 1
        number = self.numbers.number_of(index)
        if number is None:
            known = [self.numbers.end, self._place, self._closed_at, None, None]
            blocks, news = self.database.call("claim", [self._study_id, index, *known])
            self.hear(news)
            for block in blocks:
                self.numbers.add(*block)
            number = self.numbers.number_of(index)
        assert number is not None
        self.running.append(number)

    def tell(self, number: int) -> None:
        self.running.remove(number)
        token = f"{self.name} {number}"
        now = utc(datetime.now())
        change = Change(number, None, "COMPLETE", now, now, user={"token": json.dumps(token)})
        change.values = [0.5]
        if self._write([change]):
            self.told.append(token)

    def _write(self, changes: list[Change]) -> bool:
        assert self.numbers is not None
        base = -1 if self.is_late or self.numbers.end > SHARED else self.numbers.base
        try:
            news, _ = self._patiently(
                lambda: self.database.write(self._study_id, base, self._place, changes)
            )
        except StudyLockedError:
            self.is_lost = True
            return False
        self.hear(news)
        return True

    def poll(self) -> None:
        try:
            self._patiently(self.database.beat)
            self.hear(self._patiently(self.database.poll))
        except UndecidedError:
            pass  # the others have to see it first
        except StudyLockedError:
            self.is_lost = True

    def _patiently(self, act: Callable[[], T]) -> T:
        """Do something, once more where another job has taken this one for dead."""
        try:
            return act()
        except UndecidedError:
            self.hear(self.database.urgent)
            self.database.urgent.clear()
            return act()

    def hear(self, news: list[list[Any]]) -> None:
        for kind, study_id, *rest in news:
            if kind == "close":
                if self._closed_at is None:
                    self._closed_at = self._counter
                    self._counter += SHARED
                self.database.closed(study_id, self._closed_at)
            elif kind == "blocks" and self.numbers is not None:
                for block in rest[0]:
                    self.numbers.add(*block)
            elif kind == "claim" and self._closed_at is None and self.numbers is not None:
                first, self._counter = self._counter, self._counter + rest[0]
                numbers = [self.numbers.base + first + n for n in range(rest[0])]
                self.database.claimed(study_id, numbers)

    def restart(self) -> None:
        """Let another writer go on for this one, which is killed."""
        self.database._engine.dispose()
        self.database = self._opened()
        self._write([])

    def leave(self) -> None:
        self.database.close()


@pytest.fixture(autouse=True)
def _always_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optuna_propulate.storages.writer.database.BEAT_EVERY", 0.0)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that holds the tables, as making them takes long."""
    path = tmp_path_factory.mktemp("empty") / "study.db"
    RDBStorage(f"sqlite:///{path}").engine.dispose()
    return path


EVENTS = ("ask", "ask", "ask", "tell", "tell", "poll", "poll", "foreign", "sleep", "restart",
          "cut", "die", "leave", "join")  # fmt: skip
events = st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 2)), max_size=40)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(events, st.randoms(use_true_random=False))
def test_numbers_are_dense_and_each_trial_has_one_owner(
    empty: Path, happening: Any, random: Any
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(empty, Path(folder) / "study.db")
        _check_laws(f"sqlite:///{Path(folder)}/study.db", happening, random)


def _check_laws(url: str, happening: list[tuple[str, int]], random: Any) -> None:
    plain = RDBStorage(url)
    study_id = plain.create_new_study([StudyDirection.MINIMIZE], "s")
    clock = Clock()
    names = map(str, itertools.count())
    living: list[Job] = [Job(url, study_id, next(names), clock) for _ in range(2)]
    everybody = list(living)
    used: dict[int, str] = {}

    def look() -> list[Any]:
        trials = plain.get_all_trials(study_id)
        assert sorted(trial.number for trial in trials) == list(range(len(trials)))
        return trials

    def meet(rounds: int, cut: Job | None = None) -> None:
        """Let time pass, in which all who live see each other, but for one who is cut off."""
        for _ in range(rounds):
            clock.now += 1.0
            for job in living:
                if job is cut:
                    continue
                if job.numbers is None:
                    job.begin()
                else:
                    job.poll()

    for what, whom in happening:
        job = living[whom % len(living)] if living else None
        if what == "join" and len(living) < 3:
            living.append(Job(url, study_id, next(names), clock))
            everybody.append(living[-1])
        elif what == "sleep":
            meet(1)
        elif what == "foreign":
            plain.create_new_trial(study_id, optuna.trial.create_trial(value=0.5))
        elif job is None:
            continue
        elif job.numbers is None:
            job.begin()
        elif what == "ask":
            job.ask()
            number = job.running[-1]
            assert number not in used  # nobody else has it, or ever had
            used[number] = job.name
        elif what == "tell" and job.running:
            job.tell(random.choice(job.running))
        elif what == "poll":
            job.poll()
        elif what == "cut":
            meet(int(EXPIRES_AFTER) + 2, job)
            look()
            used = {n: name for n, name in used.items() if name != job.name}  # may be others' now
            for _ in range(3):  # it joins again
                job.poll()
                meet(2, job)
            job.poll()
        elif what == "restart":
            job.restart()
        elif what in ("die", "leave"):
            if what == "leave":
                for number in list(job.running):
                    job.tell(number)
                job.leave()
            else:
                job.database._engine.dispose()
            living.remove(job)
        if job in living and job.is_lost:  # its writer was killed, and then it was cut off
            living.remove(job)
        look()

    living.append(Job(url, study_id, next(names), clock))
    everybody.append(living[-1])
    meet(2 * int(EXPIRES_AFTER) + 10)
    assert all(job.numbers is not None for job in living)
    assert not any(job.is_lost for job in living)
    for job in living:
        for number in list(job.running):
            job.tell(number)
    for job in living:
        job.leave()
    trials = look()
    if {what for what, _ in happening} <= {"ask", "tell", "poll", "sleep", "foreign"}:
        assert not [t for t in trials if t.state == TrialState.WAITING]  # claimed in vain
    tokens = [t.user_attrs["token"] for t in trials if "token" in t.user_attrs]
    assert sorted(tokens) == sorted(token for job in everybody for token in job.told)
    assert all(t.state == TrialState.COMPLETE for t in trials if "token" in t.user_attrs)
    assert len(living) == 1 or not [t for t in trials if t.state == TrialState.RUNNING]


def test_a_job_is_dead_once_its_beat_was_the_same_for_long_enough() -> None:
    clock = Clock()
    watch = Watch(clock)
    mark = {"job": "a", "beat": 1, "process": 1, "system": "another", "started": ""}
    assert watch.dead({"a": mark}) == []
    for _ in range(int(EXPIRES_AFTER) - 1):
        clock.now += 1.0
        assert watch.dead({"a": mark}) == []
    clock.now += 1.0
    assert watch.dead({"a": mark}) == ["a"]
    assert watch.dead({"a": {**mark, "beat": 2}}) == []


def test_nobody_is_dead_because_the_database_was_away() -> None:
    clock = Clock()
    watch = Watch(clock)
    mark = {"job": "a", "beat": 1, "process": 1, "system": "another", "started": ""}
    assert watch.dead({"a": mark}) == []
    clock.now += 100.0
    assert watch.dead({"a": mark}) == []


def test_of_a_job_on_this_machine_it_is_known_at_once_that_it_has_gone() -> None:
    mark = {"job": "a", "beat": 1, **writer_jobs.own_process()}
    assert Watch().dead({"a": mark}) == []
    gone = {"process": 1 << 22, "started": "1", "starter": [1 << 22, "1"]}
    assert Watch().dead({"a": {**mark, **gone}}) == ["a"]
    assert Watch().dead({"a": {**mark, **gone, "starter": mark["starter"]}}) == []
