from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from optuna_propulate.parallel.counters import LocalCounters


if TYPE_CHECKING:
    from collections.abc import Callable


def test_threads_are_given_each_number_once() -> None:
    counters = LocalCounters()
    given: list[list[int]] = [[] for _ in range(8)]

    def count(mine: list[int]) -> None:
        mine += [counters.add(3, 1) for _ in range(500)]

    threads = [threading.Thread(target=count, args=(mine,)) for mine in given]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for mine in given for number in mine) == list(range(4000))
    assert all(mine == sorted(mine) for mine in given)


def test_counters_start_at_zero_and_count_apart() -> None:
    counters = LocalCounters()
    assert [counters.add(0, 5), counters.add(1, 2), counters.add(0, -1)] == [0, 0, 5]
    assert [counters.add(0, 0), counters.add(1, 0)] == [4, 2]


def test_ranks_and_their_threads_are_given_each_number_once(mpiexec: Callable) -> None:
    outcome = mpiexec(
        """
        import threading
        from mpi4py import MPI
        from optuna_propulate.parallel.counters import SharedCounters

        comm = MPI.COMM_WORLD
        counters = SharedCounters(comm, 3)
        given = [[], []]

        def count(mine):
            mine += [counters.add(1, 1) for _ in range(400)]

        threads = [threading.Thread(target=count, args=(mine,)) for mine in given]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        comm.Barrier()
        seen = [counters.get(counter) for counter in range(3)]
        comm.Barrier()
        if comm.rank == 1:
            counters.put(0, -7)
        comm.Barrier()
        put = counters.add(0, 0)
        counters.free()
        report(given=given, seen=seen, put=put)
        """,
        3,
    )
    assert outcome.status == 0, outcome.stderr
    given = [mine for rank in outcome.ranks for mine in rank["given"]]
    assert sorted(number for mine in given for number in mine) == list(range(2400))
    assert all(mine == sorted(mine) for mine in given)
    assert [rank["seen"] for rank in outcome.ranks] == [[0, 2400, 0]] * 3
    assert [rank["put"] for rank in outcome.ranks] == [-7] * 3


def test_a_rank_that_is_busy_in_c_keeps_nobody_from_counting(mpiexec: Callable) -> None:
    outcome = mpiexec(
        """
        import ctypes, time
        from mpi4py import MPI
        from optuna_propulate.parallel.counters import SharedCounters

        comm = MPI.COMM_WORLD
        counters = SharedCounters(comm, 1)
        comm.Barrier()
        if comm.rank == 0:
            ctypes.PyDLL(None).sleep(2)  # holds the interpreter's lock, and calls no MPI
            ended = time.time()
        else:
            numbers = [counters.add(0, 1) for _ in range(1000)]
            ended = time.time()
            assert numbers == list(range(1000))
        report(ended=ended)
        counters.free()
        """,
        2,
    )
    assert outcome.status == 0, outcome.stderr
    busy, counting = outcome.ranks
    assert counting["ended"] < busy["ended"] - 0.5


def test_counters_are_given_back_at_the_end_though_a_rank_has_forked(mpiexec: Callable) -> None:
    outcome = mpiexec(
        """
        import atexit
        from mpi4py import MPI
        from optuna_propulate.parallel.counters import SharedCounters

        comm = MPI.COMM_WORLD
        counters = SharedCounters(comm, 1)
        counters.free_at_exit()
        child = os.fork() if comm.rank == 1 else None
        if child == 0:
            atexit._run_exitfuncs()
            os._exit(0)  # as multiprocessing does; MPI's own end would hang in a child
        status = os.waitpid(child, 0)[1] if child else 0
        report(status=status, before=counters.add(0, 1))
        """,
        2,
        timeout=60,
    )
    assert outcome.status == 0, outcome.stderr
    assert [rank["status"] for rank in outcome.ranks] == [0, 0]
    assert sorted(rank["before"] for rank in outcome.ranks) == [0, 1]
