"""What an exchange is: it carries individuals between workers."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Protocol


if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence

    from optuna_propulate.individual import Individual


class Exchange(Protocol):
    """Carries individuals between the workers of a job.

    What is sent arrives once at each addressee, in any order. The order of calls is free, except
    that nothing may be sent after ``settle``, until ``settle`` has returned on every worker.
    """

    def send(self, individuals: Sequence[Individual], workers: Iterable[int]) -> None:
        """Send copies of the individuals to each of the workers; never waits for them."""
        ...

    def receive(self) -> list[Individual]:
        """Return what has arrived since the last call; never waits."""
        ...

    def settle(self) -> None:
        """Wait until every worker has called this and all that was sent has arrived."""
        ...
