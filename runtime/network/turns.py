"""Work for one sandbox is done one after the other, and goes on if its caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

Result = TypeVar("Result")


class Turns:
    """The work under way; to be used in the event loop's thread."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[Any]] = set()
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    def spawn(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Start ``work``, to be awaited by ``asyncio.shield`` and at last by :meth:`drain`."""
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def drain(self) -> None:
        """Return when no work is left."""
        while self.tasks:
            await asyncio.wait(set(self.tasks))

    def busy(self) -> set[str]:
        """Return the sandboxes that somebody works on or waits for."""
        return set(self._locks)

    @asynccontextmanager
    async def exclusive(self, sandbox_id: str) -> AsyncIterator[None]:
        """Hold the sandbox's lock, which exists while somebody holds or awaits it."""
        lock, users = self._locks.get(sandbox_id, (asyncio.Lock(), 0))
        self._locks[sandbox_id] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[sandbox_id]
            if users == 1:
                del self._locks[sandbox_id]
            else:
                self._locks[sandbox_id] = (lock, users - 1)
