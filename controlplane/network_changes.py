"""Hearing that this machine's addresses changed, from the kernel (rtnetlink(7))."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from kubeletpy_common import logs

_log = logging.getLogger(__name__)
_IPV4: Final = 0x10
"""RTMGRP_IPV4_IFADDR."""
_IPV6: Final = 0x100
"""RTMGRP_IPV6_IFADDR."""
_SETTLED: Final = 1.0
"""Seconds without a change after which a change is told: they come in numbers."""
_LARGEST: Final = 65536


async def follow_addresses(changed: Callable[[], Awaitable[None]]) -> None:
    """Await ``changed`` once addresses changed; for ever, or not at all if the kernel tells none.

    Raises:
        OSError: the kernel tells no more.
    """
    loop = asyncio.get_running_loop()
    try:
        endpoint = _opened()
    except OSError as error:
        # Some sandboxes let no netlink socket be made.
        logs.event(_log, logging.WARNING, "addresses of this machine are not followed",
                   reason=str(error))  # fmt: skip
        return
    with endpoint:
        while True:
            await _heard(loop, endpoint)
            while True:
                try:
                    async with asyncio.timeout(_SETTLED):
                        await _heard(loop, endpoint)
                except TimeoutError:
                    break
            await changed()


def _opened() -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    endpoint = socket.socket(socket.AF_NETLINK, kind, getattr(socket, "NETLINK_ROUTE", 0))
    try:
        endpoint.bind((0, _IPV4 | _IPV6))
    except OSError:
        endpoint.close()
        raise
    return endpoint


async def _heard(loop: asyncio.AbstractEventLoop, endpoint: socket.socket) -> None:
    try:
        await loop.sock_recv(endpoint, _LARGEST)
    except OSError as error:
        # ENOBUFS: more was told than the socket holds. That something changed is all we need.
        if error.errno != errno.ENOBUFS:
            raise
