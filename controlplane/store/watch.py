"""One watcher's view of the changes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from controlplane.store.model import Change, CompactedError


class Watch:
    """The changes below a prefix, from a revision on, one after the other without gap.

    Iterate over it; :meth:`close` ends the iteration. A watcher that falls too far behind gets a
    :class:`CompactedError`, as it would by coming back too late.
    """

    def __init__(
        self, prefix: str, backlog: list[Change], limit: int, forget: Callable[[Watch], None]
    ) -> None:
        self.prefix = prefix
        self._queue: deque[Change] = deque(backlog)
        self._limit = limit
        self._forget = forget
        self._wake = asyncio.Event()
        self._error: Exception | None = None
        self._closed = False

    def push(self, change: Change) -> None:
        """Add a change; for the store."""
        if len(self._queue) >= self._limit:
            self._queue.clear()
            self.fail(CompactedError(change.revision, change.revision))
            return
        self._queue.append(change)
        self._wake.set()

    def fail(self, error: Exception) -> None:
        """End it with an error; for the store."""
        self._error = error
        self.close()

    def close(self) -> None:
        """End it; safe to repeat."""
        self._closed = True
        self._wake.set()
        self._forget(self)

    def take(self) -> list[Change]:
        """Return what is there without waiting."""
        taken = list(self._queue)
        self._queue.clear()
        return taken

    @property
    def pending(self) -> bool:
        """There is something to take."""
        return bool(self._queue)

    @property
    def ended(self) -> bool:
        """Nothing more will come than what is pending."""
        return self._closed

    async def wait(self) -> bool:
        """Wait until there is something to take; False: it has ended.

        Raises:
            CompactedError: this watcher fell too far behind.
        """
        while not self._queue:
            if self._error is not None:
                raise self._error
            if self._closed:
                return False
            self._wake.clear()
            await self._wake.wait()
        return True

    async def __aiter__(self) -> AsyncIterator[Change]:
        while await self.wait():
            for change in self.take():
                yield change
