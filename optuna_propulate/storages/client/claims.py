"""Claims: the numbers of the trials that a rank starts, of a job alone or beside others."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from optuna.exceptions import StorageInternalError

from optuna_propulate.storages.client.connection import UnansweredError
from optuna_propulate.storages.client.studies import DECIDED_WITHIN
from optuna_propulate.storages.client.study import StudyFullError
from optuna_propulate.storages.wire.blocks import SHARED


if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna_propulate.storages.client.rank import RankClient
    from optuna_propulate.storages.client.study import StudyView
    from optuna_propulate.storages.wire.blocks import Numbers


class Claims:
    """Counts the trials that are started, and lets the writer claim numbers where others do, too.

    Args:
        client: Asks the writer, and has the job's counters.
        commit_timeout: In seconds.

    Attributes:
        n_left: Returns how many trials the job may still start; ``None`` for no limit.
    """

    def __init__(self, client: RankClient, commit_timeout: float) -> None:
        self._client = client
        self._patience = max(commit_timeout, DECIDED_WITHIN)
        self.n_left: Callable[[], int] | None = None

    def number(self, study: StudyView) -> int:
        """Return the number of the next trial.

        Where other jobs add trials to the study, too, this waits for the database as a rule once
        in half a second of trials, and while it is away.

        Raises:
            StorageInternalError: If the storage is closed, or in a hurry, meanwhile.
            StudyFullError: If the study has as many trials as it shall have.
        """
        assert study.numbers is not None
        first = SHARED if study.is_late else 0
        while True:
            with self._client.lock:
                self._check_room(study, study.numbers)
                if study.refused:
                    index = study.refused.popleft()
                else:
                    index = first + self._client.counters.add(study.slot, 1)
            number = study.numbers.number_of(index)
            if number is None:
                number = self._claimed(study, study.numbers, index)
            elif index >= SHARED:
                self._claim_ahead(study, study.numbers, index)
            if study.n_total is not None and (number is None or number >= study.n_total):
                study.refused.append(index)
                raise StudyFullError
            if number is not None:
                return number

    def is_shared(self, study: StudyView) -> bool:
        """Tell whether other jobs have come, also where this one has claimed nothing since."""
        return study.is_late or self._client.counters.get(study.slot) >= SHARED

    def closed_at(self, study: StudyView) -> int | None:
        """Return the index of the first trial that was started beside other jobs.

        ``None`` if the job has never been alone in the study.
        """
        if study.is_late:
            return None
        counters, counter = self._client.counters, study.slot
        if counters.get(counter) < SHARED:
            before = counters.add(counter, SHARED)
            if before < SHARED:
                counters.put(counter + 1, before + 1)
            else:
                counters.add(counter, -SHARED)  # another rank has just done it
        deadline = time.monotonic() + DECIDED_WITHIN
        while not (closed_at := counters.get(counter + 1)):
            if time.monotonic() > deadline:
                raise StorageInternalError("No rank has said when another job came.")
            time.sleep(0.001)
        return closed_at - 1

    def for_strangers(self, study: StudyView, n: int) -> range:
        """Return numbers for trials that others have added; none once nothing floats any more."""
        assert study.numbers is not None
        counters = self._client.counters
        if counters.get(study.slot) >= SHARED:
            return range(0)
        first = study.numbers.base + counters.add(study.slot, n)
        return range(first, first + n)

    def _check_room(self, study: StudyView, numbers: Numbers) -> None:
        """Raise ``StudyFullError`` if the job is alone, and the study full; counts nothing."""
        if study.n_total is None or study.is_late:
            return
        index = self._client.counters.get(study.slot)
        if index < SHARED and numbers.base + index >= study.n_total:
            raise StudyFullError

    def _claimed(self, study: StudyView, numbers: Numbers, index: int) -> int | None:
        """Let the writer claim a number.

        Returns:
            ``None`` if the study is full, or that of this index has been lost with a writer.

        Raises:
            StorageInternalError: If nobody is to wait any more, or neither the database is away
                nor another job decides for ``commit_timeout``, and for 30 s at least.
        """
        deadline = time.monotonic() + self._patience
        while True:
            most = None if self.n_left is None else self.n_left()
            arguments = (
                index,
                numbers.end,
                study.counter,
                self.closed_at(study),
                most,
                study.n_total,
            )
            try:
                blocks = self._client.call("claim", study.study_id, *arguments)
            except UnansweredError:
                if self._client.is_writer_away:
                    deadline = time.monotonic() + self._patience
                if self._client.is_hurried or time.monotonic() > deadline:
                    raise
            else:
                with self._client.lock:
                    for block in blocks:
                        numbers.add(*block)
                return numbers.number_of(index)

    def _claim_ahead(self, study: StudyView, numbers: Numbers, index: int) -> None:
        """Let the writer claim more numbers if soon none is left; does not wait for it."""
        end = numbers.end
        if end - index > numbers.n_last // 2 or study.asked_at == end:
            return
        study.asked_at = end
        most = None if self.n_left is None else self.n_left() - (end - index)
        if most is None or most >= 0:
            arguments = end, end, study.counter, self.closed_at(study), most, study.n_total
            self._client.answer(["claim", study.study_id, *arguments])
