"""Ports for daemons that somebody starts: free, and likely to stay so until they listen."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Final

_LOOPBACK: Final = "127.0.0.1"
_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST: Final = 11_000
"""Those of kubelets, proxies and schedulers are below."""
_NODE_PORTS: Final = 30_000
_TRIES: Final = 200


def ports_to_choose_from(ephemeral: str) -> range:
    """Return the ports that nothing takes by itself.

    The kernel gives those of the range of ephemeral ports (ip(7), ``ip_local_port_range``) to any
    connection that goes out, and the API server those from 30000 to Services: one of these may be
    free when it is looked at and taken when its daemon listens.

    Args:
        ephemeral: that range, as /proc tells it: "first last".
    """
    words = ephemeral.split()
    first = int(words[0]) if words and words[0].isdigit() else _NODE_PORTS
    return range(_FIRST, max(_FIRST, min(first, _NODE_PORTS)))


def free_ports(count: int) -> list[int]:
    """Return that many ports of loopback, all different, on which nobody listens by TCP or UDP."""
    try:
        wanted = ports_to_choose_from(_EPHEMERAL.read_text())
    except OSError:
        wanted = ports_to_choose_from("")
    found: list[int] = []
    with ExitStack() as held:
        for port in random.sample(wanted, min(_TRIES + count, len(wanted))):
            if len(found) == count:
                return found
            if _take(port, held):
                found.append(port)
        # All of them are ephemeral here, or taken: one that the kernel gives is as good.
        while len(found) < count:
            one = held.enter_context(socket.socket())
            one.bind((_LOOPBACK, 0))
            found.append(int(one.getsockname()[1]))
    return found


def free_port() -> int:
    """Return one of `free_ports`."""
    return free_ports(1)[0]


def _take(port: int, held: ExitStack) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        one = held.enter_context(socket.socket(socket.AF_INET, kind))
        try:
            one.bind((_LOOPBACK, port))
        except OSError:
            return False
    return True
