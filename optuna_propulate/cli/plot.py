"""``optuna-propulate plot``: a figure as a page or an image."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

from optuna_propulate import visualization
from optuna_propulate.cli.command import add_command
from optuna_propulate.cli.command import checked
from optuna_propulate.cli.command import loaded
from optuna_propulate.cli.command import refuse


if TYPE_CHECKING:
    import argparse

_KINDS = (".html", ".png", ".svg", ".pdf")


def _run(given: argparse.Namespace) -> None:
    output = Path(given.output or f"{given.figure}.html")
    if output.suffix not in _KINDS:
        refuse(f"--output must end in {', '.join(_KINDS)}, but got {given.output}")
    if output.suffix != ".html" and find_spec("kaleido") is None:
        refuse(f"{output.suffix} needs kaleido (pip install kaleido); .html needs nothing")
    if not output.parent.is_dir():
        refuse(f"there is no folder {output.parent}")
    study = loaded(given)
    draw = getattr(visualization, f"plot_{given.figure}")
    figure = checked(lambda: draw(study), status=1)
    if output.suffix == ".html":
        checked(lambda: figure.write_html(output, include_plotlyjs=True))
    else:
        checked(lambda: figure.write_image(output), (OSError, RuntimeError, ValueError), status=1)
    print(output)


def add_to(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = add_command(commands, "plot", _run, "draw islands, workers, operators or a lineage")
    figures = [name.removeprefix("plot_") for name in visualization.__all__]
    parser.add_argument("--figure", choices=figures, default=figures[0], help="(%(default)s)")
    parser.add_argument("--output", help="a page, or an image (the figure's name, .html)")
