"""``optuna-propulate plot``: a figure as an HTML file."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

from optuna_propulate import visualization
from optuna_propulate.cli.command import add_command
from optuna_propulate.cli.command import checked
from optuna_propulate.cli.command import loaded


if TYPE_CHECKING:
    import argparse


def _run(given: argparse.Namespace) -> None:
    study = loaded(given)
    draw = getattr(visualization, f"plot_{given.figure}")
    figure = checked(lambda: draw(study), status=1)
    output = given.output or f"{given.figure}.html"
    figure.write_html(output, include_plotlyjs=True)
    print(output)


def add_to(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = add_command(commands, "plot", _run, "draw islands, workers, operators or a lineage")
    figures = [name.removeprefix("plot_") for name in visualization.__all__]
    parser.add_argument("--figure", choices=figures, default=figures[0], help="(%(default)s)")
    parser.add_argument("--output", help="an HTML file (named like the figure)")
