"""The exchange through the study itself: for processes that share an RDB, and no MPI.

Messages are system attributes of the trials that a process finishes, so each is written with a
trial and read once with it, in the order of the numbers. Individuals are named by their trial
numbers. The attribute ``propulate:news`` is what a worker tells its peers, as lists of numbers::

    {"added": [...], "removed": [...]}

and ``propulate:migrations``, documented in ``records.migrations``, is what it sends to other
islands.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING
from typing import Any

from optuna_propulate.evolution.individual import Lineage
from optuna_propulate.exchange.base import Exchange
from optuna_propulate.exchange.base import Migrants
from optuna_propulate.exchange.base import News
from optuna_propulate.records.attributes import NEWS
from optuna_propulate.records.attributes import STORAGE
from optuna_propulate.records.attributes import exchange_of
from optuna_propulate.records.attributes import island_of
from optuna_propulate.records.attributes import migrations_after
from optuna_propulate.records.attributes import news_after
from optuna_propulate.records.attributes import worker_of
from optuna_propulate.records.conversion import individual_of
from optuna_propulate.records.conversion import is_evaluated
from optuna_propulate.records.reading import found


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence

    import numpy as np
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from optuna_propulate.evolution.individual import Individual
    from optuna_propulate.exchange.base import Message

_RECENT = 256  # how many of an island's latest trials tell which workers are there


class StorageExchange(Exchange):
    """Holds what a process has read of the study, and what it will write with its next trial.

    Workers come and go: there are as many on an island as its latest trials show. Nobody has to
    be there for migrants to arrive, as each process of the target island reads of them by itself;
    the worker that they are sent to is the one that may give them up.

    Args:
        island: The island of this process.
        n_islands: How many islands there are.
    """

    name = STORAGE

    def __init__(self, island: int, n_islands: int) -> None:
        self._island, self._n_islands = island, n_islands
        self._recent: dict[int, deque[int]] = {}
        self._inbox: list[Message] = []
        self._unsent: list[News] = []
        self._unreadable: list[FrozenTrial] = []

    @property
    def n_workers(self) -> int:
        """How many workers this island has, as far as its latest trials show."""
        return len({self.worker, *self._recent.get(self._island, ())} - {None}) or 1

    def read(self, study: Study, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Read the messages that finished trials of others carry; return those without any."""
        untold, telling = [], self._unreadable
        for trial in trials:
            if exchange_of(trial) == STORAGE:
                self._note(trial)
                self._hear(study, trial)
                telling.append(trial)
            else:
                untold.append(trial)
        self._unreadable = []
        for trial in telling:
            try:
                self._inbox += self._messages(study, trial)
            except _UnreadableError:
                self._unreadable.append(trial)
        return untold

    def outgoing(self) -> dict[str, Any]:
        """Return the system attribute to write with the trial that has just finished."""
        if not self._unsent:
            return {}
        news = {
            "added": [individual.number for news in self._unsent for individual in news.added],
            "removed": [number for news in self._unsent for number, _ in news.removed],
        }
        self._unsent.clear()
        return {NEWS: news}

    def publish(self, news: News) -> None:
        """Keep the news for the next trial's attributes; births can be read from the study."""
        if news.added or news.removed:
            self._unsent.append(news)

    def pick(self, island: int, rng: np.random.Generator) -> int | None:
        """Choose a worker by one of the island's latest trials; ``None`` if there is none."""
        recent = self._recent.get(island)
        return recent[int(rng.integers(len(recent)))] if recent else None

    def dispatch(self, migrants: Migrants, worker: int) -> None:
        """Do nothing: the record of the departure is the message."""

    def receive(self) -> list[Message]:
        """Return what was read since the last call."""
        messages, self._inbox = self._inbox, []
        return messages

    def drain(self, take_in: Callable[[], None]) -> None:
        """Take in what was read: who else will come and write is not known."""
        take_in()

    def _note(self, trial: FrozenTrial) -> None:
        island, worker = island_of(trial), worker_of(trial)
        if island is not None and worker is not None:
            self._recent.setdefault(island, deque(maxlen=_RECENT)).append(worker)

    def _hear(self, study: Study, trial: FrozenTrial) -> None:
        if is_evaluated(trial) and island_of(trial) == self._island:
            born = individual_of(trial, study.direction, self._n_islands)
            self._inbox.append(News(born=(born,)))

    def _messages(self, study: Study, trial: FrozenTrial) -> list[Message]:
        def individuals(numbers: list[int]) -> tuple[Individual, ...]:
            return tuple(self._individual(study, number) for number in numbers)

        messages: list[Message] = []
        news = news_after(trial)
        if news is not None and island_of(trial) == self._island:
            added, gone = map(individuals, news)
            messages.append(News(added, tuple(individual.id for individual in gone)))
        for number, _, island, owner in migrations_after(trial)[2]:
            if island == self._island:
                migrants = individuals([number])
                newcomers = tuple(replace(migrant, lineage=Lineage()) for migrant in migrants)
                here = owner == self.worker
                told = Migrants(migrants, told=True) if here else News(migrants, (), newcomers)
                messages.append(told)
        return messages

    def _individual(self, study: Study, number: int) -> Individual:
        trial = found(study, number)
        if trial is None or not is_evaluated(trial):
            raise _UnreadableError
        return individual_of(trial, study.direction, self._n_islands)


class _UnreadableError(Exception):
    """A message names a trial whose result is about to be written."""
