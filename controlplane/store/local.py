"""The store of one machine: revisions are given here, writes made durable by a log.

Everything but the log's own writing happens on the event loop. A write is checked against what
will be there once the writes before it are durable, gets its revision, and waits in a queue; one
thread takes whatever waits and commits it at once, so that many writers share one flush of the
disk. Reads and watchers see a write when it is durable, never before.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from controlplane.store.model import Change, Item, Log, MismatchError, StoreError, Trim
from controlplane.store.store import KEEP_BYTES, Store

_MAX_BATCH: Final = 512
"""Writes of one commit; more wait for the next."""

_SLACK: Final = 8
"""The history may exceed its bounds by this part of them, so that trimming is done in one go."""


class LocalStore(Store):
    """A store whose writes one log makes durable.

    Args:
        log: where.
        keep: changes that watchers can go back to, while their values fit ``keep_bytes``.
        keep_bytes: of values that only those changes still need.
        backlog: changes that may wait for one watcher.
    """

    def __init__(
        self,
        log: Log,
        *,
        keep: int = 10_000,
        keep_bytes: int = KEEP_BYTES,
        backlog: int = 10_000,
    ) -> None:
        super().__init__(keep=keep, keep_bytes=keep_bytes, backlog=backlog)
        self._log = log
        self._given = 0
        self._pending: dict[str, Change] = {}
        self._queue: deque[tuple[Change, asyncio.Future[None]]] = deque()
        self._thread = ThreadPoolExecutor(1, "store")
        self._writer: asyncio.Task[None] | None = None
        self._problem = ""
        self._closed = False

    async def open(self) -> None:
        """Read what the log holds."""
        loop = asyncio.get_running_loop()
        try:
            contents = await loop.run_in_executor(self._thread, self._log.open)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        self._load(contents)
        self._given = contents.revision

    async def close(self) -> None:
        """Let the writes under way end, then close the log and every watch."""
        self._closed = True
        self.end_watches()
        if self._writer is not None:
            with suppress(StoreError):
                await self._writer
        await asyncio.get_running_loop().run_in_executor(self._thread, self._log.close)
        self._thread.shutdown()

    async def settle(self) -> None:
        """Return at once: what was promised is in memory, and nobody else writes."""

    def problem(self) -> str:
        """Say why the last write failed; "" if it did not."""
        return self._problem

    async def put(
        self, key: str, value: bytes | Callable[[int], bytes], *, expected: int | None = None
    ) -> Item:
        """Write ``value`` at ``key``; see :meth:`Store.put`."""
        previous = self._check(key, expected)
        revision = self._given + 1
        content = value if isinstance(value, bytes) else value(revision)
        item = Item(key, content, previous.created if previous else revision, revision)
        await self._commit(Change(revision, key, item, previous))
        return item

    async def delete(self, key: str, *, expected: int | None = None) -> Change | None:
        """Remove ``key``; see :meth:`Store.delete`."""
        previous = self._check(key, expected)
        if previous is None:
            return None
        change = Change(self._given + 1, key, None, previous)
        await self._commit(change)
        return change

    def _check(self, key: str, expected: int | None) -> Item | None:
        if self._closed:
            raise StoreError("the store is closed: the server is stopping")
        pending = self._pending.get(key)
        current = pending.item if pending is not None else self._items.get(key)
        if expected is not None and expected != (current.modified if current else 0):
            raise MismatchError(key, expected, current)
        return current

    async def _commit(self, change: Change) -> None:
        self._given = change.revision
        self._pending[change.key] = change
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((change, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name="store-writer")
        # A caller that is cancelled does not take back what may be on the disk already.
        await asyncio.shield(done)

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue:
            batch = list(itertools.islice(self._queue, _MAX_BATCH))
            changes = [change for change, _ in batch]
            forgotten = self._overdue(len(batch))
            trim = _trim(forgotten) if forgotten else None
            begun = time.monotonic()
            try:
                await loop.run_in_executor(self._thread, self._log.append, changes, trim)
            except Exception as error:
                self._fail(error)
                return
            finally:
                self.observe("commit", time.monotonic() - begun)
            self._problem = ""
            self._forget(forgotten)
            for change, done in batch:
                self._queue.popleft()
                if self._pending.get(change.key) is change:
                    self._pending.pop(change.key, None)
                self._apply(change)
                if not done.done():
                    done.set_result(None)

    def _overdue(self, coming: int) -> list[Change]:
        few = len(self._changes) + coming <= self._keep + self._keep // _SLACK
        small = self._history_bytes <= self._keep_bytes + self._keep_bytes // _SLACK
        return [] if few and small else self._excess(coming)

    def _fail(self, error: Exception) -> None:
        """Take back all that waits: each may have been checked against one that was not written."""
        self._problem = str(error)
        failed = [done for _, done in self._queue]
        self._queue.clear()
        self._pending.clear()
        self._given = self._revision
        for done in failed:
            if not done.done():
                done.set_exception(StoreError(str(error)))
                # Nobody asks, if its caller was cancelled meanwhile.
                done.exception()


def _trim(forgotten: list[Change]) -> Trim:
    """Return what the log needs no more: what was replaced or deleted by these changes."""
    dead = [change.previous.modified for change in forgotten if change.previous is not None]
    dead += [change.revision for change in forgotten if change.item is None]
    return Trim(forgotten[-1].revision, tuple(dead))
