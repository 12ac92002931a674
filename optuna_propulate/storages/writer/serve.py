"""How the writer starts, as a process of its own or as a thread, and how it ends."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import socket
import sys
from contextlib import ExitStack
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import optuna

from optuna_propulate.storages.writer.database import Database
from optuna_propulate.storages.writer.folder import hold
from optuna_propulate.storages.writer.folder import remove
from optuna_propulate.storages.writer.service import Writer
from optuna_propulate.storages.writer.spill import Spill


if TYPE_CHECKING:
    from collections.abc import Callable


def listen(folder: Path, port: int | None) -> tuple[list[socket.socket], list[Any]]:
    """Return the sockets to listen on, and their addresses.

    Args:
        folder: Where the Unix socket lies; nobody else may enter it.
        port: Where ranks on other nodes connect, 0 for any that is free; ``None`` for nowhere.
    """
    path = str(folder / "writer")
    (folder / "writer").unlink(missing_ok=True)  # a writer before this one was killed
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listeners, addresses = [listener], [path]  # type: list[socket.socket], list[Any]
    if port is not None:
        listeners.append(socket.create_server(("", port)))
        addresses.append([socket.gethostname(), listeners[1].getsockname()[1]])
    for each in listeners:
        each.listen(4096)
    return listeners, addresses


def serve(settings: dict[str, Any], lifeline: int, say: Callable[[dict[str, Any]], None]) -> None:
    """Say where it listens, or why it cannot, and serve until nobody needs it.

    Args:
        settings: As ``StartedWriter`` has them.
        lifeline: A file descriptor that ends when rank 0's process does; it is closed.
        say: Called once, with the addresses or with what opening the database raised.
    """
    folder = Path(settings["folder"])
    with ExitStack() as stack:
        stack.callback(os.close, lifeline)
        stack.callback(os.close, hold(folder))
        try:
            database = Database(
                settings["url"],
                settings["engine_kwargs"],
                settings["retry"],
                settings["job"],
                n_workers=settings["n_workers"],
                is_known=settings["is_known"],
                file=settings["file"] and tuple(settings["file"]),
                starter=settings["starter"],
            )
            stack.callback(database.close)
            listeners, addresses = listen(folder, settings["port"])
        except Exception as error:  # whatever it is, it is raised in the process that waits for it
            say({"error": [type(error).__name__, str(error)]})
            return
        stack.callback(remove, folder)
        say({"addresses": addresses, "note": database.note, "file": database.file})
        refresh, commit = settings["refresh_interval"], settings["commit_timeout"]
        spill = Spill(Path(settings["spill_folder"]), settings["job"])
        token = settings["token"]
        writer = Writer(database, listeners, token, refresh, commit, lifeline, spill)
        stack.callback(writer.close)
        writer.run()


def main() -> None:
    """Serve as a process: the standard input has the settings, and then is the lifeline."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # a lost connection is ours
    _allow_many_connections()
    serve(json.loads(sys.stdin.readline()), os.dup(sys.stdin.fileno()), _say)


def _allow_many_connections() -> None:
    """Let this process have as many descriptors as the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _say(answer: dict[str, Any]) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")
    os.close(1)
