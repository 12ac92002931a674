"""A throttle: what may come to take long, such as reading a whole study, is done less often."""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Iterator

_SHARE = 0.02  # of the time, at most, goes into it


class Throttle:
    """Lets one thread at a time do something every ``interval`` seconds, or less often.

    Less often where it takes so long that it would take more than a fiftieth of the time.

    Args:
        interval: Seconds between the end of one turn and the next.
        wait: Seconds before the first turn.
    """

    def __init__(self, interval: float, *, wait: float = 0.0) -> None:
        self._interval = interval
        self._lock = threading.Lock()
        self._next = time.monotonic() + wait

    @contextmanager
    def turn(self, *, now: bool = False) -> Iterator[bool]:
        """Yield whether it is time, or is to be done ``now``; the block is the turn."""
        started = time.monotonic()
        with self._lock:
            is_due = now or started >= self._next
            if is_due:
                self._next = math.inf  # for the other threads
        try:
            yield is_due
        finally:
            if is_due:
                ended = time.monotonic()
                self._next = ended + max(self._interval, (ended - started) / _SHARE)
