"""What a worker knows when it breeds: the breeding pool, and what it has learnt so far."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple
from typing import Protocol
from typing import TypeVar
from typing import overload

from optuna_propulate.breeders.gene_matrix import GeneMatrix
from optuna_propulate.evolution.ranking import by_loss
from optuna_propulate.operators.base import BreedingPool


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from collections.abc import Sequence

    from optuna_propulate.evolution.individual import Individual

_REPLAYED = 4096  # births that a memory which begins later still hears of, ...
_SETTLED = 256  # ... until a worker has bred so often since the last memory began; then ...
_REPLAYED_LATER = 32  # ... it hears of so many, and of the best
_RANKED = 64  # of how many of the best births the ranks are told apart


class Birth(NamedTuple):
    """An individual that was evaluated.

    Args:
        individual: The individual.
        rank: How many better ones the worker had heard of before, up to 64.
    """

    individual: Individual
    rank: int


class Memory(Protocol):
    """What one operator has learnt from the births that its worker has heard of."""

    def hear(self, birth: Birth) -> None:
        """Learn from a birth, in the order in which the worker hears of them."""
        ...


AnyMemory = TypeVar("AnyMemory", bound=Memory)


class BreedingContext(BreedingPool):
    """The breeding pool of a worker, best first, with what its operators have learnt.

    Operators have no state of their own: what they learn from each birth, wherever on the island
    it was, is kept here under the operator, so that one operator serves many workers.

    Args:
        pool: The breeding pool, best first.

    Attributes:
        pool: The breeding pool, best first.
        pending: Offspring of this worker's process that are being evaluated.
        matrix: The genes that any individual heard of has.
    """

    def __init__(self, pool: Sequence[Individual] = ()) -> None:
        self.pool: Sequence[Individual] = ()
        self.pending: Sequence[Individual] = ()
        self.matrix = GeneMatrix()
        self._best: list[Any] = []
        self._best_births: list[Birth] = []  # of these keys
        self._heard: deque[Birth] = deque(maxlen=_REPLAYED)
        self._n_bred_since = 0  # since a memory began
        self._memories: dict[int, tuple[object, Any]] = {}  # by identity: hashing takes longer
        self.look_at(pool, ())

    @classmethod
    def of(cls, individuals: Sequence[Individual]) -> BreedingContext:
        """Return a context as it is, and of other individuals that which they show."""
        if isinstance(individuals, BreedingContext):
            return individuals
        return cls(sorted(individuals, key=by_loss))

    def hear(self, individual: Individual) -> None:
        """Let all operators learn from an individual that was evaluated."""
        key = by_loss(individual)
        rank = bisect_left(self._best, key)
        birth = Birth(individual, rank)
        if rank < _RANKED:
            self._best.insert(rank, key)
            self._best_births.insert(rank, birth)
            del self._best[_RANKED:], self._best_births[_RANKED:]
        self.matrix.include(individual)
        self._heard.append(birth)
        if self._n_bred_since > _SETTLED and len(self._heard) > _REPLAYED_LATER:
            self._heard.popleft()
            self._heard.popleft()
        for _, memory in self._memories.values():
            memory.hear(birth)

    def look_at(self, pool: Sequence[Individual], pending: Sequence[Individual]) -> None:
        """Take over the pool and the pending offspring of now, with genes not heard of before."""
        looked_at = pending if pool == self.pool else (*pool, *pending)
        self.pool, self.pending = pool, pending
        self._n_bred_since += 1
        seen: tuple[str, ...] | None = None
        for individual in looked_at:
            if individual.names is not seen:
                seen = individual.names
                self.matrix.admit(individual)

    def recall(self, operator: object, make: Callable[[], AnyMemory]) -> AnyMemory:
        """Return what an operator has learnt.

        Args:
            operator: The operator; no other one shares its memory.
            make: Returns an empty memory, which first hears of the best and the latest births.
        """
        known = self._memories.get(id(operator))
        if known is None:
            memory = make()
            latest = {id(birth) for birth in self._heard}
            forgotten = [birth for birth in self._best_births if id(birth) not in latest]
            for birth in (*reversed(forgotten), *self._heard):
                memory.hear(birth)
            self._memories[id(operator)] = known = (operator, memory)  # so the identity lasts
            self._n_bred_since = 0
        remembered: AnyMemory = known[1]
        return remembered

    @overload
    def __getitem__(self, index: int) -> Individual: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Individual]: ...
    def __getitem__(self, index: int | slice) -> Individual | Sequence[Individual]:
        return self.pool[index]

    def __len__(self) -> int:
        return len(self.pool)

    def __iter__(self) -> Iterator[Individual]:
        return iter(self.pool)
