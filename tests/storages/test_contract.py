"""Optuna's own contract for storages, with the writer on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from optuna.testing.pytest_storages import StorageTestCase

from optuna_propulate.storages.batched import BatchedRDBStorage


if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class TestSqlite(StorageTestCase):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[BatchedRDBStorage]:
        storage = BatchedRDBStorage(f"sqlite:///{tmp_path}/study.db")
        yield storage
        storage.close()


class TestPostgresql(StorageTestCase):
    @pytest.fixture
    def storage(self, postgresql: str) -> Iterator[BatchedRDBStorage]:
        storage = BatchedRDBStorage(postgresql)
        yield storage
        storage.close()
