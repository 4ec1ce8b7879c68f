"""Telling systemd that a daemon does its work (WatchdogSec= in its unit)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from kubeletpy_common import logs
from kubeletpy_common.readiness import tell_alive, watchdog_seconds

_log = logging.getLogger(__name__)
SHORTEST = 1.0
"""Seconds; less than that cannot be kept on a busy machine, and the Go kubelet refuses it, too."""


async def run(check: Callable[[], Awaitable[str]], tell: Callable[[], None] = tell_alive) -> None:
    """Tell twice in each interval, as long as ``check`` finds nothing wrong.

    Args:
        check: returns what is wrong with the daemon itself; a peer that is away is not: a restart
            of the daemon would not bring it back.
        tell: tells systemd.
    """
    try:
        seconds = watchdog_seconds()
    except ValueError as error:
        logs.event(_log, logging.ERROR, "watchdog is off", reason=str(error))
        return
    if not seconds:
        return
    if seconds <= SHORTEST:
        logs.event(_log, logging.ERROR, "watchdog is off: WatchdogSec= is too short", s=seconds)
        return
    while True:
        fault = await check()
        if fault:
            logs.event(_log, logging.ERROR, "systemd is not told that all is well", reason=fault)
        else:
            tell()
        await asyncio.sleep(seconds / 2)
