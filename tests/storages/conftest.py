from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import time
import uuid
from typing import TYPE_CHECKING

import pytest


if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def mariadb_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the socket of a private MariaDB server, on which root needs no password."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    server, install = (
        shutil.which(name, path=path) for name in ("mariadbd", "mariadb-install-db")
    )
    if server is None or install is None:
        pytest.skip("There is no MariaDB server here (Debian: apt install mariadb-server).")
    pymysql = pytest.importorskip("pymysql", reason="Install the extra 'mysql'.")
    folder = tmp_path_factory.mktemp("mariadb")
    common = ["--no-defaults", f"--datadir={folder}/data", f"--user={getpass.getuser()}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(
        [install, *common, "--auth-root-authentication-method=normal", "--skip-test-db"],
        check=True,
        timeout=120,
        **quiet,
    )
    socket = f"{folder}/socket"
    process = subprocess.Popen(
        [server, *common, f"--socket={socket}", f"--pid-file={folder}/pid", "--skip-networking"],
        **quiet,
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            pymysql.connect(unix_socket=socket, user="root").close()
        except pymysql.err.OperationalError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            break
    yield socket
    process.terminate()
    process.wait(60)


@pytest.fixture
def mysql(mariadb_socket: str) -> str:
    """Return the URL of an empty database of its own."""
    import pymysql

    name = f"test_{uuid.uuid4().hex}"
    with pymysql.connect(unix_socket=mariadb_socket, user="root") as connection:
        connection.cursor().execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    return f"mysql+pymysql://root@localhost/{name}?unix_socket={mariadb_socket}"
