"""The writer as a thread of this process."""

from __future__ import annotations

import json
import os
import threading
from queue import SimpleQueue
from typing import Any

from optuna_propulate.storages.client.started_writer import StartedWriter
from optuna_propulate.storages.writer.serve import serve


_LAST_WORDS = 10.0  # in seconds, that the end of this process waits for the writer's


class WriterThread(StartedWriter):
    """A thread that ends with this process, which waits for what it was told."""

    def _launch(self, settings: dict[str, Any]) -> dict[str, Any]:
        said: SimpleQueue[dict[str, Any]] = SimpleQueue()
        lifeline, self._hold = os.pipe()
        copied = json.loads(json.dumps(settings))  # what a process could not be told is an error
        self._thread = threading.Thread(
            target=serve,
            args=(copied, lifeline, said.put),
            name="optuna_propulate writer",
            daemon=True,
        )
        self._thread.start()
        return said.get()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _let_go(self) -> None:
        os.close(self._hold)

    def release(self) -> None:
        super().release()
        if self._thread is not threading.current_thread():  # which may collect garbage
            self.wait(_LAST_WORDS)

    def wait(self, timeout: float | None) -> bool:
        self._thread.join(timeout)
        return not self._thread.is_alive()
