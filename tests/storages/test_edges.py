"""Edges of the storage: claims that come late, forks, folders, file systems."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState
from optuna.trial import create_trial
from storages.test_cache import others  # noqa: F401
from storages.test_writer import ANSWER_TO_LIST
from storages.test_writer import LIST
from storages.test_writer import PATIENCE
from storages.test_writer import Client
from storages.test_writer import children
from storages.test_writer import is_running
from storages.test_writer import started
from storages.test_writer import within

from optuna_propulate.storages.batched import BatchedRDBStorage
from optuna_propulate.storages.client import live
from optuna_propulate.storages.client.writer_process import WriterProcess
from optuna_propulate.storages.sql.file_systems import file_system_of
from optuna_propulate.storages.sql.file_systems import is_network
from optuna_propulate.storages.wire.changes import Change
from optuna_propulate.storages.wire.times import local
from optuna_propulate.storages.wire.times import utc
from optuna_propulate.storages.writer import database as writer_database
from optuna_propulate.storages.writer.database import Database
from optuna_propulate.storages.writer.jobs import BEAT_EVERY
from optuna_propulate.storages.writer.jobs import UndecidedError


# test_cache.py


def test_several_trials_that_move_by_one_are_all_seen(others):  # noqa: F811
    for value in (0.1, 0.2, 0.3):
        others.add(value)
    assert others.seen() == {0: 0.1, 1: 0.2, 2: 0.3}
    others.run(0)
    assert others.seen() == others.there() == {0: 0.0, 1: 0.1, 2: 0.2, 3: 0.3}


def test_a_trial_that_settles_on_a_number_kept_free_for_it_is_seen_there_alone(others):  # noqa: F811
    others.add(0.5)
    others.run(1)
    assert others.seen() == others.there() == {0: None, 1: 1.0, 2: 0.5}
    others.settle(0)
    assert others.seen() == others.there() == {0: 0.5, 1: 1.0}


# test_database.py


def test_no_more_numbers_are_claimed_than_trials_float(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    plain = RDBStorage(url)
    study_id = plain.create_new_study([StudyDirection.MINIMIZE])
    database = Database(url, None)
    database.call("begin", [study_id, None, None])
    asked = []
    for _ in range(2):
        plain.create_new_trial(study_id, create_trial(value=0.5))
        asked += [news[2] for news in database.poll() if news[0] == "claim"]
    for number in range(2):  # the answers come one by one
        database.claimed(study_id, [number])
        asked += [news[2] for news in database.poll() if news[0] == "claim"]
    database.close()
    assert asked == [1, 1]


def test_a_number_that_was_claimed_survives_a_trial_that_is_refused(postgresql: str) -> None:
    plain = RDBStorage(postgresql.replace("postgresql:", "postgresql+psycopg:"))
    study_id = plain.create_new_study([StudyDirection.MINIMIZE])
    database = Database(postgresql, None)
    base, place = database.call("begin", [study_id, None, None])[0][:2]
    plain.create_new_trial(study_id, create_trial(value=0.5))
    now = utc(datetime.now())
    database.write(study_id, base, place, [Change(1, None, "RUNNING", now, None)])
    database.claimed(study_id, [0])
    unfit = Change(1, None, "RUNNING", now, None, steps=[(2**40, 1.0)])
    news, refused = database.write(study_id, base, place, [unfit])
    database.close()
    assert [kind for kind, *_ in news] == ["refused"]
    assert [change for change, _ in refused] == [unfit]
    trials = plain.get_all_trials(study_id)
    assert sorted((trial.number, trial.value) for trial in trials) == [(0, 0.5), (1, None)]


def test_what_others_wrote_about_a_row_that_kept_a_number_free_stays(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    plain = RDBStorage(url)
    study_id = plain.create_new_study([StudyDirection.MINIMIZE])
    database = Database(url, None)
    base, place = database.call("begin", [study_id, None, None])[0][:2]
    now = utc(datetime.now())
    database.write(study_id, base, place, [Change(1, None, "RUNNING", now, None)])
    identity = plain.get_trial_id_from_study_id_trial_number(study_id, 0)
    plain.set_trial_user_attr(identity, "note", "mine")
    plain.set_trial_user_attr(identity, "island", 7)
    user = {"island": "0", "worker": "1"}
    told = Change(0, None, "COMPLETE", now, now, values=[0.5], user=user)
    database.write(study_id, base, place, [told, Change(1, None, "FAIL", now, now)])
    database.close()
    first, second = plain.get_all_trials(study_id)
    assert (first.value, second.state) == (0.5, TrialState.FAIL)
    assert first.user_attrs == {"note": "mine", "island": 0, "worker": 1}


# test_engine.py


def test_a_mount_point_may_have_any_name() -> None:
    mounts = "disk / ext4 rw 0 0\nserver:/x /größe nfs4 rw 0 0\n"
    assert file_system_of(Path("/größe/study.db"), mounts) == "nfs4"


@pytest.mark.parametrize(
    "kind", ["fuse.ceph-fuse", "fuse.juicefs", "fuse.rclone", "fuse.dfuse", "dvs", "wekafs"]
)
def test_more_file_systems_of_clusters_are_network(kind: str) -> None:
    assert is_network(kind)


# test_protocol.py, where the condition `if not _folded(there)` then goes


def test_the_hour_that_comes_twice_is_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    try:
        there = datetime(2024, 10, 27, 1, 30)  # 2:30 for the second time
        assert utc(local(there)) == there.isoformat(sep=" ", timespec="microseconds")
    finally:
        monkeypatch.undo()
        time.tzset()


# test_writer.py


def test_no_folder_is_left_when_the_database_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(StorageInternalError):
        WriterProcess("postgresql://me@localhost:1/x", None, 1.0)
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_folder_may_have_a_path_longer_than_a_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with started(f"sqlite:///{tmp_path}/study.db") as writer:
        with Client(writer.addresses[0]).prove(writer.token) as rank:
            assert rank.ask(LIST) == ANSWER_TO_LIST


def test_modules_in_the_working_folder_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sqlalchemy.py").write_text("raise SystemExit('from the working folder')")
    monkeypatch.chdir(tmp_path)
    with started(f"sqlite:///{tmp_path}/study.db") as writer:
        assert writer.addresses


FORK_AND_DIE = """
import os, sys, time
from optuna_propulate import BatchedRDBStorage
storage = BatchedRDBStorage(sys.argv[1])
child = os.fork()
if child == 0:
    os.close(1)
    time.sleep(1000)
print(child, flush=True)
time.sleep(1000)
"""


def test_a_child_that_outlives_its_killed_parent_does_not_keep_the_writer(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    command = [sys.executable, "-c", FORK_AND_DIE, url]
    starter = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    child = int(starter.stdout.readline())
    (writer,) = set(children(starter.pid)) - {child}
    starter.kill()
    starter.wait()
    try:
        assert within(PATIENCE, lambda: not is_running(writer))
    finally:
        os.kill(child, 9)


FORK_WHILE_SENDING = """
import os, signal, sys, threading
from optuna_propulate import BatchedRDBStorage
storage = BatchedRDBStorage(sys.argv[1])

def fork():
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # ends a child that hangs
        storage.get_all_studies()
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)

with storage._client._buffer.connection._sending, storage._lock:
    thread = threading.Thread(target=fork)
    thread.start()
    thread.join()
"""


def test_a_child_forked_while_another_thread_sends_does_not_hang(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORK_WHILE_SENDING, f"sqlite:///{tmp_path}/study.db"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "7\n"


def test_a_study_that_was_written_and_is_deleted_does_not_end_the_writer(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    storage = BatchedRDBStorage(url)
    first = optuna.create_study(storage=storage, study_name="first")
    first.tell(first.ask(), 1.0)
    storage.flush()
    optuna.delete_study(study_name="first", storage=storage)
    writer = storage._client._handle._started._process
    deadline = time.monotonic() + 2 * BEAT_EVERY
    while time.monotonic() < deadline:  # it shows that it lives, of studies that there are
        assert writer.poll() is None
        time.sleep(0.1)
    second = optuna.create_study(storage=storage, study_name="second")  # with the same id, perhaps
    assert second.ask().number == 0
    storage.close()


def test_a_database_that_goes_away_while_a_study_begins_does_not_end_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_database, "BEAT_EVERY", 0.0)
    path, aside = tmp_path / "study.db", tmp_path / "aside.db"
    study_id = RDBStorage(f"sqlite:///{path}").create_new_study([StudyDirection.MINIMIZE])
    database = Database(f"sqlite:///{path}", None, job="a")
    sa.event.listen(database._engine, "commit", lambda _: path.rename(aside), once=True)
    with pytest.raises(UndecidedError):
        database.call("begin", [study_id, None, None])
    database.beat()
    aside.rename(path)
    ((base, is_late, blocks, first_worker), *_), _ = database.call("begin", [study_id, None, None])
    assert (base, is_late, blocks, first_worker) == (0, False, [], 0)
    database.close()


def test_attributes_that_no_message_holds_together_fail_where_they_are_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_LARGEST", 2000)
    storage = BatchedRDBStorage(f"sqlite:///{tmp_path}/study.db", flush_interval=60.0)
    study = optuna.create_study(storage=storage, study_name="s")
    trial = study.ask()
    trial.set_user_attr("first", "a" * 1000)
    with pytest.raises(ValueError, match="between two flushes"):
        trial.set_user_attr("second", "b" * 1000)
    with pytest.raises(ValueError, match="between two flushes"):
        study.add_trial(optuna.trial.create_trial(value=0.0, user_attrs={"a": "a" * 3000}))
    study.tell(trial, 1.0)
    storage.close()
    (read,) = optuna.load_study(
        study_name="s", storage=f"sqlite:///{tmp_path}/study.db"
    ).get_trials(states=[TrialState.COMPLETE])
    assert read.user_attrs == {"first": "a" * 1000}
