"""A second host, with a network that can be cut: a network namespace of this machine."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress

from support.servers import MissingError
from support.servers import program


class SecondHost:
    """A namespace that reaches this one over a pair of virtual interfaces.

    Raises:
        MissingError: If this user, or this machine, cannot make one.

    Attributes:
        here: The address by which the second host reaches this one.
        command: What a command begins with that runs there.
    """

    def __init__(self) -> None:
        self._ip = program("ip")
        self._name = f"propulate{os.getpid()}"
        self._link = f"pr{os.getpid()}"  # fifteen letters at most
        network = f"10.77.{os.getpid() % 256}"
        self.here = f"{network}.1"
        self.command = [self._ip, "netns", "exec", self._name]
        try:
            self._run("netns", "add", self._name)
            self._run("link", "add", self._link, "type", "veth", "peer", "name", "far",
                      "netns", self._name)  # fmt: skip
            self._run("addr", "add", f"{self.here}/24", "dev", self._link)
            self._run("link", "set", self._link, "up")
            self._run("-n", self._name, "addr", "add", f"{network}.2/24", "dev", "far")
            for device in ("lo", "far"):
                self._run("-n", self._name, "link", "set", device, "up")
        except subprocess.CalledProcessError as error:
            self.close()
            raise MissingError(f"No network namespace can be made: {error.stderr}") from None

    def cut(self) -> None:
        """Let nothing through, in either direction; connections are not told."""
        self._run("link", "set", self._link, "down")

    def heal(self) -> None:
        self._run("link", "set", self._link, "up")

    def close(self) -> None:
        """Let nothing be left of it, also where it could not be made."""
        with suppress(subprocess.CalledProcessError):
            self._run("link", "del", self._link)
        with suppress(subprocess.CalledProcessError):
            self._run("netns", "del", self._name)

    def _run(self, *arguments: str) -> None:
        command = [self._ip, *arguments]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=10)
