"""``optuna-propulate summary``: islands, best trials and rates."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING
from typing import Any

from optuna_propulate.cli.command import add_command
from optuna_propulate.cli.command import checked
from optuna_propulate.cli.command import loaded
from optuna_propulate.evolution.arguments import check_integer
from optuna_propulate.records.summary import summary_of
from optuna_propulate.storages.outlines import outlined_trials


if TYPE_CHECKING:
    import argparse

    import optuna


def _run(given: argparse.Namespace) -> None:
    checked(lambda: check_integer("--top", given.top, 1))
    show(loaded(given), given.top)


def show(study: optuna.Study, top: int = 1) -> None:
    """Print how many trials there are, how fast they came, and the best of each island."""
    trials = checked(lambda: outlined_trials(study), status=1)
    states = Counter(trial.state.name.lower() for trial in trials)
    counts = ", ".join(f"{n} {state}" for state, n in sorted(states.items())) or "none yet"
    print(f"study {study.study_name}: {len(trials)} trials ({counts})")
    starts = [trial.datetime_start for trial in trials if trial.datetime_start]
    ends = [trial.datetime_complete for trial in trials if trial.datetime_complete]
    if starts and ends and (seconds := (max(ends) - min(starts)).total_seconds()) > 0:
        print(f"{len(ends) / seconds:.3g} trials/s from the first start to the last end")
    print(checked(lambda: summary_of(study, trials, top), status=1), flush=True)


def add_to(commands: Any) -> None:
    """Add the command to those of the parser."""
    parser = add_command(commands, "summary", _run, "show islands, best trials and rates")
    parser.add_argument("--top", type=int, default=1, metavar="N", help="of each island (1)")
