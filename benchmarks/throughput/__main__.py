"""Trials per second of whole jobs, beside Optuna's own storages, propulate and a bulk insert.

Every measurement starts new processes on a fresh database; its time ends when everything is
committed. In each round every contender takes its turn, so that whatever else the machine does
meets each of them alike; the tables show medians over the rounds, and so do the ratios of runs of
the same round. What the ratios need is measured in all rounds, the rest of the grid in
``--grid-rounds`` of them::

    python -m benchmarks.throughput --rounds 3 --propulate-python PATH
    python -m benchmarks.throughput --flat --memory

The column "end" tells how long the job went on after the last trial had ended, for the last flush
and for settling; "others" is the share of the machine that was taken by processes which the
benchmark has not started (a PostgreSQL server is one of them).

The package propulate pins an old numpy, hence an environment of its own, where mpi4py is, too. Its
long run is a whole one in the first round; later ones go on from there with the last evaluations.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import optuna

from benchmarks.throughput.contenders import OURS
from benchmarks.throughput.databases import postgresql_server
from benchmarks.throughput.machine import describe
from benchmarks.throughput.machine import find_mpiexec
from benchmarks.throughput.machine import wait_for_quiet
from benchmarks.throughput.plan import FULL
from benchmarks.throughput.plan import QUICK
from benchmarks.throughput.plan import grid
from benchmarks.throughput.plan import headline
from benchmarks.throughput.plan import lasting
from benchmarks.throughput.report import FIGURES
from benchmarks.throughput.report import Round
from benchmarks.throughput.report import by_contender
from benchmarks.throughput.report import print_figures
from benchmarks.throughput.report import print_memory
from benchmarks.throughput.report import print_problems
from benchmarks.throughput.report import print_runs
from benchmarks.throughput.runs import Bench
from benchmarks.throughput.runs import LeftOutError


if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence

    from benchmarks.throughput.contenders import Contender

PROPULATE_PYTHON = "PROPULATE_PYTHON"
"""The environment variable that names an interpreter which has the package propulate."""


def measure(
    bench: Bench, plans: Sequence[Sequence[Contender]], patience: float
) -> tuple[list[Round], list[str]]:
    """Measure each round's contenders in turn.

    Args:
        bench: What measures.
        plans: The contenders of each round.
        patience: How long to wait for a quiet machine before each run, in seconds.

    Returns:
        The runs of each round, and who was left out and why.
    """
    left_out: dict[str, None] = {}
    rounds: list[Round] = []
    for place, contenders in enumerate(plans, start=1):
        measured: Round = {}
        for contender in contenders:
            wait_for_quiet(patience)
            try:
                run = bench.measure(contender)
            except LeftOutError as reason:
                left_out[f"{contender.sampler} on {contender.storage}: {reason}"] = None
                continue
            measured[contender] = run
            result = f"{run.rate:9,.0f} trials/s" if run.seconds else f"{run.last or 0:9,.0f} µs"
            result = "failed" if run.problems else result
            _say(f"round {place}/{len(plans)}: {contender} {result}, others {run.elsewhere:.0%}")
        rounds.append(measured)
    return rounds, list(left_out)


def save(
    path: Path, machine: dict[str, object], rounds: list[Round], named: Mapping[str, Contender]
) -> None:
    """Write everything that was measured into a JSON file."""
    figures = []
    for figure in FIGURES:
        values = figure.values(rounds, named)
        median = statistics.median(values) if values else None
        figures.append(
            {"name": figure.name, "target": figure.target, "values": values, "median": median}
        )
    contenders = [
        {**asdict(contender), "runs": [asdict(run) for run in runs]}
        for contender, runs in by_contender(rounds).items()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine, "contenders": contenders, "figures": figures}
    path.write_text(json.dumps(content, indent=1))


def main() -> None:
    flags = _flags()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    budgets = QUICK if flags.quick else FULL
    if flags.flat or flags.memory:
        named = lasting(budgets, flat=flags.flat, memory=flags.memory)
        plans = [list(named.values())] * flags.rounds
    else:
        named = headline(budgets)
        plans = [
            [*named.values(), *(grid(budgets) if place < flags.grid_rounds else [])]
            for place in range(flags.rounds)
        ]
    machine = describe()
    print(", ".join(f"{name}: {value}" for name, value in machine.items()), flush=True)
    with tempfile.TemporaryDirectory(prefix="throughput-") as folder:
        with postgresql_server(Path(folder) / "postgresql") as server:
            bench = Bench(Path(folder), server, find_mpiexec(), flags.propulate_python)
            rounds, left_out = measure(bench, plans, flags.patience)
    print_runs(rounds)
    if flags.memory:
        print_memory(rounds)
    print()
    print_figures(rounds, named)
    for reason in left_out:
        print(f"left out: {reason}")
    print_problems(rounds)
    print(f"load average at the end: {[round(load, 2) for load in os.getloadavg()]}")
    save(flags.json, machine, rounds, named)
    ours = [runs for contender, runs in by_contender(rounds).items() if contender.sampler == OURS]
    if any(run.problems for runs in ours for run in runs):
        sys.exit("A run of ours went wrong.")


def _say(progress: str) -> None:
    print(progress, file=sys.stderr, flush=True)


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, help="(3; with --quick 1)")
    parser.add_argument("--grid-rounds", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a few trials, to see that it runs")
    parser.add_argument("--flat", action="store_true", help="only: does a trial's cost grow?")
    parser.add_argument("--memory", action="store_true", help="only: does a rank's memory grow?")
    parser.add_argument(
        "--propulate-python",
        default=os.environ.get(PROPULATE_PYTHON),
        help=f"an interpreter that has propulate and mpi4py (${PROPULATE_PYTHON})",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=0.0,
        help="seconds to wait before each run while others keep the machine busy (%(default)s)",
    )
    parser.add_argument(
        "--json", type=Path, default=Path(".benchmarks/throughput.json"), help="(%(default)s)"
    )
    flags = parser.parse_args()
    flags.rounds = flags.rounds or (1 if flags.quick else 3)
    if flags.rounds < 1:
        parser.error(f"--rounds must be at least 1, but got {flags.rounds}")
    if flags.propulate_python and not Path(flags.propulate_python).exists():
        flags.propulate_python = None
    return flags


if __name__ == "__main__":
    main()
