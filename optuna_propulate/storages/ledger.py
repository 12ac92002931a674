"""The ledger: what the writer knows of one study, and how changes become rows."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from dataclasses import field
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING
from typing import Any

from optuna.trial import TrialState
from sqlalchemy.exc import DataError
from sqlalchemy.exc import IntegrityError
from sqlalchemy.exc import ProgrammingError

from optuna_propulate.storages import reading
from optuna_propulate.storages.abandoned import fail_abandoned
from optuna_propulate.storages.numbering import Numbering
from optuna_propulate.storages.protocol import Change
from optuna_propulate.storages.protocol import utc
from optuna_propulate.storages.schema import Writing


if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence

    from sqlalchemy import Connection

WHO = {"host": socket.gethostname(), "process": os.getpid(), "since": utc(datetime.now())}
"""Which writer this is, for whoever is refused because of it."""

UNFIT = (ValueError, TypeError, OverflowError)
"""What drivers raise by themselves for values that the database cannot hold."""

_UNFINISHED = ("RUNNING", "WAITING")
_POLLED_AT_ONCE = 500


@dataclass
class Outcome:
    """What a transaction did, to be told once it is committed.

    Args:
        waiting: Numbers of trials that anybody may take up from now on, by id.
        complete: Ids of trials that are complete since, with their first value.
        refused: Numbers of trials that the database did not take, with its reason.
    """

    waiting: dict[int, int] = field(default_factory=dict)
    complete: dict[int, float | None] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)


class Ledger:
    """Holds, of one study, the numbers and ids of what is not finished.

    Each transaction leaves a mark in the study's system attribute ``propulate:writer``: who wrote
    it, the number of the job's first trial, up to which id the rows are known, which of them
    float, which are others' and not finished, and which of theirs the job has taken up. So whoever
    goes on for a writer that is gone, or that does not know whether its last transaction was
    committed, can tell the rows of the job from those that others have added since; what is then
    written again changes nothing. The next job fails what this one leaves unfinished.

    Args:
        connection: A connection that has locked the study.
        study_id: The study.
        base: How many trials there were when the job began, if this goes on for another ledger
            of the job; ``None`` if the job begins.
        retry: How often a trial that an earlier job has left running is run again.
    """

    def __init__(
        self, connection: Connection, study_id: int, base: int | None = None, retry: int = 0
    ) -> None:
        self.study_id = study_id
        self.is_stale = False  # whether the database may hold something else than is known here
        mark = reading.read_mark(connection, study_id)
        if mark is not None and mark.get("study_id") != study_id:
            mark = None  # copied from another study
        if base is None and mark is not None:
            fail_abandoned(Writing(connection), connection, study_id, mark, retry)
        if base is None or mark is None:
            last_id, floating = reading.last_trial_id(connection, study_id), []
        else:
            last_id, floating = mark["last_id"], mark["floating"]
        n_rows = reading.count_trials(connection, study_id, last_id)
        self.base = n_rows if base is None else base
        self.waiting = reading.trials_in_state(connection, study_id, TrialState.WAITING)
        self.numbering = Numbering(n_rows - len(floating))
        for identity in floating:
            self.numbering.found(identity)
            self.waiting.pop(identity, None)
        self._last_id = last_id
        first = reading.id_of_number(connection, study_id, self.base)
        self._first_id = last_id if first is None else first - 1
        self._ids: dict[int, int] = {}
        self._bare: set[int] = set()  # numbers of rows that nothing else was written about
        running = reading.trials_in_state(connection, study_id, TrialState.RUNNING)
        if base is not None and mark is not None:  # the job's own are not somebody else's
            others = {*mark["others"], *mark["floating"]}
            running = {i: n for i, n in running.items() if n < base or i in others}
        self._elsewhere = dict.fromkeys((*running, *self.waiting))
        self._taken: dict[int, None] = {}  # trials of others that the job runs
        if base is not None and mark is not None:
            for identity in mark.get("taken", ()):
                self.taken_up(identity)

    def write(
        self, connection: Connection, changes: Iterable[Change], *, carefully: bool = False
    ) -> Outcome:
        """Write changes, and find what others have added.

        If it raises, or the transaction fails, this ledger is of no use any more.

        Args:
            connection: A connection in a transaction that has locked the study.
            changes: What ranks told, in the order in which each of them told it, with the
                distributions of parameters as JSON.
            carefully: Whether each trial is written on its own, so that one which the database
                refuses does not keep the others out; it becomes a failed trial.
        """
        return self._write(Writing(connection), connection, merged(changes), carefully)

    def taken_up(self, identity: int) -> None:
        """Note that a rank of this job runs a trial that others have added."""
        self.waiting.pop(identity, None)
        self._elsewhere.pop(identity, None)
        self._taken[identity] = None

    def poll(self, connection: Connection) -> tuple[bool, Outcome]:
        """Return whether others have added trials, and which of theirs are complete by now."""
        added = bool(reading.trials_after(connection, self.study_id, self._last_id))
        looked_at = list(islice(self._elsewhere, _POLLED_AT_ONCE))
        outcome = Outcome()
        for identity, state in reading.states_of(connection, looked_at).items():
            del self._elsewhere[identity]
            if state in _UNFINISHED:
                self._elsewhere[identity] = None  # looked at again after the others
            elif state == "COMPLETE":
                outcome.complete[identity] = None
        return added, outcome

    def _write(
        self,
        writing: Writing,
        connection: Connection,
        changes: dict[int | tuple[int], Change],
        carefully: bool,
    ) -> Outcome:
        outcome, states = Outcome(), {}
        for identity, _, state in reading.trials_after(connection, self.study_id, self._last_id):
            self.numbering.found(identity)
            states[identity] = state
            if state in _UNFINISHED:
                self._elsewhere[identity] = None
            elif state == "COMPLETE":
                outcome.complete[identity] = None
            self._last_id = identity
        told = {
            change.number: change
            for change in changes.values()
            if change.identity is None and not self.numbering.has_row(change.number)
        }
        there = [
            change
            for change in changes.values()
            if change.identity is not None or change.number not in told
        ]
        plan = self.numbering.plan(told)
        self._look_up(connection, plan.deleted)
        self._look_up(connection, [c.number for c in there if c.identity is None])
        writing.delete_trials([self._ids.pop(number) for number in plan.deleted])
        self._bare.difference_update(plan.deleted)
        now = utc(datetime.now())
        new = [
            told.get(number) or Change(number, None, "RUNNING", now, None)
            for number in plan.inserted
        ]
        rows = [(c.number, c.state, c.start, c.complete) for c in new]
        ids = writing.insert_trials(self.study_id, rows) if rows else []
        self._last_id = max((self._last_id, *ids))
        identified = list(zip(ids, new, strict=True))
        self._ids.update((c.number, identity) for identity, c in identified)
        self._bare.update(number for number in plan.inserted if number not in told)
        writing.renumber(plan.renumbered)
        known = [(self._ids.get(c.number) if c.identity is None else c.identity, c) for c in there]
        old = [(identity, c) for identity, c in known if identity is not None]
        writing.update_trials([(c.state, c.start, c.complete, identity) for identity, c in old])
        fresh = list(identified)
        begun: list[tuple[int, Change]] = []
        for identity, change in old:
            is_bare = change.identity is None and change.number in self._bare
            (fresh if is_bare else begun).append((identity, change))
        self._bare.difference_update(change.number for _, change in fresh[len(identified) :])
        for group, is_new in ((fresh, True), (begun, False)):
            if carefully:
                for identity, change in group:
                    _write_alone(writing, connection, identity, change, is_new, outcome)
            else:
                write_about(writing, group, is_new)
        self._note(identified + old, outcome)
        self.mark(writing)
        outcome.waiting.update(self._newly_waiting(connection, plan.settled, states))
        return outcome

    def mark(self, writing: Writing) -> None:
        """Leave word of what is known, for a successor."""
        mark = {
            **WHO,
            "study_id": self.study_id,
            "base": self.base,
            "last_id": self._last_id,
            "floating": self.numbering.floating,
            "taken": list(self._taken),
            "others": [identity for identity in self._elsewhere if identity > self._first_id],
        }
        writing.mark(self.study_id, mark)

    def _look_up(self, connection: Connection, numbers: Sequence[int]) -> None:
        """Learn the ids of the job's rows that another ledger of it has written."""
        unknown = [number for number in numbers if number not in self._ids]
        self._ids.update(reading.ids_of_numbers(connection, self.study_id, unknown))

    def _note(self, written: Sequence[tuple[int, Change]], outcome: Outcome) -> None:
        for identity, change in written:
            if change.state not in _UNFINISHED:
                self._ids.pop(change.number, None)
                self._elsewhere.pop(identity, None)
                self._taken.pop(identity, None)
            if change.state == "COMPLETE" and change.values:
                outcome.complete[identity] = change.values[0]
            elif change.state == "WAITING":
                outcome.waiting[identity] = change.number

    def _newly_waiting(
        self, connection: Connection, settled: dict[int, int], states: dict[int, str]
    ) -> dict[int, int]:
        unknown = [identity for identity in settled if identity not in states]
        states = states | reading.states_of(connection, unknown)
        return {i: number for i, number in settled.items() if states.get(i) == "WAITING"}


def merged(changes: Iterable[Change]) -> dict[int | tuple[int], Change]:
    """Return one change for each trial: what came later counts, or is added."""
    merged: dict[int | tuple[int], Change] = {}
    for change in changes:
        key = change.number if change.identity is None else (change.identity,)
        earlier = merged.setdefault(key, change)
        if earlier is change:
            continue
        merged[key] = Change(
            change.number,
            change.identity,
            change.state,
            change.start,
            change.complete,
            [*earlier.params, *change.params],
            earlier.values if change.values is None else change.values,
            {**earlier.user, **change.user},
            {**earlier.system, **change.system},
            list({**dict(earlier.steps), **dict(change.steps)}.items()),
        )
    return merged


def write_about(writing: Writing, group: Sequence[tuple[int, Change]], is_new: bool) -> None:
    """Write what is told about trials that have rows."""
    params: list[Any] = []
    values: list[Any] = []
    user: list[Any] = []
    system: list[Any] = []
    steps: list[Any] = []
    for identity, change in group:
        params += [(identity, *param) for param in change.params]
        values += [(identity, place, value) for place, value in enumerate(change.values or ())]
        user += [(identity, *item) for item in change.user.items()]
        system += [(identity, *item) for item in change.system.items()]
        steps += [(identity, *step) for step in change.steps]
    writing.params(params, new=is_new)
    writing.values(values, new=is_new)
    writing.user_attributes(user, new=is_new)
    writing.system_attributes(system, new=is_new)
    writing.steps(steps, new=is_new)


def _write_alone(
    writing: Writing,
    connection: Connection,
    identity: int,
    change: Change,
    is_new: bool,
    outcome: Outcome,
) -> None:
    """Write what is told about one trial; if the database refuses it, the trial has failed."""
    try:
        with connection.begin_nested():
            write_about(writing, [(identity, change)], is_new)
    except (DataError, IntegrityError, ProgrammingError, *UNFIT) as error:
        outcome.refused[change.number] = str(getattr(error, "orig", None) or error)
        change.state = "FAIL"
        writing.fail([identity], datetime.now())
