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
from optuna_propulate.storages.sql.jobs import bare_trials
from optuna_propulate.storages.sql.jobs import moved_trials
from optuna_propulate.storages.sql.jobs import owners_of
from optuna_propulate.storages.sql.jobs import read_mark
from optuna_propulate.storages.sql.jobs import read_marks
from optuna_propulate.storages.sql.write import MOVED
from optuna_propulate.storages.sql.write import BulkWriter
from optuna_propulate.storages.wire.blocks import SHARED
from optuna_propulate.storages.wire.changes import Change
from optuna_propulate.storages.wire.times import utc
from optuna_propulate.storages.writer.jobs import own_process
from optuna_propulate.storages.writer.numbering import Numbering
from optuna_propulate.storages.writer.stale_trials import fail_stale


if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from optuna_propulate.storages.wire.blocks import Block

_UNFINISHED = ("RUNNING", "WAITING")
_POLLED_AT_ONCE = 500
_RECENT_BLOCKS = 4  # at most one is on its way to the ranks


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

    Each transaction leaves a mark in a system attribute of the study: who wrote it, the number of
    the job's first trial, up to which id the rows are known, and how many of them float, which
    are those with the highest numbers. Whoever goes on for a writer that is gone, or that does
    not know whether its last transaction was committed, can tell by it the rows of the job from
    those that others have added since; what is then written again changes nothing.

    A trial that is not that of a job alone in its study says in its system attribute
    ``propulate:owner`` who runs it: a job that shares the study with others, or nobody, if it was
    unfinished when it was found, or waits. What a job leaves unfinished another one fails.

    Args:
        connection: A connection that has locked the study.
        study_id: The study.
        base: How many trials there were when the job began, if this goes on for another writer
            of the job; ``None`` if the job begins.
        job: Tells the job from all others.
        place: The counter of the job's trials.
        is_open: Whether the job is alone, and uses numbers before they have rows; what its mark
            says counts.
        who: What ``own_process`` says of this process.

    Attributes:
        is_late: Whether other jobs were there when this one began.
        is_unmarked: Whether the job had no mark in the study when this was built.
        was_given_up: Whether another job has taken this one for dead, and failed its trials; they
            are its own all the same.
        best: The id of the job's best trial, for other jobs; ``None`` for none.
        n_written: How many rows the study had, for certain, that keep their numbers.
        blocks: The blocks of numbers that were claimed; only the last where this goes on for
            another writer.
        next_index: The index of the first trial of the next block.
    """

    def __init__(
        self,
        connection: Connection,
        study_id: int,
        base: int | None = None,
        job: str = "",
        place: int = 0,
        *,
        is_open: bool = True,
        who: dict[str, Any] | None = None,
    ) -> None:
        self.study_id, self.job, self.place = study_id, job, place
        self.is_late = base is None and not is_open
        self.is_stale = False  # whether the database may hold something else than is known here
        self.was_given_up = False
        self.best: int | None = None
        self._who = {**(who or own_process()), "since": utc(datetime.now())}
        self._beat = 0
        mark = None if base is None else read_mark(connection, study_id, job)
        if mark is not None and mark.get("is_waiting"):
            mark = None  # it has been away
        self.is_unmarked = mark is None
        if mark is None:
            last_id, n_floating = reading.last_trial_id(connection, study_id), 0
        else:
            last_id, n_floating = mark["last_id"], mark["n_floating"]
            self._beat, is_open = mark["beat"], mark["is_open"]
            self.is_late, base = mark["is_late"], mark["base"]
            self.was_given_up = mark["was_given_up"]
        self.next_index = SHARED if mark is None else mark["next_index"]
        self.blocks: list[Block] = [] if mark is None else [tuple(b) for b in mark["blocks"]]
        n_rows = reading.count_trials(connection, study_id, last_id)
        self.base = n_rows if base is None else base
        self.waiting = reading.trials_in_state(connection, study_id, TrialState.WAITING)
        self.numbering = Numbering(n_rows - n_floating, is_open=is_open)
        for identity in reading.last_numbered(connection, study_id, last_id, n_floating):
            self.numbering.found(identity)
            self.waiting.pop(identity, None)
        self.n_written = self.numbering.n_settled
        self._last_id = last_id
        self._moved = range(0) if mark is None else range(*mark["moved"])
        self._ids = moved_trials(connection, study_id, job) if self._moved else {}
        self._bare: set[int] = set()  # numbers of rows that nothing else was written about
        running = reading.trials_in_state(connection, study_id, TrialState.RUNNING)
        owners = owners_of(connection, list(running))
        if base is not None and is_open:  # the job's own are not somebody else's
            owners = {i: owners.get(i, job if n >= base else None) for i, n in running.items()}
        followed = [i for i in running if owners.get(i) is None]  # jobs tell of their own
        self._elsewhere = dict.fromkeys((*followed, *self.waiting))

    @property
    def first_worker(self) -> int:
        """The first of the numbers by which the job's workers are known."""
        first, _ = self._who.get("workers", (0, 1))
        return int(first)

    def write(self, connection: Connection, changes: Iterable[Change]) -> Outcome:
        """Write changes, and find what others have added.

        If it raises, or the transaction fails, this writer is of no use any more.

        Args:
            connection: A connection in a transaction that has locked the study.
            changes: What ranks told, in the order in which each of them told it, with the
                distributions of parameters as JSON.
        """
        return self._write(BulkWriter(connection), connection, merged(changes))

    def claim(
        self, connection: Connection, index: int, end: int, n_more: int, n_total: int | None = None
    ) -> Outcome:
        """Insert rows for trials that are about to start.

        If it raises, or the transaction fails, this writer is of no use any more.

        Args:
            connection: A connection in a transaction that has locked the study.
            index: The index of the last of them.
            end: The first index that has no number yet, as far as is known elsewhere.
            n_more: For how many more to do so.
            n_total: How many trials the study may have; ``None`` for no limit.
        """
        bulk, outcome = BulkWriter(connection), Outcome()
        self.next_index = max(self.next_index, end)
        n = index + 1 - self.next_index
        is_needed, n = n > 0, n + n_more
        _, shared = self._find(connection, outcome)
        if n_total is not None:
            n = min(n, n_total - self.numbering.n_rows)
        if is_needed and n > 0:
            numbers = self._insert(bulk, n)
            self.blocks.append((self.next_index, numbers[0], n))
            self.next_index += n
        bulk.own(shared, None)
        self.mark(bulk)
        return outcome

    def _insert(self, bulk: BulkWriter, n: int) -> range:
        """Insert rows for trials of this job that nobody has told of; return their numbers."""
        if n <= 0:
            return range(0)
        numbers, now = self.numbering.take(n), utc(datetime.now())
        ids = bulk.insert_trials(self.study_id, [(i, "RUNNING", now, None) for i in numbers])
        bulk.own(ids, self.job, new=True)
        self._ids.update(zip(numbers, ids, strict=True))
        self._bare.update(numbers)
        self._last_id = ids[-1]
        return numbers

    def close(self, connection: Connection, index: int) -> Outcome:
        """Let other jobs add trials, too: from now on no number is used before it has a row.

        Args:
            connection: A connection in a transaction that has locked the study.
            index: The index of the first trial of this job that is not started yet.
        """
        bulk = BulkWriter(connection)
        last = self.base + index - 1
        told = [] if self.numbering.has_row(last) else [running(last)]
        outcome = self._write(bulk, connection, merged(told))
        floating = enumerate(self.numbering.floating, self.numbering.n_settled)
        settled = {identity: number for number, identity in floating}
        self.numbering.close()
        self.next_index = SHARED + index  # as the counter goes on
        own = reading.trials_in_state(connection, self.study_id, TrialState.RUNNING)
        owners = owners_of(connection, list(own))
        unowned = {i: n for i, n in own.items() if n >= self.base and i not in owners}
        self._ids.update((number, identity) for identity, number in unowned.items())
        bulk.own(list(unowned), self.job)
        self.mark(bulk)
        outcome.waiting.update(self._newly_waiting(connection, settled, {}))
        return outcome

    def rejoined(self, connection: Connection, index: int) -> StudyWriter:
        """Return a writer that goes on beside other jobs, though one took this one for dead.

        Of a job that was alone, numbers that have been used and have no rows may be another
        job's by now: their trials get others as they are written.

        Args:
            connection: A connection in a transaction that has locked the study.
            index: The index of the first trial of this job that is not started yet, if it was
                alone.
        """
        again = self.again(connection)
        again.was_given_up = True
        if self.numbering.is_open:
            marks = read_marks(connection, self.study_id).values()
            bases = [mark["base"] for mark in marks if "base" in mark]
            end = self.numbering.n_settled
            is_written = self.is_stale and bool(bases) and min(bases) >= end > self.n_written
            first, used = end if is_written else self.n_written, self.base + index
            again.next_index = SHARED + index
            again._moved = range(first, max(first, min(used, again.numbering.n_rows)))
            again._insert(BulkWriter(connection), used - again.numbering.n_rows)
        return again

    def again(self, connection: Connection) -> StudyWriter:
        """Return a writer that goes on for this one, whose last transaction may have failed.

        Args:
            connection: A connection in a transaction that has locked the study.
        """
        again = StudyWriter(
            connection,
            self.study_id,
            self.base,
            self.job,
            self.place,
            is_open=False,
            who=self._who,
        )
        again.was_given_up |= self.was_given_up
        again.n_written = self.n_written
        again.numbering.claimed(self.numbering.claims)
        return again

    def leave(self, connection: Connection) -> None:
        """Give back what was claimed and not used, fail what runs no more, and take the mark away.

        Of a job that is alone the mark stays, and says that the job adds no more trials.

        Args:
            connection: A connection in a transaction that has locked the study.
        """
        bulk = BulkWriter(connection)
        if self.numbering.is_open:
            self.mark(bulk, released=True)
            return
        others = read_marks(connection, self.study_id).keys() - {self.job}
        mark = {"job": self.job, "is_open": False}
        fail_stale(bulk, connection, self.study_id, mark, 0, gives_back=True)
        bulk.unmark(self.study_id, self.job)
        if not others:
            self._take_back(bulk, connection)

    def _take_back(self, bulk: BulkWriter, connection: Connection) -> None:
        """Delete the last trials as far as they were claimed and given back: nobody has come."""
        waiting = reading.trials_in_state(connection, self.study_id, TrialState.WAITING)
        owners = owners_of(connection, list(waiting))
        bare = set(bare_trials(connection, [i for i in waiting if i in owners]))
        n_rows = reading.count_trials(connection, self.study_id)
        last: list[int] = []
        for identity, number in sorted(waiting.items(), key=lambda item: -item[1]):
            if identity not in bare or number != n_rows - 1 - len(last):
                break
            last.append(identity)
        bulk.delete_trials(last)

    def taken_up(self, identity: int) -> None:
        """Note that a rank of this job runs a trial that others have added."""
        self.waiting.pop(identity, None)
        self._elsewhere.pop(identity, None)

    def look_for_waiting(self, connection: Connection) -> Outcome:
        """Find what another job has let go of."""
        waiting = reading.trials_in_state(connection, self.study_id, TrialState.WAITING)
        new = {i: n for i, n in waiting.items() if i <= self._last_id and i not in self.waiting}
        self._elsewhere.update(dict.fromkeys(new))
        return Outcome(waiting=new)

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

    def _find(self, connection: Connection, outcome: Outcome) -> tuple[dict[int, str], list[int]]:
        """Find the rows that others have added.

        Returns:
            Their states by id; the ids of those that are to be said to be nobody's, which must
            come last: a plain client may have locked what it writes about, row first.
        """
        added = reading.trials_after(connection, self.study_id, self._last_id)
        owners: dict[int, str | None] = {}
        if not self.numbering.is_open:
            owners = owners_of(connection, [identity for identity, *_ in added])
        shared, states = [], {}
        for identity, number, state in added:
            self.numbering.found(identity)
            states[identity] = state
            if state in _UNFINISHED and owners.get(identity) is None:
                self._elsewhere[identity] = None
                shared.append(identity)
            elif state == "COMPLETE":
                outcome.complete[identity] = None
            if state == "WAITING" and not self.numbering.is_open:
                outcome.waiting[identity] = number
            self._last_id = identity
        return states, [identity for identity in shared if identity not in owners]

    def _write(
        self,
        bulk: BulkWriter,
        connection: Connection,
        changes: dict[int | tuple[int], Change],
    ) -> Outcome:
        outcome = Outcome()
        states, shared = self._find(connection, outcome)
        self._move(bulk, [c.number for c in changes.values() if c.identity is None])
        told = {
            change.number: change
            for change in changes.values()
            if change.identity is None and not self._has_row(change.number)
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
        new = [told.get(number) or running(number) for number in plan.inserted]
        rows = [(c.number, c.state, c.start, c.complete) for c in new]
        ids = bulk.insert_trials(self.study_id, rows) if rows else []
        self._last_id = max((self._last_id, *ids))
        identified = list(zip(ids, new, strict=True))
        self._ids.update((c.number, identity) for identity, c in identified)
        self._bare.update(number for number in plan.inserted if number not in told)
        bulk.renumber(plan.renumbered)
        known = [(self._ids.get(c.number) if c.identity is None else c.identity, c) for c in there]
        old = [(identity, c) for identity, c in known if identity is not None]
        bulk.update_trials(
            [(c.state, c.start, c.complete, identity) for identity, c in old],
            also_failed=self.was_given_up,
        )
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
        if self.was_given_up:  # whoever took them for a dead job's has failed them
            bulk.own([i for i, c in old if c.identity is None and c.state == "RUNNING"], self.job)
        self.mark(bulk)
        outcome.waiting.update(self._newly_waiting(connection, plan.settled, states))
        return outcome

    def _has_row(self, number: int) -> bool:
        return number in self._ids or self.numbering.has_row(number)

    def _move(self, bulk: BulkWriter, numbers: Iterable[int]) -> None:
        """Insert rows for trials whose numbers another job may have; see ``rejoined``."""
        moved = sorted({n for n in numbers if n in self._moved and n not in self._ids})
        places = self._insert(bulk, len(moved))
        ids = {n: self._ids.pop(place) for n, place in zip(moved, places, strict=True)}
        self._ids.update(ids)
        bulk.system_attributes([(i, MOVED, str(n)) for n, i in ids.items()], new=True)
        self._bare.difference_update(places)

    def mark(self, bulk: BulkWriter, *, released: bool = False) -> None:
        """Leave word of what is known, for a successor.

        Args:
            bulk: Writes in a transaction that has locked the study.
            released: Whether the job adds no more trials.
        """
        self._beat += 1
        mark = {
            **self._who,
            "study_id": self.study_id,
            "job": self.job,
            "place": self.place,
            "beat": self._beat,
            "base": self.base,
            "last_id": self._last_id,
            "n_settled": self.numbering.n_settled,
            "n_floating": len(self.numbering.floating),
            "is_open": self.numbering.is_open,
            "is_late": self.is_late,
            "next_index": self.next_index,
            "blocks": self.blocks[-_RECENT_BLOCKS:],
            "best": self.best,
            "moved": [self._moved.start, self._moved.stop],
            "was_given_up": self.was_given_up,
        }
        bulk.mark(self.study_id, self.job, {**mark, "released": True} if released else mark)

    def _look_up(self, connection: Connection, numbers: Sequence[int]) -> None:
        """Learn the ids of the job's rows that another writer of it has written."""
        unknown = [number for number in numbers if number not in self._ids]
        self._ids.update(reading.ids_of_numbers(connection, self.study_id, unknown))

    def _note(self, written: Sequence[tuple[int, Change]], outcome: Outcome) -> None:
        for identity, change in written:
            if change.state not in _UNFINISHED:
                if change.number not in self._moved:
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


def running(number: int) -> Change:
    """Return what there is to write of a trial that nobody has told of."""
    return Change(number, None, "RUNNING", utc(datetime.now()), None)


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
