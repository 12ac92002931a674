"""Chaos: jobs are killed and databases taken away at random instants, and nothing may be lost.

Each round starts a job on a study that goes on from round to round, and breaks it: it kills the
launcher, a rank or the writer, or takes the database away for a while. SQLite, PostgreSQL, MariaDB
and PostgreSQL behind pgbouncer are broken side by side; what is not installed is named. Every
round draws its ranks, its pruner, whether its space is conditional and whether its objective
forks. What the objective returned is kept in files outside of the job, and compared with the
database::

    python tests/faults/chaos.py --kills 100 --outages 40 --seed 1

Exits with 1 if a search ends or hangs that nobody has killed, if a trial is in the database twice
or is not what the objective returned, if numbers are not dense, or if more was lost at a kill than
what ended within ``ALLOWED`` seconds before it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.trial import TrialState

from optuna_propulate.storages.writer.spill import import_trials


sys.path.insert(0, str(Path(__file__).parent.parent))
from support import servers


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence

ALLOWED = 0.5 + 0.5  # the default interval, and a transaction on a busy machine
GONE_WITHIN = 30.0  # the longest pause of a writer between two tries, and some
STARTED_WITHIN = 120.0
ENDED_WITHIN = 120.0  # after its time is up and the database is back
MARK = "OPTUNA_PROPULATE_CHAOS"  # in the environment of all that a job starts
KEPT = "optuna.exceptions.StorageInternalError: The database has not taken all trials"

JOB = """
import json, multiprocessing, os, sys, time, uuid
import optuna, optuna_propulate
from mpi4py import MPI

folder, draw = sys.argv[1], json.loads(sys.argv[2])
storage = optuna_propulate.BatchedRDBStorage(
    draw["url"], comm=MPI.COMM_WORLD, commit_timeout=draw["commit_timeout"]
)
pruner = getattr(optuna.pruners, draw["pruner"])()
study = optuna_propulate.create_study(
    storage, study_name="chaos", load_if_exists=True, pruner=pruner
)
rank = MPI.COMM_WORLD.rank
process = storage._client._handle._started
with open(f"{folder}/new{rank}", "w") as file:
    json.dump([os.getpid(), process and process._process.pid], file)
os.rename(f"{folder}/new{rank}", f"{folder}/pid{rank}")
journal = open(f"{folder}/journal{rank}-{os.getpid()}.jsonl", "w")

def objective(trial):
    x = trial.suggest_float("x", -5, 5)
    params = {"x": x}
    if draw["is_conditional"]:
        kind = trial.suggest_categorical("kind", ["a", "b"])
        name = f"{kind}{trial.number // 100}"
        params.update({"kind": kind, name: trial.suggest_float(name, 0, 1)})
    if draw["forks"] and trial.number % 10 == 0:
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.map(abs, [-1]) == [1]
    token = uuid.uuid4().hex
    trial.set_user_attr("token", token)
    state, value = "COMPLETE", x * x
    time.sleep(0.03 if trial.number % 100 else 0.7)
    for step in range(1, 4):
        trial.report(x * x + 1 / step, step)
        if trial.should_prune():
            state, value = "PRUNED", x * x + 1 / step
            break
    print(json.dumps([token, state, value, params, time.time()]), file=journal, flush=True)
    if state == "PRUNED":
        raise optuna.TrialPruned
    return value

study.optimize(objective, timeout=draw["seconds"])
open(f"{folder}/done{rank}", "w").close()
"""

PRUNERS = ["NopPruner", "MedianPruner", "SuccessiveHalvingPruner", "HyperbandPruner"]
KILLS = ["kill launcher", "kill rank", "kill writer"]
PROBLEMS = [
    "evaluations lost beyond the promise",
    "searches ended",
    "hangs",
    "duplicates",
    "other",
]


class SQLite:
    """A file that can be taken away: a transaction holds it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "study.db"
        self.url = f"sqlite:///{self._path}"

    def start(self) -> None:
        self._connection.close()

    def stop(self) -> None:
        self._connection = sqlite3.connect(self._path, isolation_level=None, timeout=60)
        self._connection.execute("BEGIN IMMEDIATE")

    def close(self) -> None:
        """Nothing runs."""


DATABASES: dict[str, Callable[[Path], servers.Server]] = {
    "sqlite": SQLite,
    "postgresql": servers.PostgreSQL,
    "mariadb": servers.MariaDB,
    "pgbouncer": servers.PgBouncer,
}


@dataclass
class Tally:
    """What the rounds came to.

    Args:
        rounds: How often each kind of fault was made.
        drawn: How often each kind of search was broken.
        lost: For each kill of ranks, how long before it the first trial ended that is not in the
            database, in seconds.
        away: For how long the database was, in seconds.
        n_imported: How many trials came back from files.
        n_kept: How many jobs ended with the error that names such a file.
        problems: What must not be, and what kind of problem it is.
    """

    rounds: Counter[str] = field(default_factory=Counter)
    drawn: Counter[str] = field(default_factory=Counter)
    lost: list[float] = field(default_factory=list)
    away: list[float] = field(default_factory=list)
    n_trials: int = 0
    n_imported: int = 0
    n_kept: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)


class Rounds:
    """Holds one database and what it went through.

    Args:
        kind: The database's.
        seed: Draws the rounds.
        longest: The longest outage, in seconds.
    """

    def __init__(self, kind: str, seed: int, longest: float) -> None:
        self.tally = Tally()
        self._kind, self._longest = kind, longest
        self._choice = random.Random(f"{seed} {kind}")
        self._folder = Path(tempfile.mkdtemp(prefix=f"chaos-{kind}-"))
        self._folder.chmod(0o711)  # a server may run as another user
        self._killed: list[float] = []  # when
        self._database = DATABASES[kind](self._folder)
        (self._folder / "job.py").write_text(JOB)

    def run(self, faults: Sequence[str]) -> Tally:
        for fault in faults:
            began = time.monotonic()
            self._round(fault)
            print(f"{self._kind:12}{fault:15}{time.monotonic() - began:6.1f} s", flush=True)
        self._compare()
        self._database.close()
        if self.tally.problems:
            print(f"{self._kind}: what was said is in {self._folder}", flush=True)
        else:
            shutil.rmtree(self._folder, ignore_errors=True)
        return self.tally

    def _round(self, fault: str) -> None:
        """Run a job and break it."""
        for name in ("pid*", "done*"):
            for path in self._folder.glob(name):
                path.unlink()
        choice, tally = self._choice, self.tally
        outage = choice.uniform(1.0, self._longest) if fault == "outage" else 0.0
        n_ranks = choice.choice([1, 2, 3])
        draw = {
            "url": self._database.url,
            "seconds": choice.uniform(3.0, 6.0) + choice.choice([outage, 0.0]),
            "commit_timeout": choice.choice([2.0, 60.0]),
            "pruner": choice.choice(PRUNERS),
            "is_conditional": choice.random() < 0.5,
            "forks": choice.random() < 0.5,
        }
        tally.rounds[f"{self._kind}, {fault}"] += 1
        tally.drawn[str(draw["pruner"])] += 1
        tally.drawn["conditional space"] += bool(draw["is_conditional"])
        tally.drawn["objective forks"] += bool(draw["forks"])
        said = self._folder / f"said{sum(tally.rounds.values())}"
        job = self._start(n_ranks, draw, said)
        ranks = [self._folder / f"pid{rank}" for rank in range(n_ranks)]
        if not _within(STARTED_WITHIN, lambda: all(path.exists() for path in ranks)):
            self._give_up(job, "hangs", f"a job does not start: {said}")
            return
        time.sleep(choice.uniform(0.1, 3.0))
        processes = [json.loads(path.read_text()) for path in ranks]
        is_killed = False
        if fault == "outage":
            self._database.stop()
            time.sleep(outage)
            self._database.start()
            tally.away.append(outage)
        else:
            victim = {
                "kill launcher": job.pid,
                "kill rank": choice.choice(processes)[0],
                "kill writer": processes[0][1],
            }[fault]
            is_killed = fault != "kill writer" and job.poll() is None
            if is_killed:
                self._killed.append(time.time())
            os.kill(victim, signal.SIGKILL)
        try:
            job.wait(ENDED_WITHIN)
        except subprocess.TimeoutExpired:
            self._give_up(job, "hangs", f"a job does not end after {fault}: {said}")
            return
        self._judge(fault, is_killed, job.returncode, n_ranks, said)

    def _start(self, n_ranks: int, draw: dict[str, object], said: Path) -> subprocess.Popen[bytes]:
        beside = str(Path(sys.executable).parent / "mpiexec")
        launcher = os.environ.get("MPIEXEC") or shutil.which(beside) or "mpiexec"
        program = [sys.executable, "job.py", str(self._folder), json.dumps(draw)]
        with said.open("w") as file:
            return subprocess.Popen(
                [launcher, "-n", str(n_ranks), *program],
                cwd=self._folder,
                env={**os.environ, MARK: str(self._folder)},
                start_new_session=True,
                stdout=file,
                stderr=file,
            )

    def _judge(self, fault: str, is_killed: bool, status: int, n_ranks: int, said: Path) -> None:
        """Look at how a job has ended, and at what it has left behind."""
        problems = self.tally.problems
        if not _within(GONE_WITHIN, lambda: not self._left()):
            problems.append(
                ("hangs", f"{self._left()} run {GONE_WITHIN:g} s after {fault}: {said}")
            )
        files = list(self._folder.glob("optuna-propulate-*.jsonl"))
        n_done = len(list(self._folder.glob("done*")))
        if not is_killed and not (status == 0 and n_done == n_ranks) and not files:
            problems.append(("searches ended", f"{fault}, status {status}: {said}"))
        text = said.read_text()
        n_kept = text.count(KEPT)
        self.tally.n_kept += bool(n_kept)
        if text.count("Traceback") > n_kept and not is_killed:
            problems.append(("searches ended", f"{fault}, a traceback: {said}"))
        for path in files:
            self.tally.n_imported += import_trials(path, self._database.url)
            path.unlink()

    def _give_up(self, job: subprocess.Popen[bytes], kind: str, problem: str) -> None:
        self.tally.problems.append((kind, problem))
        os.killpg(job.pid, signal.SIGKILL)
        for process in self._left():
            os.kill(process, signal.SIGKILL)
        self._killed.append(time.time())

    def _left(self) -> list[int]:
        """Return what runs of the jobs that were started here."""
        mark = f"{MARK}={self._folder}".encode()
        found = []
        for process in Path("/proc").iterdir():
            try:
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
            except OSError:
                continue  # it has ended, or is no process
        return found

    def _journals(self) -> dict[str, tuple[str, float, dict[str, object], float]]:
        """Return what the objective returned, and when, by the token that it gave each trial."""
        returned = {}
        for path in self._folder.glob("journal*.jsonl"):
            for line in path.read_text().splitlines():
                try:
                    token, *rest = json.loads(line)
                except ValueError:
                    continue  # the last line of a killed rank
                returned[token] = tuple(rest)
        return returned

    def _compare(self) -> None:
        """Compare the database with what the objective wrote down."""
        tally, returned = self.tally, self._journals()
        trials = optuna.load_study(study_name="chaos", storage=self._database.url).trials
        tally.n_trials += len(trials)
        if [trial.number for trial in trials] != list(range(len(trials))):
            tally.problems.append(("other", f"{self._kind}: numbers are not dense"))
        ended = [
            trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        ]
        for trial in ended:
            state, value, params, _ = returned.get(
                trial.user_attrs.get("token", ""), ("", 0.0, {}, 0.0)
            )
            if (trial.state.name, trial.value, trial.params) != (state, value, params):
                problem = f"{self._kind}: trial {trial.number} is not what the objective returned"
                tally.problems.append(("other", problem))
        times = Counter(trial.user_attrs.get("token") for trial in ended)
        for token, n in times.items():
            if n > 1:
                tally.problems.append(("duplicates", f"{self._kind}: {token} is there {n} times"))
        lost = dict.fromkeys(self._killed, 0.0)
        for token, (*_, when) in returned.items():
            if token in times:
                continue
            kill = min((kill for kill in self._killed if kill >= when - 0.1), default=None)
            if kill is not None:
                lost[kill] = max(lost[kill], kill - when)
            if kill is None or kill - when > ALLOWED:
                before = "no kill" if kill is None else f"{kill - when:.2f} s before a kill"
                problem = f"{self._kind}: {token}, which ended at {when:.2f}, {before}"
                tally.problems.append(("evaluations lost beyond the promise", problem))
        tally.lost += lost.values()


def _within(seconds: float, happens: Callable[[], bool]) -> bool:
    """Wait until something happens; return whether it does in time."""
    deadline = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def report(tallies: Sequence[Tally]) -> bool:
    """Print what the rounds came to; return whether nothing went wrong."""
    rounds = sum((tally.rounds for tally in tallies), Counter[str]())
    drawn = sum((tally.drawn for tally in tallies), Counter[str]())
    away = [seconds for tally in tallies for seconds in tally.away]
    lost = [seconds for tally in tallies for seconds in tally.lost]
    problems = [problem for tally in tallies for problem in tally.problems]
    rows = [*sorted(rounds.items()), *sorted(drawn.items())]
    rows += [
        ("kills", sum(n for fault, n in rounds.items() if "kill" in fault)),
        ("outages", len(away)),
        ("trials in the databases", sum(tally.n_trials for tally in tallies)),
        ("of them, out of files", sum(tally.n_imported for tally in tallies)),
        ("jobs whose status names a file", sum(tally.n_kept for tally in tallies)),
    ]
    kinds = Counter(kind for kind, _ in problems)
    rows += [(kind, kinds[kind]) for kind in PROBLEMS]
    for what, n in rows:
        print(f"{what:38}{n:7}")
    if away:
        print(f"outages of {min(away):.0f} to {max(away):.0f} s, {sum(away):.0f} s together")
    if lost:
        middle = statistics.median(lost)
        print(f"lost at a kill: what ended within {max(lost):.2f} s (median {middle:.2f} s)")
    for kind, problem in problems[:20]:
        print(f"{kind}: {problem}")
    return not problems


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100, help="(%(default)s)")
    parser.add_argument("--outages", type=int, default=40, help="(%(default)s)")
    parser.add_argument("--longest-outage", type=float, default=60.0, help="s (%(default)s)")
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=list(DATABASES))
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    flags = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"seed {flags.seed}", flush=True)
    rounds = []
    for kind in flags.databases:
        try:
            rounds.append(Rounds(kind, flags.seed, flags.longest_outage))
        except (servers.MissingError, ImportError) as missing:
            print(f"Not on {kind}: {missing}", flush=True)
    faults = [KILLS[n % 3] for n in range(flags.kills)] + ["outage"] * flags.outages
    random.Random(flags.seed).shuffle(faults)
    with ThreadPoolExecutor() as pool:
        each = [pool.submit(one.run, faults[n :: len(rounds)]) for n, one in enumerate(rounds)]
        return 0 if report([future.result() for future in each]) else 1


if __name__ == "__main__":
    sys.exit(main())
