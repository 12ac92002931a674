"""The command line: ``optuna-propulate run``, ``summary``, ``plot`` and ``import``."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import TypeVar
from typing import cast

import optuna
from optuna.exceptions import OptunaError

from optuna_propulate import visualization
from optuna_propulate.dashboard import DashboardFigures
from optuna_propulate.exchange.launcher import communicator
from optuna_propulate.islands.history import summary_of
from optuna_propulate.islands.migration import Pollination
from optuna_propulate.loop import best_so_far
from optuna_propulate.pace import Pace
from optuna_propulate.sampler import PropulateSampler
from optuna_propulate.storages.outlines import outlined_trials
from optuna_propulate.storages.rdb import open_rdb
from optuna_propulate.storages.spill import import_trials
from optuna_propulate.study import DEFAULT_STORAGE
from optuna_propulate.study import create_study
from optuna_propulate.version import __version__


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence

    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from optuna_propulate.loop import Objective

T = TypeVar("T")

_DESCRIPTION = """\
Search with Propulate's asynchronous island evolution, alone or under mpirun.

    optuna-propulate run tune.py:objective --n-trials 1000
    mpirun -n 64 optuna-propulate run tune.py:objective --n-trials 100000 --islands 4
    optuna-propulate summary --study-name mine
"""
_EXIT_CODES = """\
exit status:
  0        done
  1        the search or the command failed; the reason is on the standard error
  2        the command line is not right
  128 + n  signal n ended the search in order, with everything committed (143: SIGTERM)
"""
_MISTAKES = (ImportError, KeyError, OSError, TypeError, ValueError, OptunaError)
_LINE_EVERY = 10.0  # in seconds, where the standard error is no terminal


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process with the status that ``--help`` tells of."""
    given = _parser().parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.INFO if given.verbose else optuna.logging.WARNING)
    given.command(given)


def _run(given: argparse.Namespace) -> None:
    if given.n_trials is None and given.timeout is None:
        _refuse("give --n-trials, --timeout or both, else the search never ends")
    objective = _checked(lambda: load_objective(given.objective), (ImportError,))
    sampler = _checked(lambda: _sampler(given))
    figures = _checked(DashboardFigures, (ImportError,)) if given.dashboard else None
    study = _checked(
        lambda: create_study(
            given.storage,
            study_name=given.study_name,
            direction=given.direction,
            sampler=sampler,
            load_if_exists=given.study_name is not None,
        ),
        (OptunaError, ValueError),  # which every rank raises; another error has to end them all
        status=1,
    )
    comm = communicator(None)
    is_root = comm is None or comm.rank == 0
    is_terminal = sys.stderr.isatty()
    callbacks: list[Callable[[Study, FrozenTrial], None]] = []
    if is_root and not is_terminal:
        callbacks.append(Lines())
    if figures is not None and is_root:
        callbacks.append(figures)
    study.optimize(
        objective,
        n_trials=given.n_trials,
        timeout=given.timeout,
        callbacks=callbacks,
        show_progress_bar=is_terminal,
        stop_grace=given.stop_grace,
    )
    if is_root:
        if figures is not None:
            figures.save(study)
        _show(study)


def _summary(given: argparse.Namespace) -> None:
    _show(_loaded(given), given.top)


def _plot(given: argparse.Namespace) -> None:
    study = _loaded(given)
    draw = getattr(visualization, f"plot_{given.figure}")
    figure = _checked(lambda: draw(study), status=1)
    output = given.output or f"{given.figure}.html"
    figure.write_html(output, include_plotlyjs=True)
    print(output)


def _import(given: argparse.Namespace) -> None:
    n = _checked(lambda: import_trials(given.file, given.storage), status=1)
    print(f"{n} trials were put into the database.")


def load_objective(place: str) -> Objective:
    """Return the function that a command line names.

    Args:
        place: ``FILE.py:function`` or ``package.module:function``. A module is looked for in the
            working folder first, and what a file imports in the file's own.

    Raises:
        ImportError: If there is no such file, module or function.
    """
    source, _, name = place.rpartition(":")
    if not source or not name:
        raise ImportError(f"{place!r} is neither FILE.py:function nor package.module:function")
    if source.endswith(".py"):
        path = Path(source)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None or not path.exists():
            raise ImportError(f"there is no file {source}")
        sys.path.insert(0, str(path.parent.resolve()))
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    else:
        sys.path.insert(0, "")
        module = importlib.import_module(source)
    function = getattr(module, name, None)
    if not callable(function):
        raise ImportError(f"{source} has no function {name}")
    return cast("Objective", function)


class Lines:
    """Prints, now and then, how far the search is: a callback for where there is no terminal.

    It counts by trial numbers, from the first trial that it sees: nothing is read for that.
    """

    def __init__(self) -> None:
        self._first: int | None = None
        self._begun = time.monotonic()
        self._pace = Pace(_LINE_EVERY, wait=_LINE_EVERY)

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._first = trial.number if self._first is None else self._first
        with self._pace.turn() as is_due:
            if is_due:
                n = trial.number + 1 - self._first
                rate = n / (time.monotonic() - self._begun)
                line = f"{n} trials, {best_so_far(study)}, {rate:.3g} trials/s"
                print(line, file=sys.stderr, flush=True)


def _show(study: optuna.Study, top: int = 1) -> None:
    trials = _checked(lambda: outlined_trials(study), status=1)
    states = Counter(trial.state.name.lower() for trial in trials)
    counts = ", ".join(f"{n} {state}" for state, n in sorted(states.items())) or "none yet"
    print(f"study {study.study_name}: {len(trials)} trials ({counts})")
    starts = [trial.datetime_start for trial in trials if trial.datetime_start]
    ends = [trial.datetime_complete for trial in trials if trial.datetime_complete]
    if starts and ends and (seconds := (max(ends) - min(starts)).total_seconds()) > 0:
        print(f"{len(ends) / seconds:.3g} trials/s from the first start to the last end")
    print(_checked(lambda: summary_of(study, trials, top), status=1), flush=True)


def _sampler(given: argparse.Namespace) -> PropulateSampler:
    options: dict[str, Any] = dict(_option(text) for text in given.sampler_option)
    named = {
        "islands": None if given.islands is None else _value(given.islands),
        "topology": None if given.topology is None else _value(given.topology),
        "seed": given.seed,
    }
    if given.migration_probability is not None:
        named["migration"] = Pollination(probability=given.migration_probability)
    options.update((name, value) for name, value in named.items() if value is not None)
    return PropulateSampler(**options)


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--sampler-option takes KEY=VALUE, but got {text!r}")
    return name, _value(value)


def _value(text: str) -> Any:
    """Return what a text means: JSON, or else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _loaded(given: argparse.Namespace) -> optuna.Study:
    def load() -> optuna.Study:
        return optuna.load_study(study_name=given.study_name, storage=open_rdb(given.storage))

    return _checked(load, status=1)


def _checked(
    step: Callable[[], T], kinds: tuple[type[Exception], ...] = _MISTAKES, *, status: int = 2
) -> T:
    """Return what a step returns; if it raises one of these, say why in one line, and end."""
    try:
        return step()
    except kinds as error:
        reason = error.args[0] if isinstance(error, KeyError) and error.args else error
        _refuse(str(reason), status)
        raise


def _refuse(reason: str, status: int = 2) -> None:
    line = " ".join(reason.split())  # a driver's reason may have several lines
    print(f"optuna-propulate: {line}", file=sys.stderr, flush=True)
    raise SystemExit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="optuna-propulate",
        description=_DESCRIPTION,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--verbose", action="store_true", help="log each trial, as Optuna does")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = _command(commands, "run", _run, "search; with --study-name, go on where it ended")
    run.add_argument("objective", help="FILE.py:function or package.module:function")
    run.add_argument("--direction", choices=["minimize", "maximize"], help="(minimize)")
    run.add_argument("--n-trials", type=int, metavar="N", help="of all ranks together")
    run.add_argument("--timeout", type=float, metavar="S", help="no trial starts after S seconds")
    run.add_argument("--stop-grace", type=float, metavar="S", help="then trials have S seconds")
    run.add_argument("--islands", help="how many, their sizes as [3, 5], or node")
    run.add_argument("--topology", help="ring, star, ..., or a matrix as [[0, 1], [1, 0]]")
    run.add_argument("--migration-probability", type=float, metavar="P", help="of copies")
    run.add_argument("--seed", type=int)
    run.add_argument(
        "--dashboard", action="store_true", help="save figures and a note for optuna-dashboard"
    )
    run.add_argument(
        "--sampler-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other argument of PropulateSampler; may be given several times",
    )

    summary = _command(commands, "summary", _summary, "show islands, best trials and rates")
    summary.add_argument("--top", type=int, default=1, metavar="N", help="of each island (1)")

    plot = _command(commands, "plot", _plot, "draw islands, workers, operators or a lineage")
    figures = [name.removeprefix("plot_") for name in visualization.__all__]
    plot.add_argument("--figure", choices=figures, default=figures[0], help="(%(default)s)")
    plot.add_argument("--output", help="an HTML file (named like the figure)")

    into = _command(commands, "import", _import, "put in what a database did not take", name=False)
    into.add_argument("file", help="the file that the job named")
    return parser


def _command(
    commands: Any,
    word: str,
    command: Callable[[argparse.Namespace], None],
    text: str,
    *,
    name: bool = True,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        word, help=text, description=text, epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(command=command)
    parser.add_argument("--storage", default=DEFAULT_STORAGE, metavar="URL", help="(%(default)s)")
    if name:
        parser.add_argument("--study-name", metavar="NAME")
    return parser
