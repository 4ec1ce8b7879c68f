"""Telling systemd that a daemon does its work (WatchdogSec= in its unit)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from kubeletpy_common import logs
from kubeletpy_common.readiness import tell_alive, watchdog_seconds

_log = logging.getLogger(__name__)
SHORTEST = 1.0
"""Seconds; less than that cannot be kept on a busy machine, and the Go kubelet refuses it, too."""


async def run(tell: Callable[[], None] = tell_alive) -> None:
    """Tell twice in each interval; that the event loop comes here says that it does its work.

    However late it comes: a daemon that is slow since its machine is would be started anew again
    and again, and be slower still. A peer that is away is no fault either: a restart of the daemon
    would not bring it back.

    Args:
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
        tell()
        await asyncio.sleep(seconds / 2)
