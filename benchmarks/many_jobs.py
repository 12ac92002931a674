"""Trials a second of many jobs that share one study, beside as many processes of plain Optuna.

Each job is a program that was started by itself: a plain process, or ``mpiexec`` with some ranks.
All run for the same time from a common start; what counts is what is committed at the end, by the
time until the last of them had ended. A third client reads the numbers meanwhile, again and again,
which must be dense each time. In each round every contender takes its turn::

    python -m benchmarks.many_jobs --rounds 3 --databases SQLite PostgreSQL
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.samplers import RandomSampler

import optuna_propulate
from benchmarks.throughput.databases import POSTGRESQL
from benchmarks.throughput.databases import SQLITE
from benchmarks.throughput.databases import fresh_database
from benchmarks.throughput.databases import postgresql_server
from benchmarks.throughput.machine import find_mpiexec
from benchmarks.throughput.processes import sphere
from benchmarks.throughput.processes import wait_for_all


STUDY = "many"
_PATIENCE = 180.0  # in seconds, until all jobs of a run are ready, or have ended
_LOOK_EVERY = 0.2  # in seconds, whether the numbers are dense


@dataclass(frozen=True)
class Contender:
    """Jobs that work on one study at the same time.

    Args:
        kind: ``"ours"``, or ``"plain"`` for Optuna's own storage.
        n_jobs: How many jobs.
        n_ranks: How many MPI ranks each has; 0 for a plain process.
    """

    kind: str
    n_jobs: int
    n_ranks: int = 0

    def __str__(self) -> str:
        ranks = f" of {self.n_ranks} ranks" if self.n_ranks else ""
        return f"{self.kind}, {self.n_jobs} job{'s' * (self.n_jobs != 1)}{ranks}"

    @property
    def beside(self) -> Contender:
        """The processes of plain Optuna that this is compared with."""
        return Contender("plain", self.n_jobs * max(1, self.n_ranks))


def work(kind: str, url: str, folder: Path, place: int, seconds: float) -> None:
    """Be one job: open the study, wait for the others, and run trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if kind == "plain":
        study: Any = optuna.load_study(study_name=STUDY, storage=url, sampler=RandomSampler())
    else:
        study = optuna_propulate.load_study(url, study_name=STUDY)
        study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)  # so that all have joined
    if kind == "plain" or study.is_root:
        wait_for_all(folder, place)
    study.optimize(sphere(2), timeout=seconds)


def run(contender: Contender, url: str, folder: Path, seconds: float) -> tuple[float, int]:
    """Measure a contender on an empty database.

    Returns:
        Complete trials a second; how often a third client has read the numbers.
    """
    optuna.create_study(storage=url, study_name=STUDY)
    launcher = [str(find_mpiexec()), "-n", str(contender.n_ranks)] if contender.n_ranks else []
    jobs = [
        subprocess.Popen(
            [*launcher, sys.executable, "-m", "benchmarks.many_jobs", "--work", contender.kind,
             "--url", url, "--folder", str(folder), "--place", str(place),
             "--seconds", str(seconds)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for place in range(contender.n_jobs)
    ]  # fmt: skip
    try:
        deadline = time.monotonic() + _PATIENCE
        while sum(1 for _ in folder.glob("ready*")) < contender.n_jobs:
            if time.monotonic() > deadline or any(job.poll() for job in jobs):
                raise RuntimeError(f"{contender} does not get ready.")
            time.sleep(0.01)
        began, n_looks = time.monotonic(), 0
        (folder / "go").touch()
        while any(job.poll() is None for job in jobs):
            check_numbers(url)
            n_looks += 1
            time.sleep(_LOOK_EVERY)
        passed = time.monotonic() - began
    finally:
        for job in jobs:
            job.kill()
            job.wait()
    if any(job.returncode for job in jobs):
        raise RuntimeError(f"{contender}: a job has failed.")
    return check_numbers(url) / passed, n_looks


def check_numbers(url: str) -> int:
    """Read the numbers of all trials, which must be dense; return how many are complete."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT number, state FROM trials")).all()
    numbers = sorted(row[0] for row in rows)
    if numbers != list(range(len(numbers))):
        raise RuntimeError("The numbers are not dense.")
    return sum(1 for row in rows if row[1] == "COMPLETE")


def main() -> None:
    flags = _flags()
    if flags.work:
        work(flags.work, flags.url, Path(flags.folder), flags.place, flags.seconds)
        return
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ours = [Contender("ours", n) for n in flags.processes]
    ours += [Contender("ours", n, 2) for n in flags.jobs]
    contenders = list(dict.fromkeys(one for each in ours for one in (each, each.beside)))
    rates: dict[tuple[str, Contender], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="many-jobs-") as top:
        with postgresql_server(Path(top) / "postgresql") as server:
            for number in range(flags.rounds):
                for database in flags.databases:
                    for contender in contenders:
                        folder = Path(tempfile.mkdtemp(dir=top))
                        with fresh_database(database, folder, server) as url:
                            rate, n_looks = run(contender, url, folder, flags.seconds)
                        rates.setdefault((database, contender), []).append(rate)
                        print(f"round {number + 1}: {database}, {contender}: {rate:,.0f} trials/s "
                              f"({n_looks} looks)", flush=True)  # fmt: skip
    print("\n| database | jobs | trials/s | plain Optuna | ratio |\n|---|---|---|---|---|")
    for database in flags.databases:
        for contender in ours:
            mine, theirs = rates[database, contender], rates[database, contender.beside]
            ratio = statistics.median(a / b for a, b in zip(mine, theirs, strict=True))
            print(f"| {database} | {contender} | {statistics.median(mine):,.0f} | "
                  f"{statistics.median(theirs):,.0f} | {ratio:.1f} |")  # fmt: skip


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long a run takes")
    parser.add_argument("--databases", nargs="+", default=[SQLITE, POSTGRESQL])
    parser.add_argument(
        "--processes", nargs="*", type=int, default=[1, 2, 4, 16], help="jobs of one process each"
    )
    parser.add_argument("--jobs", nargs="*", type=int, default=[1, 2, 4], help="jobs of 2 ranks")
    for name in ("--work", "--url", "--folder"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--place", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
