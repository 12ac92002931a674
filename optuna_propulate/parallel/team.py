"""A team: the MPI ranks that share a study; they take steps, agree and fail together."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING
from typing import Any
from typing import TypeAlias
from typing import TypeVar

from optuna_propulate.parallel.abort import abort
from optuna_propulate.parallel.counters import LocalCounters
from optuna_propulate.parallel.counters import SharedCounters
from optuna_propulate.parallel.joining import join
from optuna_propulate.parallel.launch import poll
from optuna_propulate.parallel.launch import threads_allowed


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence

    from mpi4py import MPI

    from optuna_propulate.parallel.counters import Counters

T = TypeVar("T")


class Team:
    """Holds a duplicate of the communicator whose ranks share a study.

    Args:
        comm: The communicator; every rank of it builds a team.
        timeout: How long none of the other ranks may do so, in seconds.

    Raises:
        TimeoutError: If some rank does not in time.
    """

    def __init__(self, comm: MPI.Intracomm, timeout: float) -> None:
        join(comm, comm.Ibarrier().Test, timeout, "called create_study or load_study")
        self.comm = comm.Dup()
        self.rank, self.size = comm.rank, comm.size

    @property
    def threads_allowed(self) -> bool:
        """Whether several threads of a rank may take part."""
        return threads_allowed()

    def meet(self) -> None:
        """Wait for every rank, without spinning a core; trials under way bound the wait."""
        poll(self.comm.Ibarrier().Test)

    def attempt(self, step: Callable[[], T]) -> T:
        """Take a step on every rank; if it fails on one, it fails on all of them.

        Args:
            step: What each rank does.

        Returns:
            What ``step`` returned on this rank.

        Raises:
            Exception: What ``step`` raised here, else what it raised on the lowest rank.
        """
        result, error = _outcome(step)
        self.meet()
        errors = self.comm.allgather(_portable(error))
        if error is not None:
            raise error
        for elsewhere in errors:
            if elsewhere is not None:
                raise elsewhere
        return result  # type: ignore[return-value]

    def from_root(self, step: Callable[[], T]) -> T:
        """Take a step on rank 0 only; all ranks return its result or raise its error."""
        result: Any = self.attempt(step if self.rank == 0 else _nothing)
        return self.comm.bcast(result)  # type: ignore[no-any-return]

    def share_from_root(self, step: Callable[[], Sequence[T]]) -> T:
        """Take a step on rank 0 only; each rank returns its own part of the result.

        Args:
            step: Returns a part for each rank.
        """
        result: Any = self.attempt(step if self.rank == 0 else _nothing)
        return self.comm.scatter(result)  # type: ignore[no-any-return]

    def gather(self, value: T) -> list[T]:
        """Return every rank's value, in the order of the ranks."""
        self.meet()
        return self.comm.allgather(value)

    def counters(self, n: int) -> Counters:
        """Return ``n`` counters that all ranks share, each of which starts at 0."""
        self.meet()  # what follows is collective and would spin
        return SharedCounters(self.comm, n)

    def agree(self, **values: object) -> None:
        """Check that every rank was given the same values.

        Raises:
            ValueError: On every rank, if one differs; it names the value and the ranks.
        """
        everywhere = self.gather(values)
        for name in values:
            given = [there[name] for there in everywhere]
            if any(value != given[0] for value in given):
                other = next(rank for rank, value in enumerate(given) if value != given[0])
                raise ValueError(
                    f"{name} must be the same on every MPI rank, but got {given[0]!r} on rank 0 "
                    f"and {given[other]!r} on rank {other}."
                )

    def abort(self, error: BaseException) -> None:
        """Print the error with this rank, and end every rank of the job at once."""
        abort(self.comm, error)


class LocalTeam:
    """A process alone: what a team of one rank does, without MPI."""

    rank, size = 0, 1
    threads_allowed = True

    def meet(self) -> None:
        """Do nothing: everybody is here."""

    def attempt(self, step: Callable[[], T]) -> T:
        """Take a step."""
        return step()

    def from_root(self, step: Callable[[], T]) -> T:
        """Take a step."""
        return step()

    def share_from_root(self, step: Callable[[], Sequence[T]]) -> T:
        """Take a step, which returns one part."""
        return step()[0]

    def gather(self, value: T) -> list[T]:
        """Return the one value."""
        return [value]

    def counters(self, n: int) -> Counters:
        """Return counters that all threads share, each of which starts at 0."""
        return LocalCounters()

    def agree(self, **values: object) -> None:
        """Do nothing: nobody was given anything else."""

    def abort(self, error: BaseException) -> None:
        """Do nothing: the exception itself ends this process."""


AnyTeam: TypeAlias = Team | LocalTeam


def _nothing() -> None:
    """Leave the step to rank 0."""


def _outcome(step: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return step(), None
    except Exception as error:  # raised again on every rank by the caller
        return None, error


def _portable(error: Exception | None) -> Exception | None:
    """Return the error, or one that says the same if it cannot travel."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever an exception class of the user's may raise here
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
