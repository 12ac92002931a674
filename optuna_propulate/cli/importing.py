"""``optuna-propulate import``: put in what a database did not take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

from optuna_propulate.cli.command import add_command
from optuna_propulate.cli.command import checked
from optuna_propulate.cli.command import refuse
from optuna_propulate.storages.writer.spill import import_trials


if TYPE_CHECKING:
    import argparse


def _run(given: argparse.Namespace) -> None:
    if not Path(given.file).is_file():
        refuse(f"there is no file {given.file}")
    n = checked(lambda: import_trials(given.file, given.storage), status=1)
    print(f"{n} trials were put into the database.")


def add_to(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = add_command(
        commands, "import", _run, "put in what a database did not take", name=False
    )
    parser.add_argument("file", help="the file that the job named")
