"""Lets events go when they are old.

Source: kube-apiserver's ``--event-ttl``. An event's time begins anew with each write to it.
"""

from __future__ import annotations

import asyncio
import heapq
from datetime import UTC, datetime
from typing import Final

from controlplane.api import codec
from controlplane.api.resource import Object
from controlplane.plane import Plane
from controlplane.store.model import Change, MismatchError

_PREFIXES: Final = ("/core/events/", "/events.k8s.io/events/")


class EventTtl:
    """Removes events, each as long after its last write as the options say.

    Args:
        plane: the parts of the server.
    """

    def __init__(self, plane: Plane) -> None:
        self._store = plane.store
        self._seconds = plane.options.event_ttl
        self._due: list[tuple[float, str, int]] = []
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Work, until cancelled.

        Raises:
            CompactedError: it fell too far behind, and has to begin anew.
            StoreError: the store cannot be written.
        """
        self._due.clear()
        async with asyncio.TaskGroup() as tasks:
            for prefix in _PREFIXES:
                tasks.create_task(self._follow(prefix))
            tasks.create_task(self._remove())

    async def _follow(self, prefix: str) -> None:
        watch = self._store.watch(prefix, self._store.revision)
        try:
            for item in self._store.read(prefix).items:
                self._add(item.key, item.modified, last_seen(codec.decode(item)))
            async for change in watch:
                self._hear(change)
        finally:
            watch.close()

    def _hear(self, change: Change) -> None:
        if change.item is not None:
            self._add(change.key, change.revision, datetime.now(UTC).timestamp())

    def _add(self, key: str, revision: int, written: float) -> None:
        heapq.heappush(self._due, (written + self._seconds, key, revision))
        if self._due[0][2] == revision:
            self._wake.set()

    async def _remove(self) -> None:
        while True:
            self._wake.clear()
            wait = self._due[0][0] - datetime.now(UTC).timestamp() if self._due else None
            if wait is None or wait > 0:
                try:
                    await asyncio.wait_for(self._wake.wait(), wait)
                except TimeoutError:
                    pass
                continue
            _, key, revision = heapq.heappop(self._due)
            item = self._store.get(key)
            if item is None or item.modified != revision:
                # Gone, or written again: then it is due later.
                continue
            try:
                await self._store.delete(key, expected=revision)
            except MismatchError:
                continue


def last_seen(event: Object) -> float:
    """Return when an event was last written, as far as it tells itself, in seconds (pure)."""
    series = event.get("series") or {}
    times = [
        event["metadata"].get("creationTimestamp"),
        event.get("lastTimestamp"),
        event.get("deprecatedLastTimestamp"),
        series.get("lastObservedTime"),
    ]
    found = [datetime.fromisoformat(one.replace("Z", "+00:00")) for one in times if one]
    # What tells a time in the future is as old as it is made.
    now = datetime.now(UTC)
    return max((min(one, now) for one in found), default=now).timestamp()
