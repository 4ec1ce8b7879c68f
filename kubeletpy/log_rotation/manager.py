"""When logs are rotated: by their size, looked at the sooner the faster they grow."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kubeletpy.cri.client import CriError
from kubeletpy_common import logs

from .rotation import make_room, move_aside

_log = logging.getLogger(__name__)
SHORTEST = 0.25
"""Seconds between two looks at the sizes at least."""
_FIRST = 1.0
"""Seconds that a log that is seen for the first time is taken to have existed."""


class LogService(Protocol):
    """What is needed of the runtime."""

    async def reopen_container_log(self, container_id: str) -> None:
        """Open the log file anew."""


@dataclass(frozen=True)
class Log:
    """The log of a running container."""

    container_id: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How large a log may become, how many files it has, who works, how often is looked.

    Attributes:
        maximum_size: bytes; negative: nothing is rotated.
        maximum_files: of one container, the one being written included.
        workers: logs that are rotated at the same time.
        interval: seconds between looks at logs that do not grow fast.
    """

    maximum_size: int = 10 * 2**20
    maximum_files: int = 5
    workers: int = 1
    interval: float = 10.0


@dataclass
class _Seen:
    size: int
    at: float
    due: float
    failures: int = 0


def next_look(size: int, before: int, elapsed: float, policy: Policy) -> float:
    """Return in how many seconds a log is to be looked at again (pure).

    At its present speed it reaches the limit in that time, or it is looked at after the interval.
    """
    grown = size - before
    if grown <= 0 or elapsed <= 0:
        return policy.interval
    left = max(policy.maximum_size - size, 0) * elapsed / grown
    return min(max(left, SHORTEST), policy.interval)


class LogRotator:
    """Rotates the logs of all running containers.

    Args:
        service: the runtime.
        policy: see `Policy`.
        running: returns the logs of all running containers.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        service: LogService,
        policy: Policy,
        running: Callable[[], Sequence[Log]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._policy = policy
        self._running = running
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._workers = asyncio.Semaphore(max(policy.workers, 1))
        self._bell = asyncio.Event()

    def ring(self) -> None:
        """Look soon: a container may have started."""
        self._bell.set()

    async def run(self) -> None:
        """Look until cancelled; ends at once if nothing shall be rotated."""
        if self._policy.maximum_size < 0:
            return
        while True:
            self._bell.clear()
            pause = await self.look()
            try:
                async with asyncio.timeout(pause):
                    await self._bell.wait()
            except TimeoutError:
                continue
            # What happens together is looked at together.
            await asyncio.sleep(SHORTEST)

    async def look(self) -> float:
        """Look at the logs that are due, rotate those that are too large; return when to again."""
        now = self._clock()
        logs_now = {one.container_id: one for one in self._running()}
        for gone in self._seen.keys() - logs_now.keys():
            del self._seen[gone]
        large = [one for one in logs_now.values() if self._too_large(one, now)]
        if large:
            await asyncio.gather(*(self._rotate(one) for one in large))
        due = min((one.due for one in self._seen.values()), default=now + self._policy.interval)
        return min(max(due - self._clock(), SHORTEST), self._policy.interval)

    def _too_large(self, one: Log, now: float) -> bool:
        seen = self._seen.get(one.container_id)
        if seen is not None and now < seen.due:
            return False
        try:
            size = os.stat(one.path).st_size
        except FileNotFoundError:
            # Somebody took it away: the runtime writes to a file without a name.
            self._seen[one.container_id] = _Seen(0, now, now + self._policy.interval)
            return True
        except OSError:
            return False
        before = seen or _Seen(0, now - _FIRST, now)
        pause = next_look(size, before.size, now - before.at, self._policy)
        self._seen[one.container_id] = _Seen(size, now, now + pause, before.failures)
        return size >= self._policy.maximum_size

    async def _rotate(self, one: Log) -> None:
        async with self._workers:
            try:
                await self._rotate_now(one)
            except (OSError, CriError) as error:
                seen = self._seen.get(one.container_id)
                if seen is not None:
                    seen.failures += 1
                    seen.due = self._clock() + self._policy.interval
                logs.event(
                    _log, logging.WARNING, "log not rotated", container=one.container_id,
                    path=str(one.path), reason=str(error),
                )  # fmt: skip
            else:
                now = self._clock()
                self._seen[one.container_id] = _Seen(0, now, now + SHORTEST)

    async def _rotate_now(self, one: Log) -> None:
        """Rotate one log.

        Raises:
            OSError, CriError: the log is written to where it was, or what was written is kept
                under the new name.
        """
        if not one.path.exists():
            await self._service.reopen_container_log(one.container_id)
            return
        await asyncio.to_thread(make_room, one.path, self._policy.maximum_files)
        try:
            rotated = await asyncio.to_thread(move_aside, one.path)
        except FileExistsError:
            # Rotated in this very second already: names have no more than that.
            await asyncio.sleep(1.0 - time.time() % 1.0)
            rotated = await asyncio.to_thread(move_aside, one.path)
        try:
            await self._service.reopen_container_log(one.container_id)
        except CriError:
            # It goes on writing to the file under its new name: give it the old one back.
            if not one.path.exists():
                with contextlib.suppress(OSError):
                    rotated.rename(one.path)
            raise
