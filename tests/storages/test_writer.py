"""The writer as a process of its own: whom it lets in, what it keeps secret, and when it ends."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from sqlalchemy.engine import make_url

from optuna_propulate.storages.batched import BatchedRDBStorage
from optuna_propulate.storages.client.writer_process import WriterProcess
from optuna_propulate.storages.wire.frames import FrameReader
from optuna_propulate.storages.wire.frames import frame
from optuna_propulate.storages.wire.handshake import NONCE_BYTES
from optuna_propulate.storages.wire.handshake import new_token
from optuna_propulate.storages.wire.handshake import proof
from optuna_propulate.storages.wire.handshake import receive_exactly


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

PATIENCE = 15.0  # in seconds
CREATE = ["call", 1, "study", ["create_new_study", [["MINIMIZE"], "theirs"]]]
LIST = ["call", 2, "study", ["get_all_studies", []]]
ANSWER_TO_LIST = ["result", 2, []]


@contextlib.contextmanager
def started(url: str, *, beyond: bool = False) -> Iterator[WriterProcess]:
    writer = WriterProcess(url, None, 1.0, beyond=beyond)
    try:
        yield writer
    finally:
        writer.release()
        assert writer.wait(PATIENCE)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


class Client:
    """A rank reduced to what goes over its connection."""

    def __init__(self, address: str | list[Any]) -> None:
        if isinstance(address, str):
            self.connection = socket.socket(socket.AF_UNIX)
            self.connection.connect(address)
        else:
            self.connection = socket.create_connection(tuple(address))
        self.connection.settimeout(PATIENCE)
        self.nonce = receive_exactly(self.connection, NONCE_BYTES)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.connection.close()

    def prove(self, token: str) -> Client:
        self.connection.sendall(proof(token, self.nonce))
        return self

    def ask(self, message: list[Any]) -> list[Any]:
        self.connection.sendall(frame(message))
        (answer,) = FrameReader().read(self.connection)
        return answer

    def is_dropped(self) -> bool:
        """Tell whether the writer ends the connection without a word."""
        try:
            return self.connection.recv(1) == b""
        except ConnectionResetError:
            return True


def within(seconds: float, done: Callable[[], bool]) -> bool:
    """Poll until ``done`` returns true; return whether it has in time."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def seconds_used(process: int) -> float:
    """Return how long a process has computed."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(process: int) -> list[int]:
    found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in found]


@pytest.mark.parametrize("beyond", [False, True])
def test_whoever_does_not_know_the_token_is_dropped_unheard(url: str, beyond: bool) -> None:
    with started(url, beyond=beyond) as writer:
        address = writer.addresses[-1]
        with Client(address) as stranger:
            stranger.connection.sendall(proof(new_token(), stranger.nonce) + frame(CREATE))
            assert stranger.is_dropped()
        with Client(address) as stranger:
            stranger.connection.sendall(frame(CREATE))  # whatever it is taken for
            assert stranger.is_dropped()
        with Client(address) as first, Client(address) as second:
            second.connection.sendall(proof(writer.token, first.nonce))  # overheard
            assert second.is_dropped()
        with Client(address).prove(writer.token) as rank:
            assert rank.ask(LIST) == ANSWER_TO_LIST


def test_only_the_user_may_enter_the_folder_of_the_socket(url: str) -> None:
    with started(url) as writer:
        assert Path(writer.addresses[0]).parent.stat().st_mode & 0o777 == 0o700


def test_whoever_connects_and_says_nothing_blocks_nobody(url: str) -> None:
    with started(url) as writer:
        address = writer.addresses[0]
        with Client(address), Client(address) as half:
            half.connection.sendall(proof(writer.token, half.nonce)[:31])
            with Client(address).prove(writer.token) as rank:
                assert rank.ask(LIST) == ANSWER_TO_LIST


def test_a_thousand_strangers_neither_stay_nor_keep_the_writer_busy(url: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    try:
        with started(url) as writer, contextlib.ExitStack() as stack:
            address, process = writer.addresses[0], writer._process.pid
            for _ in range(1300):
                stack.enter_context(Client(address))
            with Client(address).prove(writer.token) as rank:
                assert rank.ask(LIST) == ANSWER_TO_LIST
                assert len(os.listdir(f"/proc/{process}/fd")) < 300
                before = seconds_used(process)
                time.sleep(2.0)
                assert seconds_used(process) - before < 1.0
                assert rank.ask(LIST) == ANSWER_TO_LIST
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_rank_that_speaks_nonsense_is_dropped_and_the_others_are_served(url: str) -> None:
    with started(url) as writer:
        with Client(writer.addresses[0]).prove(writer.token) as rank:
            with Client(writer.addresses[0]).prove(writer.token) as broken:
                broken.connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert broken.is_dropped()
            assert rank.ask(LIST) == ANSWER_TO_LIST


def test_ranks_of_other_nodes_are_served_over_tcp(url: str) -> None:
    with started(url, beyond=True) as writer:
        _, (host, port) = writer.addresses
        with Client([host, port]).prove(writer.token) as rank:
            assert rank.ask(CREATE) == ["result", 1, 1]
        with Client(writer.addresses[0]).prove(writer.token) as here:
            assert here.ask(LIST)[2][0][1] == "theirs"
    with pytest.raises(ConnectionRefusedError):
        Client([host, port])


def test_without_other_nodes_there_is_no_port(url: str) -> None:
    with started(url) as writer:
        assert len(writer.addresses) == 1


def test_the_writer_ends_when_its_starter_and_the_last_rank_have_left(url: str) -> None:
    writer = WriterProcess(url, None, 1.0)
    folder = Path(writer.addresses[0]).parent
    with Client(writer.addresses[0]).prove(writer.token) as rank:
        writer.release()
        assert rank.ask(LIST) == ANSWER_TO_LIST
        assert not writer.wait(0.5)
        assert rank.ask(LIST) == ANSWER_TO_LIST
    assert writer.wait(PATIENCE)
    assert not folder.exists()


def test_the_writer_ends_when_its_storage_is_closed(url: str) -> None:
    before = set(children(os.getpid()))
    storage = BatchedRDBStorage(url)
    (process,) = set(children(os.getpid())) - before
    storage.close()
    assert within(PATIENCE, lambda: not is_running(process))


STARTER = """
import os, sys, time
import optuna
from optuna_propulate import BatchedRDBStorage
storage = BatchedRDBStorage(sys.argv[1], flush_interval=0.05)
study = optuna.create_study(storage=storage, study_name="s")
first = study.ask()
storage.flush()
print("locked?", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    study.tell(study.ask(), 1.0)
    time.sleep(0.3)  # told by now, which takes 0.05 s
print("told", flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("n_messages", [1, 3])
def test_what_a_killed_process_has_told_is_committed_and_nothing_runs_on(
    n_messages: int, url: str, tmp_path: Path
) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, url, str(n_messages)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert starter.stdin is not None
    assert starter.stdout is not None
    assert starter.stdout.readline() == "locked?\n"
    (writer,) = children(starter.pid)
    blocker = sqlite3.connect(tmp_path / "study.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")  # so that nothing is committed before the kill
    starter.stdin.write("\n")
    starter.stdin.flush()
    assert starter.stdout.readline() == "told\n"
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    assert is_running(writer)
    blocker.execute("ROLLBACK")
    blocker.close()
    assert within(PATIENCE, lambda: not is_running(writer))
    states = [trial.state for trial in optuna.load_study(study_name="s", storage=url).trials]
    assert states == [TrialState.RUNNING, *[TrialState.COMPLETE] * n_messages]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_no_signal_to_the_job_ends_the_writer(url: str, number: signal.Signals) -> None:
    before = set(children(os.getpid()))
    with started(url) as writer:
        (process,) = set(children(os.getpid())) - before
        assert os.getsid(process) != os.getsid(0)
        os.kill(process, number)
        with Client(writer.addresses[0]).prove(writer.token) as rank:
            assert rank.ask(LIST) == ANSWER_TO_LIST


FORK = """
import os, signal, sys
import optuna
from optuna_propulate import BatchedRDBStorage
storage = BatchedRDBStorage(sys.argv[1], flush_interval=0.01)
study = optuna.create_study(storage=storage, study_name="s")
trial = study.ask()
for _ in range(10):
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # ends a child that hangs
        assert len(storage.get_all_studies()) == 1
        del study, trial
        storage.close()
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    study.tell(study.ask(), 1.0)
study.tell(trial, 0.0)
storage.close()
"""


def test_a_forked_child_neither_hangs_nor_breaks_its_parents_storage(url: str) -> None:
    subprocess.run([sys.executable, "-c", FORK, url], check=True, timeout=60)
    trials = optuna.load_study(study_name="s", storage=url).trials
    assert [trial.value for trial in trials] == [0.0, *[1.0] * 10]


def test_the_password_of_a_database_that_cannot_be_opened_is_not_shown() -> None:
    password = "".join(["open", "sesame"])  # not in a line that a traceback shows
    with pytest.raises(StorageInternalError, match=r"postgresql.*me:\*\*\*@localhost") as caught:
        BatchedRDBStorage(f"postgresql://me:{password}@localhost:1/x")
    assert password not in "".join(traceback.format_exception(caught.value))


def test_the_password_of_an_open_database_is_seen_by_nobody(
    postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPTUNA_PROPULATE_TEST_POSTGRESQL", raising=False)
    parsed = make_url(postgresql)
    password = parsed.password or "open-sesame"
    url = parsed.set(password=password).render_as_string(hide_password=False)
    before = set(children(os.getpid()))
    storage = BatchedRDBStorage(url)
    (process,) = set(children(os.getpid())) - before
    assert storage.get_all_studies() == []
    assert "***" in repr(storage)
    assert password not in repr(storage)
    for place in (f"{process}/environ", f"{process}/cmdline", "self/cmdline"):
        seen = Path("/proc", place).read_bytes()
        assert seen
        assert password.encode() not in seen
    storage.close()
