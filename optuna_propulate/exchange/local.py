"""The exchange within one process: a worker that is alone, or many on a virtual clock."""

from __future__ import annotations

import heapq
import math
from itertools import count
from typing import TYPE_CHECKING

from optuna_propulate.exchange.base import Workers


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence

    from optuna_propulate.exchange.base import Message
    from optuna_propulate.exchange.base import Migrants
    from optuna_propulate.exchange.base import News


def no_delay(sender: int, receiver: int) -> float:
    """Return 0: messages arrive at once."""
    return 0.0


class Network:
    """Holds the messages in flight between the workers of one process, on a virtual clock.

    Args:
        islands: The workers of each island.
        delay: Called with sender and receiver for each message; returns how long it travels.

    Attributes:
        now: The time on the virtual clock; whoever drives the workers sets it.
        n_sent: How many messages have been sent, counted once per receiver.
    """

    def __init__(
        self, islands: Sequence[range], delay: Callable[[int, int], float] = no_delay
    ) -> None:
        self.now = 0.0
        self.n_sent = 0
        self._islands = islands
        self._delay = delay
        self._inboxes: dict[int, list[tuple[float, int, Message]]] = {
            worker: [] for workers in islands for worker in workers
        }
        self._order = count()
        self._finished: dict[int, Callable[[], None]] = {}

    def exchange(self, worker: int) -> LocalExchange:
        """Return the worker's end of the network."""
        return LocalExchange(self, self._islands, worker)

    def send(self, message: Message, sender: int, receiver: int) -> None:
        """Let a message travel."""
        arrival = self.now + self._delay(sender, receiver)
        heapq.heappush(self._inboxes[receiver], (arrival, next(self._order), message))
        self.n_sent += 1

    def arrived(self, worker: int) -> list[Message]:
        """Return what has reached the worker by now, in the order of arrival."""
        inbox = self._inboxes[worker]
        messages = []
        while inbox and inbox[0][0] <= self.now:
            messages.append(heapq.heappop(inbox)[2])
        return messages

    def drain(self, worker: int, take_in: Callable[[], None]) -> None:
        """Note that a worker has finished; the last one lets everything arrive."""
        self._finished[worker] = take_in
        if len(self._finished) < len(self._inboxes):
            return
        before, self.now = self.now, math.inf
        while any(self._inboxes.values()):
            for finished, take_in_there in self._finished.items():
                if self._inboxes[finished]:
                    take_in_there()
        self.now = before
        self._finished.clear()


class LocalExchange(Workers):
    """One worker's end of a network; nobody can be waited for, as all share one thread.

    Args:
        network: Carries the messages.
        islands: The workers of each island.
        worker: The worker whose end this is.
    """

    def __init__(self, network: Network, islands: Sequence[range], worker: int) -> None:
        super().__init__(islands, worker)
        self._network, self._address = network, worker

    @classmethod
    def alone(cls) -> LocalExchange:
        """Return the exchange of a worker that has nobody to hear from."""
        return Network([range(1)]).exchange(0)

    def publish(self, news: News) -> None:
        """Tell all peers on this worker's island."""
        for peer in self.peers:
            self._network.send(news, self._address, peer)

    def dispatch(self, migrants: Migrants, worker: int) -> None:
        """Send migrants to a worker of another island."""
        self._network.send(migrants, self._address, worker)

    def receive(self) -> list[Message]:
        """Return what has arrived since the last call."""
        return self._network.arrived(self._address)

    def drain(self, take_in: Callable[[], None]) -> None:
        """Let everything arrive and be taken in, once every worker has called this."""
        self._network.drain(self._address, take_in)
