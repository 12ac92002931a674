"""Ranks that come late are waited for; ranks that never come are named."""

from __future__ import annotations

from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Callable

JOIN = """
import pathlib, time
from mpi4py import MPI
from optuna_propulate.parallel.joining import join

comm = MPI.COMM_WORLD
comm.Barrier()
begun = time.monotonic()
"""


def test_ranks_that_come_one_after_the_other_are_waited_for(mpiexec: Callable) -> None:
    outcome = mpiexec(
        JOIN
        + """
time.sleep(2.0 * comm.rank)  # the last one longer after the first than the timeout
join(comm, comm.Ibarrier().Test, 4.0, "came")
comm.Barrier()
report(seconds=time.monotonic() - begun, left=comm.Iprobe())
""",
        4,
    )
    assert outcome.status == 0, outcome.stderr
    assert all(rank["seconds"] > 6.0 for rank in outcome.ranks)
    assert not any(rank["left"] for rank in outcome.ranks)


def test_ranks_that_never_come_are_named_on_all_others(mpiexec: Callable) -> None:
    outcome = mpiexec(
        JOIN
        + """
def wait_for(ranks):
    deadline = time.monotonic() + 60
    paths = [pathlib.Path(f"rank{rank}.json") for rank in ranks]
    while not all(path.exists() and path.stat().st_size for path in paths):
        assert time.monotonic() < deadline
        time.sleep(0.05)

error = ""
if comm.rank in (1, 3):
    wait_for([0, 2, 4])
else:
    try:
        join(comm, comm.Ibarrier().Test, 2.0, "came")
    except TimeoutError as failure:
        error = str(failure)
report(error=error, seconds=time.monotonic() - begun)
wait_for(range(5))
comm.Abort(3)
""",
        5,
    )
    for rank in (0, 2, 4):
        assert outcome.ranks[rank]["error"] == (
            f"Not all of the 5 MPI ranks came (rank {rank} did): for 2 s nobody came; missing: "
            "the ranks 1, 3."
        )
        assert outcome.ranks[rank]["seconds"] < 10
