"""The writer that the ranks of a job share, as each of them holds it, and its counters."""

from __future__ import annotations

import json
import os
import threading
import weakref
import zlib
from typing import TYPE_CHECKING
from typing import Any

from optuna_propulate.parallel.counters import LocalCounters
from optuna_propulate.parallel.counters import SharedCounters
from optuna_propulate.parallel.launch import comm_timeout
from optuna_propulate.parallel.nodes import nodes_of
from optuna_propulate.parallel.team import Team
from optuna_propulate.storages.client.connection import can_connect
from optuna_propulate.storages.client.writer_process import WriterProcess
from optuna_propulate.storages.client.writer_thread import WriterThread
from optuna_propulate.storages.sql.dialects import dialect_of
from optuna_propulate.storages.sql.open import parse_url
from optuna_propulate.storages.sql.sqlite_file import is_in_memory


if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mpi4py import MPI

    from optuna_propulate.parallel.counters import Counters
    from optuna_propulate.storages.client.handover import Handover
    from optuna_propulate.storages.client.started_writer import StartedWriter

N_COUNTERS = 64
"""How many studies one job can write through one storage."""


class WriterHandle:
    """Holds the writer's address, the writer if this process started it, and the counters.

    Args:
        address: Where this process reaches the writer.
        token: What the writer wants to be known.
        counters: Counts the trials of each study.
        started: The writer, if this process started it.
        job: Tells the job from all others.
        spill_folder: Where what cannot be written is kept.
    """

    def __init__(
        self,
        address: str | list[Any],
        token: str,
        counters: Counters,
        started: StartedWriter | None,
        job: str,
        spill_folder: Path,
    ) -> None:
        self.address, self.token, self.counters = address, token, counters
        self.job, self.spill_folder = job, spill_folder
        self._pid = os.getpid()
        self._started = started
        self._reviving = threading.Lock()
        if started is not None:
            weakref.finalize(self, _dismiss, started, self._pid)

    @property
    def is_starter(self) -> bool:
        """Whether this process has started the writer."""
        return self._started is not None

    def forget(self) -> None:
        """Let go of the writer in a forked child; it does not wait for the child to end."""
        if self._started is not None:
            self._started.release()
            self._started = None

    def revive(self) -> None:
        """Start the writer again if this process started it and it has ended."""
        with self._reviving:
            if self._started is not None and os.getpid() == self._pid:
                self._started.revive()


_handles: weakref.WeakValueDictionary[str, WriterHandle] = weakref.WeakValueDictionary()


def open_writer(
    url: str,
    engine_kwargs: Mapping[str, Any],
    refresh_interval: float,
    commit_timeout: float,
    retry: int,
    comm: MPI.Intracomm | None,
    *,
    in_thread: bool = False,
) -> WriterHandle:
    """Start a writer, or find the one that is there; collective if there is a communicator.

    Args:
        url: The database's URL.
        engine_kwargs: As for ``sqlalchemy.create_engine``.
        refresh_interval: How often the writer looks for trials of others, in seconds.
        commit_timeout: For how long it only tries again when the database cannot be written.
        retry: How often a trial that a killed job has left running is run again.
        comm: The ranks that share it.
        in_thread: Whether it is to be a thread of this process.

    Raises:
        StorageInternalError: If the database cannot be opened; its password is not shown.
        TimeoutError: If not every rank calls this within a minute.
        ValueError: If the URL is none, is of a database that is not supported, or is one that
            processes cannot share; or if several ranks are to share a thread.
    """
    parsed = parse_url(url)
    dialect_of(parsed.get_backend_name())
    if is_in_memory(parsed):
        raise ValueError(
            "An SQLite database in memory cannot be shared with the process that writes; give "
            "a file, or no storage at all to keep the study in memory."
        )
    options = refresh_interval, commit_timeout, retry
    if comm is not None and comm.size > 1:
        if in_thread:
            raise ValueError("in_thread is for a process alone, but several MPI ranks share this.")
        return _shared_writer(url, engine_kwargs, *options, Team(comm, comm_timeout()))
    key = json.dumps([os.getpid(), url, dict(engine_kwargs), *options, in_thread])
    handle = _handles.get(key)
    if handle is None:
        started = (WriterThread if in_thread else WriterProcess)(url, engine_kwargs, *options)
        handle = WriterHandle(
            started.addresses[0], started.token, LocalCounters(), started,
            started.job, started.spill_folder,
        )  # fmt: skip
        _handles[key] = handle
    return handle


def _shared_writer(
    url: str,
    engine_kwargs: Mapping[str, Any],
    refresh_interval: float,
    commit_timeout: float,
    retry: int,
    team: Team,
) -> WriterHandle:
    team.agree(refresh_interval=refresh_interval, commit_timeout=commit_timeout, retry=retry)
    try:
        team.agree(url=_digest(url))
    except ValueError:
        raise ValueError("The storage's URL must be the same on every MPI rank.") from None
    nodes = nodes_of(team.comm, comm_timeout())
    beyond = len(set(nodes)) > 1
    started: list[WriterProcess] = []

    def start() -> tuple[list[Any], str, str, Path]:
        options = refresh_interval, commit_timeout, retry
        process = WriterProcess(url, engine_kwargs, *options, n_workers=team.size, beyond=beyond)
        started.append(process)
        return process.addresses, process.token, process.job, process.spill_folder

    addresses, token, name, spill_folder = team.from_root(start)
    counters = SharedCounters(team.comm, 2 * N_COUNTERS)
    counters.free_at_exit()
    address = addresses[0 if nodes[team.rank] == nodes[0] else -1]
    process = started[0] if started else None
    return WriterHandle(address, token, counters, process, name, spill_folder)


def visited_writer(handover: Handover) -> WriterHandle | None:
    """Return the writer of the rank that this process is a copy of; ``None`` if it has ended."""
    handle = WriterHandle(
        handover.address,
        handover.token,
        LocalCounters(),
        None,
        handover.job,
        handover.spill_folder,
    )
    return handle if can_connect(handle.address, handle.token) else None


def _digest(url: str) -> int:
    """Return a number to compare URLs by, as these may hold a password."""
    return zlib.crc32(url.encode())


def _dismiss(started: StartedWriter, pid: int) -> None:
    """Let the writer end, once it has written what it was told."""
    if os.getpid() != pid:
        return  # the child of a fork
    started.release()
