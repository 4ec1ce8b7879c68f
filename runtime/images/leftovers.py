"""What failed pulls leave behind, and when it goes.

A pull that failed for a reason that may pass (the registry was down, the connection broke, the
caller went away) is likely to be tried again: what it has brought in by then saves the next try
that part. It is kept for some time, then collected. After any other failure it is of no use.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from kubeletpy_common.logs import event
from runtime.images.errors import ImageError, NoSpace

log = logging.getLogger(__name__)


def is_worth_keeping(error: ImageError) -> bool:
    """Tell whether a next try may use what a pull that failed so has brought in.

    On a full disk nothing is kept: others need the room.
    """
    return error.transient and not isinstance(error, NoSpace)


class Leftovers:
    """Runs a garbage collection some time after the last failed pull."""

    def __init__(self, seconds: float, collect: Callable[[], Awaitable[int]]) -> None:
        """Prepare.

        Args:
            seconds: from a failed pull to the collection; a later failure puts it off.
            collect: does it, and returns the bytes that were freed.
        """
        self._seconds = seconds
        self._collect = collect
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def collect_later(self) -> None:
        """Have the garbage collected when the time is over."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._closed:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._start)

    def _start(self) -> None:
        self._timer = None
        task = asyncio.create_task(self._run(), name="image leftovers")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        try:
            freed = await self._collect()
        except ImageError as error:
            event(log, logging.ERROR, "cannot remove what failed pulls have left", why=str(error))
            return
        event(log, logging.INFO, "what failed pulls had left was removed", freed=freed)

    async def close(self) -> None:
        """Forget about it: the next start collects garbage anyway."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
