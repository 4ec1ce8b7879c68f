"""Telling whoever started a daemon that it serves, by the protocol of systemd.

Source: sd_notify(3), sd_watchdog_enabled(3). A service with ``Type=notify`` waits for this, and so
does ``kubeletpy up``.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Final

VARIABLE: Final = "NOTIFY_SOCKET"
READY: Final = "READY=1"
ALIVE: Final = "WATCHDOG=1"
_WATCHDOG, _WATCHDOG_PID = "WATCHDOG_USEC", "WATCHDOG_PID"


def tell_ready(status: str) -> None:
    """Say that this process serves; nothing happens if nobody asked to hear it.

    Args:
        status: one line for people, such as the address that is listened on.
    """
    _send(f"{READY}\nSTATUS={status}\n")


def tell_alive() -> None:
    """Say that this process still does its work."""
    _send(f"{ALIVE}\n")


def watchdog_seconds() -> float:
    """Return within how many seconds `tell_alive` is expected again and again; 0: not at all.

    Raises:
        ValueError: what systemd says is no number.
    """
    text = os.environ.get(_WATCHDOG, "")
    if not text or os.environ.get(_WATCHDOG_PID, "") not in ("", str(os.getpid())):
        return 0.0
    return max(int(text), 0) / 1e6


def tell_stopping() -> None:
    """Say that this process is about to end."""
    _send("STOPPING=1\n")


def _send(text: str) -> None:
    path = os.environ.get(VARIABLE, "")
    if not path.startswith(("/", "@")):
        return
    address = f"\0{path[1:]}" if path[0] == "@" else path
    # Who asked may be gone, and must never hold us up.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(text.encode(), address)
