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

    _hold = -1  # the end of the lifeline that this process holds

    def _launch(self, settings: dict[str, Any]) -> dict[str, Any]:
        self._let_go()  # of that of one that has ended
        said: SimpleQueue[dict[str, Any]] = SimpleQueue()
        copied = json.loads(json.dumps(settings))  # what a process could not be told is an error
        lifeline, self._hold = os.pipe()

        def run() -> None:
            try:
                serve(copied, lifeline, said.put)
            finally:  # whatever ended it, nobody waits for its first word
                said.put({"error": ["StorageInternalError", "What writes has ended at once."]})

        self._thread = threading.Thread(target=run, name="optuna_propulate writer", daemon=True)
        self._thread.start()
        return said.get()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _let_go(self) -> None:
        hold, self._hold = self._hold, -1
        if hold >= 0:
            os.close(hold)

    def release(self) -> None:
        super().release()
        if self._thread is not threading.current_thread():  # which may collect garbage
            self.wait(_LAST_WORDS)

    def wait(self, timeout: float | None) -> bool:
        self._thread.join(timeout)
        return not self._thread.is_alive()
