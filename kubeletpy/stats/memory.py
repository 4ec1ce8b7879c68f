"""Answers of blocking calls, each made once for all who ask at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from kubeletpy.blocking import Blocking

_T = TypeVar("_T")


class Memory(Generic[_T]):
    """What blocking calls found, by what they are about.

    Args:
        what: the calls do, for errors.
        timeout: seconds that one may take; one that hangs keeps its thread, and gives no answer.
    """

    def __init__(self, what: str, timeout: float) -> None:
        self._what = what
        self._timeout = timeout
        self._blocking = Blocking()
        self._kept: dict[str, tuple[float, _T]] = {}
        self._asked: dict[str, asyncio.Task[_T | None]] = {}

    async def get(self, key: str, call: Callable[[], _T], good: float) -> _T | None:
        """Return what a call finds; None if it fails, or does not end in time.

        Args:
            key: what it is about.
            call: blocks.
            good: seconds for which an earlier answer is good.
        """
        kept = self._kept.get(key)
        if kept is not None and time.monotonic() - kept[0] < good:
            return kept[1]
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.create_task(self._call(key, call))
            task.add_done_callback(lambda _: self._asked.pop(key, None))
        return await asyncio.shield(task)

    async def _call(self, key: str, call: Callable[[], _T]) -> _T | None:
        try:
            found = await self._blocking.run(key, self._what, self._timeout, call)
        except (OSError, TimeoutError):
            return None
        self._kept[key] = (time.monotonic(), found)
        return found

    def forget(self, seconds: float) -> None:
        """Forget answers that are older than this."""
        before = time.monotonic() - seconds
        self._kept = {key: kept for key, kept in self._kept.items() if kept[0] >= before}
