"""A study's writer: what is known of one study, and how changes become rows of it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from dataclasses import field
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING
from typing import Any

from optuna.trial import TrialState

from optuna_propulate.storages.sql import read as reading
from optuna_propulate.storages.sql.write import BulkWriter
from optuna_propulate.storages.wire.changes import Change
from optuna_propulate.storages.wire.times import utc
from optuna_propulate.storages.writer.numbering import Numbering
from optuna_propulate.storages.writer.stale_trials import fail_stale
from optuna_propulate.storages.writer.study_lock import own_process


if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence

    from sqlalchemy import Connection

WHO = {**own_process(), "since": utc(datetime.now())}
"""Which writer this is, for whoever is refused because of it."""

_UNFINISHED = ("RUNNING", "WAITING")
_POLLED_AT_ONCE = 500


@dataclass
class Outcome:
    """What a transaction did, to be told once it is committed.

    Args:
        waiting: Numbers of trials that anybody may take up from now on, by id.
        complete: Ids of trials that are complete since, with their first value.
    """

    waiting: dict[int, int] = field(default_factory=dict)
    complete: dict[int, float | None] = field(default_factory=dict)


class StudyWriter:
    """Holds, of one study, the numbers and ids of what is not finished.

    Each transaction leaves a mark in the study's system attribute ``propulate:writer``: who wrote
    it, the number of the job's first trial, up to which id the rows are known, and how many of
    them float, which are those with the highest numbers. A trial that is not the job's alone says
    so itself, in its system attribute ``propulate:owner``: it was unfinished when it was found, or
    waits, or was taken up. So the mark stays small, and whoever goes on for a writer that is gone,
    or that does not know whether its last transaction was committed, can tell the rows of the job
    from those that others have added since; what is then written again changes nothing. The next
    job fails what this one leaves unfinished.

    Args:
        connection: A connection that has locked the study.
        study_id: The study.
        base: How many trials there were when the job began, if this goes on for another writer
            of the job; ``None`` if the job begins.
        retry: How often a trial that an earlier job has left running is run again.
        job: Tells the job from all others.
        place: The counter of the job's trials.
    """

    def __init__(
        self,
        connection: Connection,
        study_id: int,
        base: int | None = None,
        retry: int = 0,
        job: str = "",
        place: int = 0,
    ) -> None:
        self.study_id, self.job, self.place = study_id, job, place
        self.is_stale = False  # whether the database may hold something else than is known here
        self._beat = 0
        mark = reading.read_mark(connection, study_id)
        if mark is not None and mark.get("study_id") != study_id:
            mark = None  # copied from another study
        if base is None and mark is not None:
            fail_stale(BulkWriter(connection), connection, study_id, mark, retry)
        if base is None or mark is None:
            last_id, n_floating = reading.last_trial_id(connection, study_id), 0
        else:
            last_id, n_floating = mark["last_id"], mark["n_floating"]
            self._beat = mark["beat"]
        n_rows = reading.count_trials(connection, study_id, last_id)
        self.base = n_rows if base is None else base
        self.waiting = reading.trials_in_state(connection, study_id, TrialState.WAITING)
        self.numbering = Numbering(n_rows - n_floating)
        for identity in reading.last_numbered(connection, study_id, last_id, n_floating):
            self.numbering.found(identity)
            self.waiting.pop(identity, None)
        self._last_id = last_id
        self._ids: dict[int, int] = {}
        self._bare: set[int] = set()  # numbers of rows that nothing else was written about
        running = reading.trials_in_state(connection, study_id, TrialState.RUNNING)
        if base is not None and mark is not None:  # the job's own are not somebody else's
            owners = reading.owners_of(connection, list(running))
            running = {
                i: n
                for i, n in running.items()
                if owners.get(i, job if n >= base else None) != job
            }
        self._elsewhere = dict.fromkeys((*running, *self.waiting))

    def write(self, connection: Connection, changes: Iterable[Change]) -> Outcome:
        """Write changes, and find what others have added.

        If it raises, or the transaction fails, this writer is of no use any more.

        Args:
            connection: A connection in a transaction that has locked the study.
            changes: What ranks told, in the order in which each of them told it, with the
                distributions of parameters as JSON.
        """
        return self._write(BulkWriter(connection), connection, merged(changes))

    def taken_up(self, identity: int) -> None:
        """Note that a rank of this job runs a trial that others have added."""
        self.waiting.pop(identity, None)
        self._elsewhere.pop(identity, None)

    def given_up(self, identities: Iterable[int]) -> None:
        """Note that trials of this job are somebody else's from now on."""
        self._elsewhere.update(dict.fromkeys(identities))

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
        bulk: BulkWriter,
        connection: Connection,
        changes: dict[int | tuple[int], Change],
    ) -> Outcome:
        outcome, states, shared = Outcome(), {}, []
        for identity, _, state in reading.trials_after(connection, self.study_id, self._last_id):
            self.numbering.found(identity)
            states[identity] = state
            if state in _UNFINISHED:
                self._elsewhere[identity] = None
                shared.append(identity)
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
        bulk.delete_trials([self._ids.pop(number) for number in plan.deleted])
        self._bare.difference_update(plan.deleted)
        now = utc(datetime.now())
        new = [
            told.get(number) or Change(number, None, "RUNNING", now, None)
            for number in plan.inserted
        ]
        rows = [(c.number, c.state, c.start, c.complete) for c in new]
        ids = bulk.insert_trials(self.study_id, rows) if rows else []
        self._last_id = max((self._last_id, *ids))
        identified = list(zip(ids, new, strict=True))
        self._ids.update((c.number, identity) for identity, c in identified)
        self._bare.update(number for number in plan.inserted if number not in told)
        bulk.renumber(plan.renumbered)
        known = [(self._ids.get(c.number) if c.identity is None else c.identity, c) for c in there]
        old = [(identity, c) for identity, c in known if identity is not None]
        bulk.update_trials([(c.state, c.start, c.complete, identity) for identity, c in old])
        fresh = list(identified)
        begun: list[tuple[int, Change]] = []
        for identity, change in old:
            is_bare = change.identity is None and change.number in self._bare
            (fresh if is_bare else begun).append((identity, change))
        self._bare.difference_update(change.number for _, change in fresh[len(identified) :])
        write_about(bulk, fresh, is_new=True)
        write_about(bulk, begun, is_new=False)
        self._note(identified + old, outcome)
        bulk.own([*shared, *outcome.waiting], None)
        self.mark(bulk)
        outcome.waiting.update(self._newly_waiting(connection, plan.settled, states))
        return outcome

    def mark(self, bulk: BulkWriter, *, released: bool = False) -> None:
        """Leave word of what is known, for a successor.

        Args:
            bulk: Writes in a transaction that has locked the study.
            released: Whether the job adds no more trials.
        """
        self._beat += 1
        mark = {
            **WHO,
            "study_id": self.study_id,
            "job": self.job,
            "place": self.place,
            "beat": self._beat,
            "base": self.base,
            "last_id": self._last_id,
            "n_settled": self.numbering.n_settled,
            "n_floating": len(self.numbering.floating),
        }
        bulk.mark(self.study_id, {**mark, "released": True} if released else mark)

    def _look_up(self, connection: Connection, numbers: Sequence[int]) -> None:
        """Learn the ids of the job's rows that another writer of it has written."""
        unknown = [number for number in numbers if number not in self._ids]
        self._ids.update(reading.ids_of_numbers(connection, self.study_id, unknown))

    def _note(self, written: Sequence[tuple[int, Change]], outcome: Outcome) -> None:
        for identity, change in written:
            if change.state not in _UNFINISHED:
                self._ids.pop(change.number, None)
                self._elsewhere.pop(identity, None)
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
    told: defaultdict[int | tuple[int], list[Change]] = defaultdict(list)
    for change in changes:
        key = change.number if change.identity is None else (change.identity,)
        told[key].append(change)
    return {key: _combined(parts) for key, parts in told.items()}


def _combined(parts: Sequence[Change]) -> Change:
    """Return what the changes of one trial come to; takes a time in proportion to them."""
    last = parts[-1]
    if len(parts) == 1:
        return last
    values = [change.values for change in parts if change.values is not None]
    return Change(
        last.number,
        last.identity,
        last.state,
        last.start,
        last.complete,
        list({param[0]: param for change in parts for param in change.params}.values()),
        values[-1] if values else None,
        {key: text for change in parts for key, text in change.user.items()},
        {key: text for change in parts for key, text in change.system.items()},
        list({step: value for change in parts for step, value in change.steps}.items()),
    )


def write_about(bulk: BulkWriter, group: Sequence[tuple[int, Change]], is_new: bool) -> None:
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
    bulk.params(params, new=is_new)
    bulk.values(values, new=is_new)
    bulk.user_attributes(user, new=is_new)
    bulk.system_attributes(system, new=is_new)
    bulk.steps(steps, new=is_new)
