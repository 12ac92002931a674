"""Storages that several tests share: opening one starts a process."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import TypeVar


if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.storages import BaseStorage

AnyStorage = TypeVar("AnyStorage", bound="BaseStorage")


def lent(storage: AnyStorage) -> Iterator[AnyStorage]:
    """Yield a storage without studies, and delete those that its user has made."""
    assert storage.get_all_studies() == []
    yield storage
    for study in storage.get_all_studies():
        storage.delete_study(study._study_id)
