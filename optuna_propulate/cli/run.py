"""``optuna-propulate run``: search for an objective that a file or module has."""

from __future__ import annotations

import json
import signal
import sys
from contextlib import nullcontext
from contextlib import suppress
from pkgutil import resolve_name
from typing import TYPE_CHECKING
from typing import Any

import optuna
from optuna.exceptions import OptunaError

from optuna_propulate.cli.command import add_command
from optuna_propulate.cli.command import checked
from optuna_propulate.cli.command import refuse
from optuna_propulate.cli.objective import load_objective
from optuna_propulate.cli.summary import show
from optuna_propulate.cli.workers import start_workers
from optuna_propulate.evolution.arguments import check_integer
from optuna_propulate.islands.migration import Pollination
from optuna_propulate.optimize.budget import check_limits
from optuna_propulate.optimize.goal import check_goal
from optuna_propulate.parallel.launch import communicator
from optuna_propulate.sampler import PropulateSampler
from optuna_propulate.storages.batched import BatchedRDBStorage
from optuna_propulate.storages.sql.open import check_usable
from optuna_propulate.study import create_study
from optuna_propulate.visualization.dashboard import DashboardFigures


if TYPE_CHECKING:
    import argparse

    from optuna.pruners import BasePruner


_TOPOLOGY_HELP = (
    "which islands send to which: fully_connected (the default), ring, two_way_ring, star, torus, "
    "unconnected, or how many individuals, as [[0, 1], [1, 0]]"
)
_MIGRATION_HELP = "of sending copies of an island's best to others after a trial (0.1)"
_SAMPLER_OPTIONS = ("population_size", "islands", "topology", "island", "seed")


def _run(given: argparse.Namespace) -> None:
    ends = (
        given.n_trials, given.n_trials_total, given.timeout, given.target, given.patience,
    )  # fmt: skip
    if all(end is None for end in ends):
        refuse(
            "give --n-trials, --n-trials-total, --timeout, --target or --patience: else the "
            "search never ends"
        )
    checked(
        lambda: check_limits(given.n_trials, given.timeout, given.stop_grace, given.n_trials_total)
    )
    checked(lambda: check_goal(given.target, given.patience))
    checked(lambda: check_integer("--retry", given.retry, 0))
    checked(lambda: check_integer("--workers", given.workers, 1))
    if given.workers > 1:
        start_workers(given.workers, sys.argv[1:])
    checked(lambda: check_usable(given.storage))
    objective = checked(lambda: load_objective(given.objective), (ImportError,))
    catch = checked(lambda: [_exception(name) for name in given.catch])
    pruner = checked(lambda: _pruner(given))
    sampler = checked(lambda: _sampler(given))
    figures = checked(DashboardFigures, (ImportError,)) if given.dashboard else None
    study = checked(
        lambda: create_study(
            _storage(given),
            study_name=given.study_name,
            direction=given.direction,
            sampler=sampler,
            pruner=pruner,
            load_if_exists=given.study_name is not None,
        ),
        (OptunaError, ValueError),  # which every rank raises; another error has to end them all
    )
    comm = communicator(None)
    is_root = comm is None or comm.rank == 0
    status: Any = 0
    try:
        study.optimize(
            objective,
            n_trials=given.n_trials,
            n_trials_total=given.n_trials_total,
            timeout=given.timeout,
            target=given.target,
            patience=given.patience,
            catch=catch,
            callbacks=[figures] if figures is not None and is_root else [],
            show_progress_bar=True,
            stop_grace=given.stop_grace,
        )
    except (KeyboardInterrupt, SystemExit) as end:  # a signal, alone or of a job
        status = end.code if isinstance(end, SystemExit) else 128 + signal.SIGINT
    with suppress(SystemExit) if status else nullcontext():
        if is_root:
            show(study)
    if status:
        raise SystemExit(status)


def _sampler(given: argparse.Namespace) -> PropulateSampler:
    options: dict[str, Any] = dict(_option(text) for text in given.sampler_option)
    for name in options:
        if name not in _SAMPLER_OPTIONS:
            raise ValueError(
                f"PropulateSampler has no option {name!r} here; --sampler-option takes "
                f"{', '.join(_SAMPLER_OPTIONS)}"
            )
    named = {
        "islands": None if given.islands is None else _value(given.islands),
        "topology": None if given.topology is None else _value(given.topology),
        "seed": given.seed,
    }
    if given.migration_probability is not None:
        named["migration"] = Pollination(probability=given.migration_probability)
    options.update((name, value) for name, value in named.items() if value is not None)
    return PropulateSampler(**options)


def _storage(given: argparse.Namespace) -> str | BatchedRDBStorage:
    if not given.retry:
        return str(given.storage)
    return BatchedRDBStorage(given.storage, comm=communicator(None), retry=given.retry)


def _pruner(given: argparse.Namespace) -> BasePruner | None:
    """Return a pruner of Optuna's, by the name of its class; ``None`` for Optuna's default."""
    options = dict(_option(text) for text in given.pruner_option)
    if given.pruner is None:
        if options:
            raise ValueError("--pruner-option needs --pruner")
        return None
    names = [name for name in optuna.pruners.__all__ if name != "BasePruner"]
    if given.pruner not in names:
        raise ValueError(f"--pruner must be one of {', '.join(names)}, but got {given.pruner}")
    pruner: BasePruner = getattr(optuna.pruners, given.pruner)(**options)
    return pruner


def _exception(name: str) -> type[Exception]:
    """Return an exception by its name: a built-in one, or ``package.module.Name``."""
    found = None
    try:
        found = resolve_name(name if "." in name else f"builtins:{name}")
    except ImportError as error:
        raise ValueError(f"--catch {name}: {error}") from error
    except (AttributeError, ValueError):
        pass
    if not (isinstance(found, type) and issubclass(found, Exception)):
        raise ValueError(f"--catch takes the name of an exception, but got {name!r}")
    return found


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"options are given as KEY=VALUE, but got {text!r}")
    return name, _value(value)


def _value(text: str) -> Any:
    """Return what a text means: JSON, or else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def add_to(commands: Any) -> None:
    """Add the command to those of the parser."""
    text = (
        "search until one of --n-trials, --n-trials-total, --timeout, --target and --patience; "
        "give at least one"
    )
    parser = add_command(commands, "run", _run, text)
    parser.set_defaults(on_every_rank=True)
    parser.add_argument("objective", help="FILE.py:function or package.module:function")
    parser.add_argument("--direction", choices=["minimize", "maximize"], help="(minimize)")
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="ranks started on this machine (1)"
    )
    parser.add_argument("--n-trials", type=int, metavar="N", help="trials of all ranks together")
    parser.add_argument(
        "--n-trials-total", type=int, metavar="N",
        help="trials of the study, over all runs and all jobs that work on it",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=float, metavar="S", help="no trial starts after S seconds"
    )
    parser.add_argument(
        "--target", type=float, metavar="VALUE", help="a value that is good enough"
    )
    parser.add_argument(
        "--patience", type=int, metavar="N", help="end after N trials in a row that are no better"
    )
    parser.add_argument(
        "--stop-grace",
        type=float,
        metavar="S",
        help="after --timeout or a signal, trials under way have S seconds (as long as they take)",
    )
    parser.add_argument(
        "--catch",
        action="append",
        default=[],
        metavar="EXCEPTION",
        help="fails a trial instead of the search, as torch.OutOfMemoryError; as many as you like",
    )
    parser.add_argument(
        "--retry", type=int, default=0, metavar="N", help="run what a killed job left again (0)"
    )
    parser.add_argument("--pruner", metavar="CLASS", help="of optuna.pruners (MedianPruner)")
    parser.add_argument(
        "--pruner-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an argument of the pruner; may be given several times",
    )
    parser.add_argument(
        "--islands", help="how many, how many ranks each has as [3, 5], or node (1)"
    )
    parser.add_argument("--topology", help=_TOPOLOGY_HELP)
    parser.add_argument("--migration-probability", type=float, metavar="P", help=_MIGRATION_HELP)
    parser.add_argument("--seed", type=int, help="of the random numbers of all ranks")
    parser.add_argument(
        "--dashboard", action="store_true", help="save figures and a note for optuna-dashboard"
    )
    parser.add_argument(
        "--sampler-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another argument of PropulateSampler; may be given several times",
    )
