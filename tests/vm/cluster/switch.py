"""A virtual switch in a network namespace of its own: a bridge, and a tap for each machine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

GATEWAY: Final = ("192.168.121.1", "fd00:121::1")
"""The tests' own addresses on the switch: what is outside of the cluster."""
_BRIDGE: Final = "switch"


class Switch:
    """The namespace, from ``with`` to its end.

    Attributes:
        name: of the namespace, as ``ip netns`` knows it.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> Switch:
        _run(["ip", "netns", "add", self.name])
        try:
            self.ip("link", "set", "lo", "up")
            self.ip("link", "add", "name", _BRIDGE, "type", "bridge", "mcast_snooping", "0")
            for address, length in zip(GATEWAY, ("24", "64"), strict=True):
                # Without duplicate address detection the address is there at once.
                more = ("nodad",) if ":" in address else ()
                self.ip("address", "add", f"{address}/{length}", "dev", _BRIDGE, *more)
            self.ip("link", "set", _BRIDGE, "up")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _run(["ip", "netns", "delete", self.name])

    @property
    def path(self) -> Path:
        """The namespace as a file."""
        return Path("/run/netns", self.name)

    def inside(self, command: Sequence[str]) -> list[str]:
        """Return a command line that runs ``command`` in the namespace."""
        return ["nsenter", f"--net={self.path}", "--", *command]

    def ip(self, *arguments: str) -> str:
        """Run ``ip`` in the namespace."""
        return _run(self.inside(["ip", *arguments]))

    def plug(self, port: str) -> None:
        """Make a port for a machine; it exists until the switch ends."""
        if port not in {link["ifname"] for link in json.loads(self.ip("-j", "link"))}:
            self.ip("tuntap", "add", "dev", port, "mode", "tap")
            self.ip("link", "set", port, "master", _BRIDGE)
        self.ip("link", "set", port, "up")

    def cut(self, port: str) -> None:
        """Pull the cable of a port; :meth:`plug` puts it back."""
        self.ip("link", "set", port, "down")


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
