from __future__ import annotations

import sqlite3
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

import optuna_propulate
from optuna_propulate.storages.batched import BatchedRDBStorage
from optuna_propulate.storages.sql.dialects import dialect_of
from optuna_propulate.storages.sql.dialects.sqlite import LOCK_TIMEOUT
from optuna_propulate.storages.sql.dialects.sqlite import choose_journal
from optuna_propulate.storages.sql.engine import connect_engine
from optuna_propulate.storages.sql.file_systems import file_system_of
from optuna_propulate.storages.sql.file_systems import is_network
from optuna_propulate.storages.sql.open import open_rdb
from optuna_propulate.storages.sql.sqlite_file import is_in_memory
from optuna_propulate.storages.sql.sqlite_file import sqlite_file


MOUNTS = r"""
/dev/sda1 / ext4 rw,relatime 0 0
server:/vol /cluster nfs4 rw,vers=4.2 0 0
/dev/sdb1 /cluster/scratch xfs rw 0 0
server:/odd /cluster/two\040blanks\011tab\134 lustre rw 0 0
automount /auto autofs rw 0 0
server:/auto /auto nfs rw 0 0
server:/slash /slash/ gpfs rw 0 0
""".lstrip()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/elsewhere/study.db", "ext4"),
        ("/cluster/study.db", "nfs4"),
        ("/cluster", "nfs4"),
        ("/clusters/study.db", "ext4"),
        ("/cluster/scratch/deep/study.db", "xfs"),
        ("/cluster/scratch/../study.db", "nfs4"),
        ("/cluster/two blanks\ttab\\/study.db", "lustre"),
        ("/cluster/two/study.db", "nfs4"),
        ("/auto/study.db", "nfs"),
        ("/slash/study.db", "gpfs"),
    ],
)
def test_a_file_lies_on_the_innermost_file_system_mounted_above_it(path: str, kind: str) -> None:
    assert file_system_of(Path(path), MOUNTS) == kind


def test_the_order_of_nested_mounts_does_not_matter() -> None:
    backwards = "\n".join(reversed(MOUNTS.splitlines()))
    assert file_system_of(Path("/cluster/scratch/study.db"), backwards) == "xfs"


def test_a_link_lies_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/cluster")
    assert file_system_of(tmp_path / "link" / "study.db", MOUNTS) == "nfs4"


def test_without_mounts_the_file_system_cannot_be_told() -> None:
    assert file_system_of(Path("/cluster/study.db"), "") == ""


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "lustre", "gpfs", "beegfs", "fuse.sshfs", "cifs"])
def test_cluster_file_systems_are_network(kind: str) -> None:
    assert is_network(kind)


@pytest.mark.parametrize(
    "kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk", ""]
)
def test_local_file_systems_are_not_network(kind: str) -> None:
    assert not is_network(kind)


def _journal(path: Path) -> str:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE IF NOT EXISTS t (x)")
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    connection.close()
    return str(mode)


@pytest.mark.parametrize(("kind", "mode"), [("ext4", "wal"), ("nfs4", "delete")])
def test_the_journal_suits_the_file_system(
    kind: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "study.db"
    before = sqlite3.connect(path)
    before.execute(f"PRAGMA journal_mode={'delete' if mode == 'wal' else 'wal'}")
    before.close()
    monkeypatch.setattr(Path, "read_text", lambda path: f"somewhere / {kind} rw 0 0\n")
    engine = connect_engine(f"sqlite:///{path}", None, writing=True)
    note = choose_journal(engine)
    engine.dispose()
    assert _journal(path) == mode
    if mode == "wal":
        assert note is None
    else:
        assert note is not None
        assert str(path) in note
        assert kind in note


def test_the_temporary_folder_of_these_tests_gets_a_write_ahead_log(tmp_path: Path) -> None:
    kind = file_system_of(tmp_path, Path("/proc/self/mounts").read_text())
    if is_network(kind):
        pytest.skip(f"{tmp_path} lies on a network file system ({kind}).")
    engine = connect_engine(f"sqlite:///{tmp_path}/study.db", None)
    assert choose_journal(engine) is None
    engine.dispose()
    assert _journal(tmp_path / "study.db") == "wal"


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite+pysqlite:///:memory:",
        "sqlite:///file:x?mode=memory&cache=shared&uri=true",
        "sqlite:///file::memory:?cache=shared&uri=true",
    ],
)
def test_a_database_in_memory_has_no_file(url: str) -> None:
    assert is_in_memory(make_url(url))
    assert sqlite_file(make_url(url)) is None


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///study.db", "study.db"),
        ("sqlite:////tmp/memory.db", "/tmp/memory.db"),
        ("sqlite:////tmp/study.db?timeout=5", "/tmp/study.db"),
        ("sqlite:///file:study.db?uri=true", "study.db"),
        ("sqlite:///file:///tmp/study.db?uri=true", "/tmp/study.db"),
        ("sqlite:///file:/tmp/study.db?mode=rwc&uri=true", "/tmp/study.db"),
    ],
)
def test_a_database_in_a_file_is_found(url: str, path: str) -> None:
    assert sqlite_file(make_url(url)) == Path(path)
    assert not is_in_memory(make_url(url))


def test_other_databases_have_no_file_and_are_not_in_memory() -> None:
    url = make_url("postgresql://me@host/database")
    assert sqlite_file(url) is None
    assert not is_in_memory(url)


_MYSQL = "mysql" if find_spec("MySQLdb") else "mysql+pymysql"


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgresql://me:secret@host/x", "postgresql+psycopg"),
        ("postgresql+psycopg2://me@host/x", "postgresql+psycopg2"),
        ("mysql+pymysql://me@host/x", "mysql+pymysql"),
        ("mysql+mysqldb://me@host/x", "mysql+mysqldb"),
        ("mysql://me:secret@host/x", _MYSQL),
        ("mariadb://me@host/x", _MYSQL.replace("mysql", "mariadb", 1)),
        ("sqlite:///x.db", "sqlite"),
    ],
)
def test_the_driver_that_we_bring_is_taken_unless_one_is_named(url: str, driver: str) -> None:
    chosen = dialect_of(make_url(url).get_backend_name()).with_driver(make_url(url))
    assert chosen.drivername == driver
    assert chosen.set(drivername="x") == make_url(url).set(drivername="x")


def test_the_users_arguments_are_kept_and_come_first() -> None:
    sqlite = partial(dialect_of("sqlite").engine_arguments, make_url("sqlite:///x.db"))
    mysql = partial(dialect_of("mysql").engine_arguments, make_url("mysql+pymysql://host/x"))
    given = {"echo": False, "connect_args": {"check_same_thread": False}}
    arguments = sqlite(given)
    assert arguments == {
        "echo": False,
        "connect_args": {"timeout": LOCK_TIMEOUT, "check_same_thread": False},
    }
    assert given == {"echo": False, "connect_args": {"check_same_thread": False}}
    own = {"connect_args": {"timeout": 1.0}}
    assert sqlite(own) == own
    soon = {"connect_args": {"connect_timeout": 10, "read_timeout": 30, "write_timeout": 30}}
    assert mysql({"pool_size": 1}) == {
        "pool_size": 1, "pool_pre_ping": True, **soon,
    }  # fmt: skip
    assert mysql({"pool_pre_ping": False}) == {"pool_pre_ping": False, **soon}
    late = {"connect_args": {**soon["connect_args"], "connect_timeout": 60}}
    assert mysql(late) == {"pool_pre_ping": True, **late}


def test_prepared_statements_are_off_behind_which_a_pooler_may_stand() -> None:
    arguments = dialect_of("postgresql").engine_arguments(
        make_url("postgresql+psycopg://host/x"), {}
    )
    assert arguments["connect_args"]["prepare_threshold"] is None


def test_a_writing_transaction_locks_sqlite_when_it_begins(tmp_path: Path) -> None:
    url, impatient = f"sqlite:///{tmp_path}/study.db", {"connect_args": {"timeout": 0.0}}
    writing = connect_engine(url, impatient, writing=True)
    reading = connect_engine(url, impatient)
    with writing.begin():
        with pytest.raises(OperationalError, match="locked"):
            writing.connect().begin()
        with reading.connect() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar() == 0
    with writing.begin() as connection:  # the lock has been given back
        connection.exec_driver_sql("CREATE TABLE t (x)")
    writing.dispose()
    reading.dispose()


@pytest.mark.parametrize("url", ["oracle://me:secret@host/x", "mssql+pyodbc://me:secret@host/x"])
def test_a_database_that_is_not_supported_is_refused_by_name(url: str) -> None:
    for attempt in (open_rdb, BatchedRDBStorage, optuna_propulate.create_study):
        with pytest.raises(ValueError, match=r"sqlite, postgresql, mysql, mariadb.*got \w+\.$"):
            attempt(url)
