from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck
from hypothesis import settings
from sqlalchemy.engine import make_url
from support import servers


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from typing import TypeVar

    _Server = TypeVar("_Server", bound=servers.Server)

ROOT = Path(__file__).parent.parent
pytest.register_assert_rewrite("optuna.testing.pytest_samplers", "optuna.testing.pytest_storages")

# Propulate needs numpy below 2, hence an environment of its own: tox run -e reference.
collect_ignore = [] if importlib.util.find_spec("propulate") else ["reference"]

# Populations are slow to generate; fewer of them do every day.
for profile, n_examples in (("quick", 40), ("thorough", 1000)):
    settings.register_profile(
        profile,
        deadline=None,
        max_examples=n_examples,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

DATABASES = {"database", "postgresql", "mysql", "pgbouncer", "sqlite_of_class"}
FOLDERS = {"faults": "faults", "gpu": "gpu", "examples": "examples", "benchmarks": "examples"}
FILES = {"test_docs.py": "examples", "test_cli.py": "database", "test_ecosystem.py": "database"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by what it needs; those that need nothing are ``unit``."""
    for item in items:
        where, fixtures = item.path.relative_to(ROOT / "tests"), set(item.fixturenames)
        marks = {FOLDERS.get(where.parts[0]), FILES.get(where.name)} - {None}
        if "mpiexec" in fixtures:
            marks.add("mpi")
        if where.parts[0] == "storages" or fixtures & DATABASES:
            marks.add("database")
        for mark in marks or {"unit"}:
            item.add_marker(mark)


PRELUDE = """
import json, os, sys
import optuna
optuna.logging.set_verbosity(optuna.logging.WARNING)

def report(**values):
    from mpi4py import MPI
    with open(f"rank{MPI.COMM_WORLD.rank}.json", "w") as file:
        json.dump(values, file)

def sphere(trial):
    return sum(trial.suggest_float(name, -5, 5) ** 2 for name in ("x", "y"))
"""


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Let pytest see what is logged below Optuna's logger, which does not propagate."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # a benchmark wants less, and is tested
    optuna.logging.enable_propagation()
    yield caplog
    optuna.logging.disable_propagation()
    optuna.logging.set_verbosity(before)


@dataclass
class Outcome:
    status: int
    stdout: str
    stderr: str
    ranks: list[dict[str, Any]]


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a real PostgreSQL server, started here unless one is named."""
    named = os.environ.get("OPTUNA_PROPULATE_TEST_POSTGRESQL")
    if named:
        yield named
        return
    server = servers.PostgreSQL(tmp_path_factory.mktemp("postgresql"))
    yield server.url
    server.close()


@pytest.fixture(scope="session")
def mariadb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.MariaDB]:
    pytest.importorskip("pymysql", reason="Its driver is not here; `tox run -e chaos` has it.")
    server = _started(servers.MariaDB, tmp_path_factory.mktemp("mariadb"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def pgbouncer_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.PgBouncer]:
    server = _started(servers.PgBouncer, tmp_path_factory.mktemp("pgbouncer"))
    yield server
    server.close()


def _started(kind: type[_Server], folder: Path) -> _Server:
    try:
        return kind(folder)
    except servers.MissingError as error:
        pytest.skip(str(error))


def _new_postgresql(postgresql_server: str) -> str:
    """Return the URL of an empty database of its own, without a driver."""
    import psycopg

    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgresql_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return make_url(postgresql_server).set(database=name).render_as_string(hide_password=False)


def _new_mysql(mariadb_server: servers.MariaDB) -> str:
    """Return the URL of an empty MariaDB database of its own."""
    return mariadb_server.create(f"test_{uuid.uuid4().hex}")


postgresql = pytest.fixture(_new_postgresql, name="postgresql")
postgresql_of_class = pytest.fixture(_new_postgresql, scope="class", name="postgresql_of_class")
mysql = pytest.fixture(_new_mysql, name="mysql")
mysql_of_class = pytest.fixture(_new_mysql, scope="class", name="mysql_of_class")


@pytest.fixture(scope="class")
def sqlite_of_class(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('sqlite')}/study.db"


@pytest.fixture
def pgbouncer(pgbouncer_server: servers.PgBouncer) -> str:
    """Return the URL of an empty PostgreSQL database of its own, behind a pooler."""
    return pgbouncer_server.create(f"test_{uuid.uuid4().hex}")


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/study.db"
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def mpiexec(tmp_path: Path) -> Callable[..., Outcome]:
    """Return a function that runs a script on MPI ranks and reads what each of them reported."""
    launcher = os.environ.get("MPIEXEC") or str(Path(sys.executable).parent / "mpiexec")
    found = shutil.which(launcher) or shutil.which("mpiexec")
    if found is None:
        if os.environ.get("REQUIRE_MPI"):
            pytest.fail("CI has to have an MPI launcher, but there is none.")
        pytest.skip("There is no MPI launcher here: install the extra 'mpich'.")

    def run(
        script: str, n: int, timeout: float = 120.0, *, environ: dict[str, str] | None = None
    ) -> Outcome:
        path = tmp_path / "script.py"
        path.write_text(PRELUDE + textwrap.dedent(script))
        process = subprocess.Popen(
            [found, "-n", str(n), sys.executable, str(path)],
            cwd=tmp_path,
            env={
                **os.environ,
                **(environ or {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
            pytest.fail(f"The ranks did not end within {timeout} s.\n{stdout}\n{stderr}")
        reports = [tmp_path / f"rank{rank}.json" for rank in range(n)]
        ranks = [json.loads(report.read_text()) for report in reports if report.exists()]
        return Outcome(process.returncode, stdout, stderr, ranks)

    run.launcher = found  # type: ignore[attr-defined]
    return run
