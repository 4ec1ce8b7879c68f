"""A queue of things to look at."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from kubeletpy_common import logs
from kubeletpy_common.apiclient.errors import ApiError

from .measures import Spread, exponential

_log = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 60.0
_BOUNDS: Final = exponential(1e-8, 10, 12)

Handle = Callable[[str], Awaitable[float | None]]
"""Looks at a thing by its key; returns None, or the seconds after which to look again."""


@dataclass(slots=True)
class Counts:
    """What a queue did so far."""

    added: int = 0
    done: int = 0
    retried: int = 0
    waited: Spread = field(
        default_factory=lambda: Spread(
            "workqueue_queue_duration_seconds", "How long keys waited.", _BOUNDS, "name"
        )
    )
    worked: Spread = field(
        default_factory=lambda: Spread(
            "workqueue_work_duration_seconds", "How long looks at keys took.", _BOUNDS, "name"
        )
    )


class WorkQueue:
    """Keys that wait to be looked at: each once, by one worker at a time; failures come back.

    Args:
        name: of the controller, for the log.
        handle: looks at one.
        workers: that look at the same time.
    """

    def __init__(self, name: str, handle: Handle, workers: int = 8) -> None:
        self._name = name
        self._handle = handle
        self._workers = workers
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: set[str] = set()
        self._busy: dict[str, float] = {}
        self._again: set[str] = set()
        self._failures: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._since: dict[str, float] = {}
        self.counts = Counts()

    @property
    def name(self) -> str:
        """Of the controller."""
        return self._name

    @property
    def depth(self) -> int:
        """How many keys wait."""
        return len(self._waiting)

    @property
    def unfinished(self) -> list[float]:
        """For how many seconds each key that is looked at has been."""
        now = time.monotonic()
        return [now - begun for begun in self._busy.values()]

    def add(self, key: str) -> None:
        """Have a key looked at; once more, if that is under way."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._busy:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._since[key] = time.monotonic()
            self.counts.added += 1
            self._ready.put_nowait(key)

    def add_after(self, key: str, seconds: float) -> None:
        """Have a key looked at later, unless it is before."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if key in self._waiting or (timer is not None and timer.when() <= loop.time() + seconds):
            return
        if timer is not None:
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self._due, key)

    def wake(self) -> None:
        """Have all keys that wait for a time looked at now: the time is another than it was."""
        for key in list(self._timers):
            self.add(key)

    async def run(self) -> None:
        """Work, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._workers):
                    tasks.create_task(self._work())
        finally:
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()

    def _due(self, key: str) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def _work(self) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            begun = self._busy[key] = time.monotonic()
            self.counts.waited.add(begun - self._since.pop(key, begun), self._name)
            try:
                pause = await self._look(key)
            finally:
                del self._busy[key]
            self.counts.done += 1
            self.counts.worked.add(time.monotonic() - begun, self._name)
            if key in self._again:
                self._again.discard(key)
                self.add(key)
            elif pause is not None:
                self.add_after(key, pause)
            # A look that waited for nothing must not keep all others from their turn.
            await asyncio.sleep(0)

    async def _look(self, key: str) -> float | None:
        try:
            pause: float | None = await self._handle(key)
        except Exception as error:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            self.counts.retried += 1
            pause = min(FIRST_PAUSE * 2 ** min(failures - 1, 20), LONGEST_PAUSE)
            if isinstance(error, ApiError) and error.retry_after:
                pause = max(pause, error.retry_after)
            # Someone else wrote meanwhile: that is how it works, and no fault.
            usual = isinstance(error, ApiError) and error.reason == "Conflict"
            logs.event(
                _log,
                logging.DEBUG if usual else logging.WARNING,
                "a controller failed and tries again",
                controller=self._name,
                key=key,
                error=f"{type(error).__name__}: {error}",
                seconds=pause,
                **_where(error),
            )
            return pause
        self._failures.pop(key, None)
        return pause


def _where(error: Exception) -> dict[str, str]:
    """Return where an error came from, unless the server said all that there is to say."""
    if isinstance(error, ApiError):
        return {}
    return {"traceback": "".join(traceback.format_exception(error)[-3:])}
