"""``optuna-propulate summary``: islands, best trials and rates."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

from optuna_propulate.cli.command import add_command
from optuna_propulate.cli.command import checked
from optuna_propulate.cli.command import loaded
from optuna_propulate.evolution.arguments import check_integer
from optuna_propulate.records.summary import summarize


if TYPE_CHECKING:
    import argparse

    import optuna


def _run(given: argparse.Namespace) -> None:
    checked(lambda: check_integer("--top", given.top, 1))
    show(loaded(given), given.top)


def show(study: optuna.Study, top: int = 1) -> None:
    """Print what ``IslandStudy.summary`` does, of any study."""
    print(checked(lambda: summarize(study, top), status=1), flush=True)


def add_to(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = add_command(commands, "summary", _run, "show islands, best trials and rates")
    parser.add_argument("--top", type=int, default=1, metavar="N", help="of each island (1)")
