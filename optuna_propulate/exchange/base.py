"""What workers tell each other, and what an exchange is: it carries that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Any
from typing import Protocol


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence

    import numpy as np
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from optuna_propulate.evolution.individual import Individual
    from optuna_propulate.evolution.individual import IndividualId


@dataclass(frozen=True, slots=True)
class News:
    """Events on an island, told by the worker that owns the individuals to all its peers.

    Args:
        added: The individuals that are active there and were not, or were not told of.
        removed: The ids of those that were told of before, and no longer count: they left,
            were replaced, or are nowhere near the breeding pool.
        born: Individuals that were evaluated, good or bad, for the breeders to learn from. Not
            events: one that is active as well is among ``added``, some time.
    """

    added: tuple[Individual, ...] = ()
    removed: tuple[IndividualId, ...] = ()
    born: tuple[Individual, ...] = ()


@dataclass(frozen=True, slots=True)
class Migrants:
    """Individuals that travel to another island, told to the one worker that will own them.

    Args:
        individuals: The migrants.
        told: Whether the owner's peers have heard of them already.
    """

    individuals: tuple[Individual, ...]
    told: bool = False


Message = News | Migrants


class Exchange(Protocol):
    """Carries messages between the workers of a job; each arrives once, in any order.

    One whose messages travel through the study itself has a ``name``, and hooks where trials are
    read and written; for others these do nothing.

    Attributes:
        worker: The worker whose end this is, and its address. Where messages travel through the
            study, ``None`` until the sampler has set the number of the worker's first trial.
        name: What trials record of it, so that readers know who tells of them; ``None`` for one
            whose messages do not travel through the study.
    """

    worker: int | None = None
    name: str | None = None

    @property
    def n_workers(self) -> int:
        """How many workers this worker's island has, itself included."""
        ...

    def publish(self, news: News) -> None:
        """Tell all peers on this worker's island; never waits for them."""
        ...

    def pick(self, island: int, rng: np.random.Generator) -> int | None:
        """Choose who on another island owns the next migrants; ``None`` if nobody is there."""
        ...

    def dispatch(self, migrants: Migrants, worker: int) -> None:
        """Send migrants to a worker that was picked; never waits for it."""
        ...

    def receive(self) -> Sequence[Message]:
        """Return what has arrived since the last call; never waits."""
        ...

    def drain(self, take_in: Callable[[], None]) -> None:
        """Wait until every worker has called this and all that was sent has been taken in.

        Args:
            take_in: Receives what has arrived; called repeatedly, and may send.
        """
        ...

    def read(self, study: Study, trials: Sequence[FrozenTrial]) -> Sequence[FrozenTrial]:
        """Read the messages that finished trials of others carry.

        Args:
            study: The study.
            trials: Trials that this worker has not read yet, and did not evaluate.

        Returns:
            Those that no worker tells of: of other samplers, or of runs with another exchange.
        """
        return trials

    def outgoing(self) -> dict[str, Any]:
        """Return the system attributes to write with the trial that has just finished."""
        return {}


class Workers(Exchange):
    """The workers of all islands, where these are known from the start.

    Args:
        islands: The workers of each island.
        worker: The worker whose view this is.
    """

    def __init__(self, islands: Sequence[range], worker: int) -> None:
        self.worker = worker
        self._islands = islands
        home = next(workers for workers in islands if worker in workers)
        self.peers = [peer for peer in home if peer != worker]

    @property
    def n_workers(self) -> int:
        """How many workers this worker's island has, itself included."""
        return len(self.peers) + 1

    def pick(self, island: int, rng: np.random.Generator) -> int:
        """Choose one of the workers of an island, each equally likely."""
        workers = self._islands[island]
        return workers[int(rng.integers(len(workers)))]
