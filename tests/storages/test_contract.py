"""Optuna's own contract for storages, with the writer on, on each database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from optuna.testing.pytest_storages import StorageTestCase
from support.storages import lent

from optuna_propulate.storages.batched import BatchedRDBStorage


if TYPE_CHECKING:
    from collections.abc import Iterator

WHOLE_SECONDS = (
    "MySQL keeps whole seconds, and this test compares microseconds: Optuna's own RDBStorage "
    "fails it, too."
)


@pytest.fixture(scope="class")
def opened(request: pytest.FixtureRequest) -> Iterator[BatchedRDBStorage]:
    """Return one storage for all tests of a class, which names its database."""
    url = request.getfixturevalue(request.cls.database)
    storage = BatchedRDBStorage(url, in_thread=request.cls.in_thread)
    yield storage
    storage.close()


class OnOneStorage(StorageTestCase):
    in_thread = False

    @pytest.fixture
    def storage(self, opened: BatchedRDBStorage) -> Iterator[BatchedRDBStorage]:
        yield from lent(opened)


class TestSqlite(OnOneStorage):
    database = "sqlite_of_class"


class TestPostgresql(OnOneStorage):
    database = "postgresql_of_class"


class TestMysql(OnOneStorage):
    database = "mysql_of_class"

    def test_get_trial(self, storage: BatchedRDBStorage) -> None:  # type: ignore[override]
        pytest.skip(WHOLE_SECONDS)

    def test_get_all_trials(self, storage: BatchedRDBStorage) -> None:  # type: ignore[override]
        pytest.skip(WHOLE_SECONDS)


class TestInThread(OnOneStorage):
    database = "sqlite_of_class"
    in_thread = True
