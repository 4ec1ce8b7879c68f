"""Daemons that end by themselves are started again, as systemd would with ``Restart=always``."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from kubeletpy.up.daemons import Daemon
from kubeletpy.up.errors import UpError

MOST: Final = 5
WINDOW: Final = 60.0
"""A daemon that ends so often within so many seconds is given up."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds before a start: at the first end, and doubled with each further one within the window."""
_START_SECONDS: Final = 30.0


class Keeper:
    """Keeps daemons running.

    Args:
        daemons: that run.
        say: tells people.
    """

    def __init__(self, daemons: Iterable[Daemon], say: Callable[[str], None]) -> None:
        self._daemons = list(daemons)
        self._say = say

    async def run(self) -> None:
        """Work, until cancelled.

        Raises:
            UpError: a daemon ends again and again, or cannot be started.
        """
        keeping = [asyncio.create_task(self._keep(daemon)) for daemon in self._daemons]
        try:
            done, _ = await asyncio.wait(keeping, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)

    async def _keep(self, daemon: Daemon) -> None:
        ends: deque[float] = deque(maxlen=MOST)
        while True:
            await daemon.wait()
            now = time.monotonic()
            recent = sum(now - end < WINDOW for end in ends)
            if recent == MOST:
                raise UpError(f"{daemon.obituary()}\nIt ended {MOST} times within {WINDOW:.0f} s.")
            ends.append(now)
            self._say(f"{daemon.ending()}; it is started again")
            await asyncio.sleep(min(FIRST_PAUSE * 2**recent, LONGEST_PAUSE))
            await daemon.start()
            if daemon.tells_ready:
                await self._ready(daemon)

    async def _ready(self, daemon: Daemon) -> None:
        try:
            await daemon.ready(_START_SECONDS)
        except UpError:
            # One that ended meanwhile is an end like others.
            if daemon.running:
                raise
