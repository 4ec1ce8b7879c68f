"""Container events for any number of clients, none of which can hold up the others."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.errors import SlowClientError, StoppingError


class Subscription:
    """One client's queue. A client whose queue is full has missed an event, and is told so."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queue: deque[cri.ContainerEventResponse] = deque()
        self._changed = asyncio.Event()
        self._end: Exception | None = None

    def offer(self, event: cri.ContainerEventResponse) -> None:
        """Queue an event; never waits."""
        if self._end is not None:
            return
        if len(self._queue) == self._limit:
            self.end(
                SlowClientError(
                    f"this client had {self._limit} events waiting and missed the next: list the "
                    "containers anew, and subscribe again"
                )
            )
            return
        self._queue.append(event)
        self._changed.set()

    def end(self, reason: Exception) -> None:
        """Drop what is queued, which a client that never reads would hold for good, and end."""
        self._queue.clear()
        self._end = reason
        self._changed.set()

    async def events(self) -> AsyncIterator[cri.ContainerEventResponse]:
        """Yield the events in their order.

        Raises:
            SlowClientError: the queue was full.
            StoppingError: the daemon stops.
        """
        while True:
            await self._changed.wait()
            while self._queue:
                yield self._queue.popleft()
            if self._end is not None:
                raise self._end
            self._changed.clear()


class EventBroker:
    """Hands each event to all subscriptions."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._subscriptions: set[Subscription] = set()

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """Receive every event that is published from here on until the block is left."""
        subscription = Subscription(self._limit)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def publish(self, make: Callable[[], cri.ContainerEventResponse]) -> None:
        """Offer an event to everybody; it is not even made when nobody listens."""
        if self._subscriptions:
            event = make()
            for subscription in self._subscriptions:
                subscription.offer(event)

    def close(self) -> None:
        """End all subscriptions: the daemon stops."""
        for subscription in self._subscriptions:
            subscription.end(StoppingError("the runtime is being stopped; connect again later"))
