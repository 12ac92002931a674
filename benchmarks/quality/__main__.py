"""How good the trials are: PropulateSampler beside Optuna's samplers and Propulate.

Trials are asked and told by workers on a virtual clock; evaluation times are log-normal, and on
one task depend on the parameters. Every run of a task has a seed, the same for all samplers: it
moves the optimum. By default a gate of 8 workers and 5 seeds, which ends with status 1 where
PropulateSampler falls short of what it is to reach; the figures in ``results/quality.md`` are of::

    python -m benchmarks.quality --workers 1 8 64 --seeds 20 --kinds bbob table

Propulate takes part where the environment variable ``PROPULATE_PYTHON`` names an interpreter that
has it, such as that of ``tox -e reference``. Runs are kept in ``--runs``, and not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import as_completed
from pathlib import Path
from typing import TYPE_CHECKING

import benchmarks.quality.ours as quality_ours
import benchmarks.quality.runs as quality_runs
from benchmarks.quality.bbob import DIMENSIONS
from benchmarks.quality.contenders import OPTUNA
from benchmarks.quality.contenders import search_optuna
from benchmarks.quality.peers import PEERS
from benchmarks.quality.peers import search_peer
from benchmarks.quality.report import Report
from benchmarks.quality.tasks import task_by_name
from benchmarks.quality.tasks import tasks


if TYPE_CHECKING:
    from benchmarks.quality.runs import Key
    from benchmarks.quality.runs import Record

ISLANDS = "PropulateSampler, 4 islands"
OURS = {"PropulateSampler": quality_ours.DEFAULT, ISLANDS: quality_ours.Variant(n_islands=4)}
VARIANTS = {**OURS, **quality_ours.ABLATION}
PROPULATE = "Propulate"
SLOW = ("GP", "AutoSampler", "SMAC3", "TPE univariate")
"""Samplers that take part only if named, for the time that they take."""
KINDS = ("function", "mixed", "table", "bbob")


def run(key: Key) -> list[Record]:
    """Run one sampler once."""
    name, sampler, n_workers, seed, n_trials = key
    task = task_by_name(name).of(n_trials)
    began = time.process_time()
    if sampler in VARIANTS:
        losses = quality_ours.search(task, n_workers, seed, VARIANTS[sampler])
    elif sampler in PEERS:
        losses = search_peer(task, sampler, n_workers, seed)
    else:
        losses = search_optuna(task, sampler, n_workers, seed)
    cpu = (time.process_time() - began) / n_trials
    return [quality_runs.Record(*key, quality_runs.curve(losses), cpu)]


def run_propulate(keys: list[Key]) -> list[Record]:
    """Run the package propulate in the interpreter that has it."""
    process = subprocess.run(
        [os.environ["PROPULATE_PYTHON"], "-m", "benchmarks.quality.propulate"],
        cwd=Path(__file__).parent.parent.parent,
        input=json.dumps(keys),
        capture_output=True,
        text=True,
        env={**os.environ, "MPI4PY_RC_INITIALIZE": "0"},
        check=False,
    )
    if process.returncode:
        sys.exit(f"Propulate failed:\n{process.stderr}")
    return [quality_runs.Record(**record) for record in json.loads(process.stdout)]


def run_all(keys: list[Key], runs: Path, n_processes: int | None) -> None:
    """Run what the file does not keep, and keep it there."""
    of_propulate = [key for key in keys if key[1] == PROPULATE]
    chunks = [of_propulate[start::8] for start in range(min(8, len(of_propulate)))]
    with ProcessPoolExecutor(n_processes) as pool:
        futures = [pool.submit(run, key) for key in keys if key[1] != PROPULATE]
        futures += [pool.submit(run_propulate, chunk) for chunk in chunks]
        for n_done, future in enumerate(as_completed(futures), 1):
            quality_runs.append(runs, future.result())
            if n_done % 100 == 0:
                print(f"{n_done} of {len(futures)} tasks done", flush=True)


def main() -> None:
    flags = _flags()
    samplers = flags.samplers or _samplers(ablation=flags.ablation)
    shown = [
        task
        for task in tasks()
        if task.kind in flags.kinds
        and (task.kind != "bbob" or int(task.name.split()[1][:-1]) in flags.dimensions)
    ]
    keys = [
        (task.name, sampler, n_workers, seed, min(task.n_trials, flags.trials or task.n_trials))
        for seed in range(flags.seeds)
        for n_workers in flags.workers
        for task in shown
        for sampler in samplers
        if sampler != ISLANDS or n_workers >= 16
    ]
    flags.runs.parent.mkdir(parents=True, exist_ok=True)
    known = quality_runs.read(flags.runs)
    run_all([key for key in keys if key not in known], flags.runs, flags.processes)
    known = quality_runs.read(flags.runs)
    report = Report([known[key] for key in keys])
    print(report.text())
    if flags.results:
        report.save(flags.results, "ablation" if flags.ablation else "quality")
    if flags.results and not flags.ablation:
        report.draw(flags.results)
    if report.shortfalls and not flags.ablation:
        sys.exit("Falls short: " + "; ".join(report.shortfalls))


def _samplers(*, ablation: bool) -> list[str]:
    if ablation:
        return ["PropulateSampler", *quality_ours.ABLATION]
    others = [name for name in OPTUNA if name not in SLOW]
    others += [name for name in PEERS if name not in SLOW]
    return [*OURS, *others, *([PROPULATE] if "PROPULATE_PYTHON" in os.environ else [])]


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[8], help="(%(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="how many (%(default)s)")
    parser.add_argument("--samplers", nargs="+", choices=[*VARIANTS, *OPTUNA, *PEERS, PROPULATE])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument(
        "--dimensions", type=int, nargs="+", choices=DIMENSIONS, default=[5], help="of BBOB (5)"
    )
    parser.add_argument("--trials", type=int, help="at most so many of each task")
    parser.add_argument("--ablation", action="store_true", help="ours with something changed")
    parser.add_argument("--processes", type=int, help="(one for each core)")
    parser.add_argument("--runs", type=Path, default=Path("build/quality.jsonl"))
    parser.add_argument("--results", type=Path, help="where tables and pictures go")
    return parser.parse_args()


if __name__ == "__main__":
    main()
