"""What optuna-dashboard shows of ours: figures and a note, saved to the study while it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.exceptions import StorageInternalError

from optuna_propulate.optimize.throttle import Throttle
from optuna_propulate.parallel.launch import communicator
from optuna_propulate.sampler import PropulateSampler
from optuna_propulate.visualization import plot_best_values
from optuna_propulate.visualization import plot_migration_flows
from optuna_propulate.visualization import plot_operator_success


if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpi4py import MPI
    from optuna.study import Study
    from optuna.trial import FrozenTrial

_logger = optuna.logging.get_logger("optuna." + __name__)

FIGURES = {
    "best-values": plot_best_values,
    "operator-success": plot_operator_success,
    "migration-flows": plot_migration_flows,
}
"""The figures by their name in the dashboard: those that stay small, however long the study."""


class DashboardFigures:
    """A callback that saves our figures and a note to the study, for optuna-dashboard.

    Every rank may have one: under mpirun, rank 0 alone saves. A database that is away costs a
    warning, and the next saving is tried as usual.

    It saves every ``interval`` seconds, or less often where the study has become so large that
    drawing would take more than a fiftieth of the time, and once more when ``optimize`` of a study
    of ours ends; after Optuna's own, call ``save``.

    Args:
        interval: Seconds between two savings; above 0.
        comm: The ranks of the job; ``None`` for ``MPI.COMM_WORLD`` under mpirun.

    Raises:
        ImportError: If plotly or optuna-dashboard is not installed.
        ValueError: If ``interval`` is not above 0.
    """

    def __init__(self, interval: float = 30.0, *, comm: MPI.Intracomm | None = None) -> None:
        if not interval > 0.0:
            raise ValueError(f"interval must be above 0, but got {interval}.")
        try:
            import optuna_dashboard  # noqa: F401
            import plotly  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "DashboardFigures needs plotly and optuna-dashboard: "
                "pip install 'optuna-propulate[visualization,dashboard]'"
            ) from error
        comm = communicator(comm)
        self._saves = comm is None or comm.rank == 0
        self._throttle = Throttle(interval, wait=interval)

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Save, if it is time."""
        if self._saves:
            with self._throttle.turn() as is_due:
                if is_due:
                    _save(study)

    def at_end(self, study: Study) -> None:
        """Save the last state."""
        if self._saves:
            self.save(study)

    def save(self, study: Study) -> None:
        """Save the figures and the note now; a study that they cannot show is left as it is."""
        with self._throttle.turn(now=True):
            _save(study)


def _save(study: Study) -> None:
    try:
        _save_all(study)
    except ValueError as error:
        _logger.debug("No figures for the dashboard: %s", error)
    except StorageInternalError as error:
        _logger.warning("The figures for the dashboard could not be saved: %s", error)


def _save_all(study: Study) -> None:
    import optuna_dashboard

    figures = {name: plot(study) for name, plot in FIGURES.items()}
    for name, figure in figures.items():
        optuna_dashboard.save_plotly_graph_object(study, figure, graph_object_id=name)
    optuna_dashboard.save_note(study, note(study))


def note(study: Study) -> str:
    """Return what the dashboard says of the study, in Markdown: its islands, and its command."""
    lines = [f"# {study.study_name}", ""]
    if isinstance(study.sampler, PropulateSampler):
        lines += [f"- {line}" for line in study.sampler.configuration.description]
    return "\n".join([*lines, f"- command: `{_command(sys.argv, _module())}`", ""])


def _command(arguments: Sequence[str], module: str | None) -> str:
    """Return the command line without any URL, as these may hold passwords.

    Args:
        arguments: The program, and what it was given; none if Python is embedded.
        module: What ``python -m`` runs, if it does.
    """
    program = Path(arguments[0]).name if arguments else ""
    if module is not None:
        program = f"python -m {module.removesuffix('.__main__')}"
    elif program.endswith(".py"):
        program = f"python {program}"
    return " ".join(
        f"{argument.split('://')[0]}://..." if "://" in argument else argument
        for argument in (program, *arguments[1:])
    )


def _module() -> str | None:
    specification = getattr(sys.modules.get("__main__"), "__spec__", None)
    return None if specification is None else str(specification.name)
