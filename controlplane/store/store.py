"""The store as everybody sees it: what is there, in memory; conditional writes; watches.

Reads and watches are served from memory, which holds what is there now and the last changes.
Where writes go is for the two that derive from this: :mod:`.local` (a file on this machine, which
gives the revisions itself) and :mod:`.etcd` (which does).
"""

from __future__ import annotations

import abc
import itertools
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from sortedcontainers import SortedDict

from controlplane.store.model import (
    Change,
    CompactedError,
    Contents,
    FutureRevisionError,
    Item,
    Page,
)
from controlplane.store.watch import Watch

_LAST: Final = "\U0010ffff"
KEEP_BYTES: Final = 64 << 20
"""Of values that only the history still needs."""


class Store(abc.ABC):
    """What is there, and who is told.

    Args:
        keep: changes that watchers can go back to, while their values fit ``keep_bytes``.
        keep_bytes: of values that only those changes still need.
        backlog: changes that may wait for one watcher.

    Attributes:
        observe: is told what was asked of the backend, and its seconds.
    """

    def __init__(
        self, *, keep: int = 10_000, keep_bytes: int = KEEP_BYTES, backlog: int = 10_000
    ) -> None:
        self._keep = keep
        self._keep_bytes = keep_bytes
        self._backlog = backlog
        self._items: SortedDict[str, Item] = SortedDict()
        self._changes: deque[Change] = deque()
        self._history_bytes = 0
        self._floor = 0
        self._revision = 0
        # Watchers by the kind that they follow, so that a change looks at those of its kind only.
        self._watches: dict[str, dict[Watch, None]] = {}
        self._ending = False
        self.observe: Callable[[str, float], None] = lambda what, seconds: None

    @abc.abstractmethod
    async def open(self) -> None:
        """Read what is there.

        Raises:
            StoreError: it cannot be opened.
        """

    @abc.abstractmethod
    async def close(self) -> None:
        """Let the writes under way end, then close everything and end every watch."""

    @abc.abstractmethod
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
            TooLargeError: the value is larger than can be kept.
            StoreError: it could not be written; the text says if what became of it is unknown.
        """

    @abc.abstractmethod
    async def delete(self, key: str, *, expected: int | None = None) -> Change | None:
        """Remove ``key``; None if nothing was there and nothing was expected.

        Raises:
            MismatchError: ``expected`` does not hold.
            StoreError: it could not be written; the text says if what became of it is unknown.
        """

    @abc.abstractmethod
    async def settle(self) -> None:
        """Wait until memory holds every write that anyone was promised before this call.

        Raises:
            StoreError: that cannot be found out.
        """

    def problem(self) -> str:
        """Say why the store cannot be written now; "" if it can, as far as is known."""
        return ""

    @property
    def revision(self) -> int:
        """The revision of the last write that is durable."""
        return self._revision

    @property
    def oldest(self) -> int:
        """The oldest revision whose state is still known."""
        return self._floor

    def get(self, key: str) -> Item | None:
        """Return what is at ``key``, None if nothing is."""
        return self._items.get(key)

    def counts(self) -> dict[str, int]:
        """Return how many items there are of each kind, by the beginning of their keys."""
        found: dict[str, int] = {}
        for key in self._items:
            kind = _kind(key)
            found[kind] = found.get(kind, 0) + 1
        return found

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
        keys = items.irange(first, prefix + _LAST, (first != after, True))
        found = tuple(items[key] for key in (itertools.islice(keys, limit) if limit else keys))
        rest = sum(1 for _ in keys) if limit else 0
        return Page(found, self._revision if revision is None else revision, rest)

    def watch(self, prefix: str, since: int) -> Watch:
        """Follow the changes below ``prefix`` that come after the revision ``since``.

        Raises:
            CompactedError: changes after ``since`` are no longer all known.
            FutureRevisionError: it has not been reached.
        """
        backlog = [c for c in self._since(since) if c.key.startswith(prefix)]
        watch = Watch(prefix, backlog, self._backlog, self._forget_watch)
        if self._ending:
            watch.close()
        else:
            self._watches.setdefault(_kind(prefix), {})[watch] = None
        return watch

    def end_watches(self) -> None:
        """End every watch, and each that begins later at once: the server is stopping."""
        self._ending = True
        for watch in self._all_watches():
            watch.close()

    def _load(self, contents: Contents) -> None:
        """Begin with what is there; for those that derive from this."""
        self._items.clear()
        self._items.update((item.key, item) for item in contents.items)
        self._changes.clear()
        self._history_bytes = 0
        self._floor = self._revision = contents.floor
        for change in contents.changes:
            self._apply(change)
        self._revision = contents.revision

    def _apply(self, change: Change) -> None:
        """Take in a change that is durable; for those that derive from this."""
        if change.item is None:
            self._items.pop(change.key, None)
        else:
            self._items[change.key] = change.item
        self._revision = change.revision
        self._changes.append(change)
        self._history_bytes += _weight(change)
        kind = _kind(change.key)
        for name in (kind, "") if kind else ("",):
            for watch in list(self._watches.get(name, ())):
                if change.key.startswith(watch.prefix):
                    watch.push(change)

    def _excess(self, coming: int) -> list[Change]:
        """Return the changes that are to be forgotten once ``coming`` are added, oldest first."""
        count = len(self._changes) + coming - self._keep
        size = self._history_bytes - self._keep_bytes
        found: list[Change] = []
        for change in self._changes:
            if len(found) >= count and size <= 0:
                break
            found.append(change)
            size -= _weight(change)
        return found

    def _forget(self, changes: list[Change]) -> None:
        """Forget the oldest changes; for those that derive from this."""
        for change in changes:
            self._changes.popleft()
            self._history_bytes -= _weight(change)
            self._floor = change.revision

    def _all_watches(self) -> Iterable[Watch]:
        return [watch for watches in self._watches.values() for watch in watches]

    def _forget_watch(self, watch: Watch) -> None:
        kind = _kind(watch.prefix)
        watches = self._watches.get(kind)
        if watches is not None:
            watches.pop(watch, None)
            if not watches:
                del self._watches[kind]

    def _since(self, revision: int) -> list[Change]:
        if revision > self._revision:
            raise FutureRevisionError(revision, self._revision)
        if revision < self._floor:
            raise CompactedError(revision, self._floor)
        later = itertools.takewhile(lambda c: c.revision > revision, reversed(self._changes))
        return list(later)[::-1]

    def _at(self, prefix: str, revision: int) -> SortedDict[str, Item]:
        """Return what was below ``prefix`` at ``revision``, by undoing what came after."""
        changes = [c for c in self._since(revision) if c.key.startswith(prefix)]
        if not changes:
            return self._items
        keys = self._items.irange(prefix, prefix + _LAST)
        past: SortedDict[str, Item] = SortedDict((key, self._items[key]) for key in keys)
        for change in reversed(changes):
            if change.previous is None:
                past.pop(change.key, None)
            else:
                past[change.key] = change.previous
        return past


def _weight(change: Change) -> int:
    return len(change.previous.value) if change.previous else 0


def _kind(key: str) -> str:
    """Return the first two parts of a key (``/core/pods/``); "" if it has less."""
    first = key.find("/", 1)
    second = key.find("/", first + 1) if first > 0 else -1
    return key[: second + 1] if second > 0 else ""
