"""The exchange of a worker that is alone."""

from __future__ import annotations

from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence

    from optuna_propulate.individual import Individual


class LocalExchange:
    """Carries nothing: a worker that is alone has nobody to hear from."""

    def send(self, individuals: Sequence[Individual], workers: Iterable[int]) -> None:
        """Do nothing, as there is no other worker."""

    def receive(self) -> list[Individual]:
        """Return an empty list."""
        return []

    def settle(self) -> None:
        """Return at once."""
