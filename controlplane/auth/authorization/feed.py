"""Following the store without lag: an index takes in every durable write before it is asked."""

from __future__ import annotations

from collections.abc import Callable

from controlplane.store.model import Change, CompactedError, Item
from controlplane.store.store import Store
from controlplane.store.watch import Watch


class Feed:
    """The items below a prefix, and then their changes.

    Args:
        store: to follow.
        prefix: of the keys.
        put: takes an item that is new or has changed.
        remove: takes the last state of one that is gone.
        clear: forgets all; what there is comes anew.
    """

    def __init__(
        self,
        store: Store,
        prefix: str,
        put: Callable[[Item], None],
        remove: Callable[[Item], None],
        clear: Callable[[], None],
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._put = put
        self._remove = remove
        self._clear = clear
        self._watch: Watch | None = None

    def catch_up(self) -> bool:
        """Take in what has been written since; say whether there was anything."""
        watch = self._watch
        if watch is None or watch.ended:
            self._begin()
            return True
        if not watch.pending:
            return False
        for change in watch.take():
            self._take(change)
        return True

    async def follow(self) -> None:
        """Take in changes as they come, so that :meth:`catch_up` finds few."""
        while True:
            self.catch_up()
            assert self._watch is not None
            try:
                if not await self._watch.wait():
                    return
            except CompactedError:
                continue

    def _begin(self) -> None:
        if self._watch is not None:
            self._watch.close()
        self._clear()
        page = self._store.read(self._prefix)
        self._watch = self._store.watch(self._prefix, page.revision)
        for item in page.items:
            self._put(item)

    def _take(self, change: Change) -> None:
        if change.item is not None:
            self._put(change.item)
        elif change.previous is not None:
            self._remove(change.previous)
