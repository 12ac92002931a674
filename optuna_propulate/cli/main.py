"""The command line: ``optuna-propulate run``, ``summary``, ``plot`` and ``import``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import optuna

from optuna_propulate.cli import importing
from optuna_propulate.cli import plot
from optuna_propulate.cli import run
from optuna_propulate.cli import summary
from optuna_propulate.cli.command import EXIT_CODES
from optuna_propulate.cli.command import Parser
from optuna_propulate.parallel.launch import communicator
from optuna_propulate.version import __version__


if TYPE_CHECKING:
    from collections.abc import Sequence


_DESCRIPTION = """\
Search with Propulate's asynchronous island evolution, alone or under mpirun.

    optuna-propulate run tune.py:objective --n-trials 1000
    mpirun -n 64 optuna-propulate run tune.py:objective --n-trials 100000 --islands 4
    optuna-propulate summary --study-name mine
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process with the status that ``--help`` tells of."""
    given = parser().parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.INFO if given.verbose else optuna.logging.WARNING)
    optuna.logging.get_logger("optuna.optuna_propulate").setLevel(optuna.logging.INFO)  # ours
    comm = communicator(None)
    if given.on_every_rank or comm is None or comm.rank == 0:
        given.command(given)


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands, which ``shtab`` makes a shell's completion from."""
    parser = Parser(
        prog="optuna-propulate",
        description=_DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--verbose", action="store_true", help="log each trial, as Optuna does")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    for command in (run, summary, plot, importing):
        command.add_to(commands)
    return parser
