"""Workers that a command starts itself: MPI ranks on this machine."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

from optuna_propulate.cli.command import refuse
from optuna_propulate.parallel.launch import launched_by_mpi


if TYPE_CHECKING:
    from collections.abc import Sequence

_STARTED = "OPTUNA_PROPULATE_STARTED"
"""The environment variable by which a rank knows that the command has been here before."""


def start_workers(n: int, arguments: Sequence[str]) -> None:
    """Become the launcher of so many ranks, each of which runs this command; do nothing in them.

    Args:
        n: How many.
        arguments: The command line without the program.
    """
    if _STARTED in os.environ:
        return
    if launched_by_mpi(os.environ):
        refuse("--workers starts ranks itself: leave it out under mpirun")
    beside = Path(sys.executable).parent / "mpiexec"
    launcher = os.environ.get("MPIEXEC") or (str(beside) if beside.exists() else which("mpiexec"))
    if launcher is None or find_spec("mpi4py") is None:
        refuse("--workers needs MPI: pip install 'optuna-propulate[mpich]' brings one")
    os.environ[_STARTED] = str(n)
    if n > (os.cpu_count() or 1):  # as asked for; Open MPI would refuse
        os.environ.setdefault("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe")
    ranks = [launcher, "-n", str(n), sys.executable, "-m", "optuna_propulate"]
    os.execvp(launcher, [*ranks, *arguments])
