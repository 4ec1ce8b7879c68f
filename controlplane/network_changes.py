"""Hearing that this machine's addresses changed, from the kernel (rtnetlink(7))."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Final

_IPV4: Final = 0x10
"""RTMGRP_IPV4_IFADDR."""
_IPV6: Final = 0x100
"""RTMGRP_IPV6_IFADDR."""
_SETTLED: Final = 1.0
"""Seconds without a change after which a change is told: they come in numbers."""
_LARGEST: Final = 65536


async def follow_addresses(changed: Callable[[], Awaitable[None]]) -> None:
    """Await ``changed`` once addresses changed; for ever.

    Raises:
        OSError: the kernel does not tell.
    """
    loop = asyncio.get_running_loop()
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
        getattr(socket, "NETLINK_ROUTE", 0),
    ) as heard:  # fmt: skip
        heard.bind((0, _IPV4 | _IPV6))
        while True:
            await _heard(loop, heard)
            while True:
                try:
                    async with asyncio.timeout(_SETTLED):
                        await _heard(loop, heard)
                except TimeoutError:
                    break
            await changed()


async def _heard(loop: asyncio.AbstractEventLoop, endpoint: socket.socket) -> None:
    try:
        await loop.sock_recv(endpoint, _LARGEST)
    except OSError as error:
        # ENOBUFS: more was told than the socket holds. That something changed is all we need.
        if error.errno != errno.ENOBUFS:
            raise
