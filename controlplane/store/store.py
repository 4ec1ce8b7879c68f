"""The store: what is there, in memory; writes, durable before they are answered; watches.

Everything but the log's own writing happens on the event loop. A write is checked against what
will be there once the writes before it are durable, gets its revision, and waits in a queue; one
thread takes whatever waits and commits it at once, so that many writers share one flush of the
disk. Reads and watchers see a write when it is durable, never before.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from sortedcontainers import SortedDict

from controlplane.store.model import (
    Change,
    CompactedError,
    FutureRevisionError,
    Item,
    Log,
    MismatchError,
    Page,
    StoreError,
)

_MAX_BATCH = 512
"""Writes of one commit; more wait for the next."""


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


class Store:
    """What is there, and who is told.

    Args:
        log: where writes are made durable.
        keep: changes that watchers can go back to.
        backlog: changes that may wait for one watcher.
    """

    def __init__(self, log: Log, *, keep: int = 10_000, backlog: int = 10_000) -> None:
        self._log = log
        self._keep = keep
        self._backlog = backlog
        self._items: SortedDict[str, Item] = SortedDict()
        self._changes: deque[Change] = deque()
        self._revision = 0
        self._given = 0
        self._pending: dict[str, Change] = {}
        self._queue: deque[tuple[Change, asyncio.Future[None]]] = deque()
        self._watches: dict[Watch, None] = {}
        self._thread = ThreadPoolExecutor(1, "store")
        self._writer: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self) -> None:
        """Read what the log holds.

        Raises:
            StoreError: it cannot be opened.
        """
        contents = await asyncio.get_running_loop().run_in_executor(self._thread, self._log.open)
        self._items.update((item.key, item) for item in contents.items)
        self._changes.extend(contents.changes)
        self._revision = self._given = contents.revision

    async def close(self) -> None:
        """Let the writes under way end, then close the log and every watch."""
        self._closed = True
        if self._writer is not None:
            with suppress(StoreError):
                await self._writer
        for watch in list(self._watches):
            watch.close()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._log.close)
        self._thread.shutdown()

    @property
    def revision(self) -> int:
        """The revision of the last write that is durable."""
        return self._revision

    @property
    def oldest(self) -> int:
        """The oldest revision whose state is still known."""
        return self._changes[0].revision - 1 if self._changes else self._revision

    def get(self, key: str) -> Item | None:
        """Return what is at ``key``, None if nothing is."""
        return self._items.get(key)

    async def put(
        self, key: str, value: bytes | Callable[[int], bytes], *, expected: int | None = None
    ) -> Item:
        """Write ``value`` at ``key``.

        Args:
            key: where.
            value: what; or what makes it from the revision of this write.
            expected: the revision that last changed it, 0 if it must not exist; None: whatever.

        Returns:
            the item, durable.

        Raises:
            MismatchError: ``expected`` does not hold.
            StoreError: the log cannot be written; nothing was.
        """
        previous = self._check(key, expected)
        revision = self._given + 1
        content = value if isinstance(value, bytes) else value(revision)
        item = Item(key, content, previous.created if previous else revision, revision)
        await self._commit(Change(revision, key, item, previous))
        return item

    async def delete(self, key: str, *, expected: int | None = None) -> Change | None:
        """Remove ``key``; None if nothing was there and nothing was expected.

        Raises:
            MismatchError: ``expected`` does not hold.
            StoreError: the log cannot be written; nothing was.
        """
        previous = self._check(key, expected)
        if previous is None:
            return None
        change = Change(self._given + 1, key, None, previous)
        await self._commit(change)
        return change

    def read(
        self, prefix: str, *, after: str = "", limit: int = 0, revision: int | None = None
    ) -> Page:
        """Return the items whose keys begin with ``prefix``.

        Args:
            prefix: ends with a slash, usually.
            after: only keys behind this one.
            limit: items at most; 0: all.
            revision: as of which; None: now.

        Raises:
            CompactedError: the state at ``revision`` is no longer known.
            FutureRevisionError: it has not been reached.
        """
        items = self._items if revision is None else self._at(prefix, revision)
        first = max(prefix, after)
        keys = items.irange(first, prefix + "\U0010ffff", (first != after, True))
        if not limit:
            found = tuple(items[key] for key in keys)
            return Page(found, self._revision if revision is None else revision, 0)
        found = tuple(items[key] for key in itertools.islice(keys, limit))
        rest = sum(1 for _ in keys)
        return Page(found, self._revision if revision is None else revision, rest)

    def watch(self, prefix: str, since: int) -> Watch:
        """Follow the changes below ``prefix`` that come after the revision ``since``.

        Raises:
            CompactedError: changes after ``since`` are no longer all known.
            FutureRevisionError: it has not been reached.
        """
        backlog = [c for c in self._since(since) if c.key.startswith(prefix)]
        watch = Watch(prefix, backlog, self._backlog, lambda one: self._watches.pop(one, None))
        self._watches[watch] = None
        return watch

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
            keep_from = changes[-1].revision - self._keep + 1
            try:
                await loop.run_in_executor(self._thread, self._log.append, changes, keep_from)
            except Exception as error:
                self._fail(error)
                return
            for change, done in batch:
                self._queue.popleft()
                self._apply(change)
                if not done.done():
                    done.set_result(None)

    def _apply(self, change: Change) -> None:
        if change.item is None:
            self._items.pop(change.key, None)
        else:
            self._items[change.key] = change.item
        if self._pending.get(change.key) is change:
            self._pending.pop(change.key, None)
        self._revision = change.revision
        self._changes.append(change)
        while len(self._changes) > self._keep:
            self._changes.popleft()
        for watch in list(self._watches):
            if change.key.startswith(watch.prefix):
                watch.push(change)

    def _fail(self, error: Exception) -> None:
        """Take back all that waits: each may have been checked against one that was not written."""
        failed = [done for _, done in self._queue]
        self._queue.clear()
        self._pending.clear()
        self._given = self._revision
        for done in failed:
            if not done.done():
                done.set_exception(StoreError(str(error)))
                # Nobody asks, if its caller was cancelled meanwhile.
                done.exception()

    def _since(self, revision: int) -> list[Change]:
        if revision > self._revision:
            raise FutureRevisionError(revision, self._revision)
        if revision < self.oldest:
            raise CompactedError(revision, self.oldest)
        # Revisions have no gaps, so the number of changes to take is known.
        count = self._revision - revision
        return list(itertools.islice(self._changes, len(self._changes) - count, None))

    def _at(self, prefix: str, revision: int) -> SortedDict[str, Item]:
        """Return what was below ``prefix`` at ``revision``, by undoing what came after."""
        changes = self._since(revision)
        keys = self._items.irange(prefix, prefix + "\U0010ffff")
        past: SortedDict[str, Item] = SortedDict((key, self._items[key]) for key in keys)
        for change in reversed(changes):
            if not change.key.startswith(prefix):
                continue
            if change.previous is None:
                past.pop(change.key, None)
            else:
                past[change.key] = change.previous
        return past
