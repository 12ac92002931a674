"""How well jobs that share a study search: four of one process, beside one of four ranks.

And beside four processes of plain Optuna with TPE. All are real programs on one SQLite file; each
trial sleeps for a random time, so that its order is the database's. Prints the mean rank of the
best value after 50, 100 and 200 trials that have ended, and better : worse by task and seed::

    python -m benchmarks.jobs_quality --seeds 2
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import accumulate
from pathlib import Path
from typing import Any

import optuna
from optuna.study import MaxTrialsCallback

import optuna_propulate
from benchmarks.quality.contenders import suggest_of
from benchmarks.quality.tasks import task_by_name
from benchmarks.quality.tasks import tasks
from benchmarks.throughput.machine import find_mpiexec
from benchmarks.throughput.processes import wait_for_all


CONTENDERS = {"4 jobs": (4, 0), "1 job of 4 ranks": (1, 4), "4 jobs, TPE": (4, 0)}
CHECKPOINTS = (50, 100, 200)
STUDY = "jobs"
MEAN_TIME = 0.1  # in seconds, of a trial
_PATIENCE = 300.0  # in seconds, of a run


def work(contender: str, url: str, folder: Path, task: str, seed: int, place: int) -> None:
    """Be one process of a contender."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    evaluate, times = task_by_name(task).objective(seed), random.Random(f"{seed} {place}")

    def objective(trial: optuna.Trial) -> float:
        loss, _ = evaluate(suggest_of(trial))
        time.sleep(times.expovariate(1 / MEAN_TIME))
        return loss

    if contender.endswith("TPE"):
        study: Any = optuna.load_study(study_name=STUDY, storage=url)
        wait_for_all(folder, place)
        study.optimize(objective, callbacks=[MaxTrialsCallback(CHECKPOINTS[-1])])
        return
    study = optuna_propulate.load_study(url, study_name=STUDY)
    if study.is_root:
        wait_for_all(folder, place)
    study.optimize(objective, n_trials_total=CHECKPOINTS[-1])


def run(contender: str, task: str, seed: int) -> list[float]:
    """Return the best value at each checkpoint."""
    n_jobs, n_ranks = CONTENDERS[contender]
    launcher = [str(find_mpiexec()), "-n", str(n_ranks)] if n_ranks else []
    with tempfile.TemporaryDirectory(prefix="jobs-quality-") as top:
        folder, url = Path(top), f"sqlite:///{top}/study.db"
        optuna.create_study(storage=url, study_name=STUDY)
        command = [*launcher, sys.executable, "-m", "benchmarks.jobs_quality", "--work", contender]
        command += ["--url", url, "--folder", top, "--task", task, "--seed", str(seed), "--place"]
        jobs = [
            subprocess.Popen([*command, str(i)], env={**os.environ, "OMP_NUM_THREADS": "1"})
            for i in range(n_jobs)
        ]
        try:
            deadline = time.monotonic() + _PATIENCE
            while sum(1 for _ in folder.glob("ready*")) < n_jobs:
                if time.monotonic() > deadline or any(job.poll() for job in jobs):
                    raise RuntimeError(f"{contender} does not get ready.")
                time.sleep(0.01)
            (folder / "go").touch()
            if any(job.wait(_PATIENCE) for job in jobs):
                raise RuntimeError(f"{contender}: a job has failed.")
        finally:
            for job in jobs:
                job.kill()
                job.wait()
        trials = optuna.load_study(study_name=STUDY, storage=url).trials
    ended = [
        (trial.datetime_complete, trial.value)
        for trial in trials
        if trial.datetime_complete is not None and trial.value is not None
    ]
    best = list(accumulate((value for _, value in sorted(ended)), min))
    return [best[n - 1] for n in CHECKPOINTS]


def main() -> None:
    flags = _flags()
    if flags.work:
        work(flags.work, flags.url, Path(flags.folder), flags.task, flags.seed, flags.place)
        return
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names = flags.tasks or [task.name for task in tasks() if task.name.endswith(" 5D")]
    results: list[dict[str, list[float]]] = []
    for seed in range(flags.seeds):
        for task in names:
            results.append({contender: run(contender, task, seed) for contender in CONTENDERS})
            shown = ", ".join(f"{name} {best[-1]:.4g}" for name, best in results[-1].items())
            print(f"seed {seed}, {task}: {shown}", flush=True)
    first = next(iter(CONTENDERS))
    print(
        f"\n| trials | {' | '.join(CONTENDERS)} | {first} better : worse |\n|---|---|---|---|---|"
    )
    for place, n_trials in enumerate(CHECKPOINTS):
        best = [{name: each[name][place] for name in CONTENDERS} for each in results]
        ranks = [statistics.mean(_rank(one, name) for one in best) for name in CONTENDERS]
        beside = [
            f"{sum(one[first] < one[name] for one in best)} : "
            f"{sum(one[first] > one[name] for one in best)}"
            for name in list(CONTENDERS)[1:]
        ]
        print(f"| {n_trials} | {' | '.join(f'{rank:.2f}' for rank in ranks)} | "
              f"{', '.join(beside)} |")  # fmt: skip


def _rank(values: dict[str, float], name: str) -> float:
    """Return a contender's place among the values, from 1; the mean of those that are equal."""
    value = values[name]
    lower = sum(other < value for other in values.values())
    return lower + (sum(other == value for other in values.values()) + 1) / 2


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--tasks", nargs="*", help="by name; those of BBOB in 5 dimensions")
    for name in ("--work", "--url", "--folder", "--task"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    for name in ("--place", "--seed"):
        parser.add_argument(name, type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
