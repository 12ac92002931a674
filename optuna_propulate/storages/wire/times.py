"""Local times as the naive UTC that Optuna stores, and back."""

from __future__ import annotations

import time
from datetime import datetime
from datetime import timedelta
from datetime import timezone


def utc(local: datetime | None) -> str | None:
    """Return a naive local time as the naive UTC that Optuna stores, in ISO format."""
    if local is None:
        return None
    return (local - _clock.offset(local)).isoformat(sep=" ", timespec="microseconds")


class _Clock:
    """Remembers by how much local time is ahead of UTC; it changes at full quarters of an hour."""

    def __init__(self) -> None:
        self._known = (datetime.min, datetime.min, timedelta(), time.tzname)
        self._known_in_utc = (datetime.min, datetime.min, timedelta(), False, time.tzname)

    def offset(self, local: datetime) -> timedelta:
        """Return by how much a naive local time is ahead of UTC."""
        begin, end, offset, zone = self._known
        if begin <= local < end and not local.fold and zone is time.tzname:  # new after tzset
            return offset
        offset = local - local.astimezone(timezone.utc).replace(tzinfo=None)
        if not local.fold:
            begin = _quarter(local)
            self._known = (begin, begin + timedelta(minutes=15), offset, time.tzname)
        return offset

    def local(self, universal: datetime) -> datetime:
        """Return the naive local time of a naive UTC time."""
        begin, end, offset, is_second, zone = self._known_in_utc
        if not begin <= universal < end or zone is not time.tzname:
            begin = _quarter(universal)
            aware = begin.replace(tzinfo=timezone.utc)
            naive = aware.astimezone().replace(tzinfo=None)
            offset = naive - begin
            is_second = naive.astimezone(timezone.utc) != aware  # of two, as clocks were put back
            end = begin + timedelta(minutes=15)
            self._known_in_utc = (begin, end, offset, is_second, time.tzname)
        naive = universal + offset
        return naive.replace(fold=1) if is_second else naive


def _quarter(instant: datetime) -> datetime:
    """Return the last full quarter of an hour."""
    return instant.replace(minute=instant.minute // 15 * 15, second=0, microsecond=0)


_clock = _Clock()


def local(universal: datetime | None) -> datetime | None:
    """Return the naive local time of a naive UTC time."""
    return None if universal is None else _clock.local(universal)
