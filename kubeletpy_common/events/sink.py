"""Sends events to the API server, one after the other, within a rate of their own.

Events are told, not promised: a bounded number waits, the oldest goes when there are more, and one
that the API server does not take after some attempts is dropped, with a line in the log.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Any, Protocol

from kubeletpy_common import logs
from kubeletpy_common.apiclient.client import STRATEGIC_PATCH, Throttle, object_path
from kubeletpy_common.apiclient.errors import ApiError

from .correlation import Correlator, Event, Write

_log = logging.getLogger(__name__)
WAITING = 1000
"""Events that wait at most."""
ATTEMPTS, FIRST_PAUSE, LONGEST_PAUSE = 12, 0.5, 10.0
"""How often one is tried, and the seconds between: at first, doubled each time, and at most."""


class Client(Protocol):
    """What is needed of the API server; `kubeletpy_common.apiclient.client.ApiClient` has it."""

    async def request(
        self,
        method: str,
        path: str,
        body: object | None = None,
        *,
        content_type: str = "application/json",
        urgent: bool = False,
    ) -> dict[str, Any]:
        """Send a request."""


class EventSink:
    """Takes events and sends them.

    Args:
        client: of the API server.
        rate, burst: events a second, and at once (``eventRecordQPS``, ``eventBurst``).
    """

    def __init__(self, client: Client, rate: float = 50.0, burst: int = 100) -> None:
        self._client = client
        self._throttle = Throttle(rate, burst)
        self._correlator = Correlator()
        self._waiting: deque[Event] = deque(maxlen=WAITING)
        self._bell = asyncio.Event()
        self._dropped = 0

    def take(self, event: Event) -> None:
        """Send an event when there is time; it is not changed by its giver any more."""
        if len(self._waiting) == WAITING:
            self._dropped += 1
        self._waiting.append(event)
        self._bell.set()

    async def run(self) -> None:
        """Send what comes, until cancelled."""
        while True:
            self._bell.clear()
            while self._waiting:
                event = self._waiting.popleft()
                write = self._correlator.observe(event, time.monotonic())
                if write is not None:
                    await self._throttle.take()
                    await self._send(write)
            if self._dropped:
                logs.event(
                    _log, logging.WARNING, "events not sent, too many waited", count=self._dropped
                )
                self._dropped = 0
            await self._bell.wait()

    async def _send(self, write: Write) -> None:
        pause = FIRST_PAUSE
        for _ in range(ATTEMPTS):
            try:
                await self._send_once(write)
                return
            except ApiError as error:
                if not error.transient:
                    # A namespace that is being deleted takes no events, for instance.
                    self._correlator.missing(write.key)
                    _log.debug("event not taken: %s", error)
                    return
                reason = str(error)
                await asyncio.sleep(max(pause, error.retry_after or 0.0))
                pause = min(pause * 2, LONGEST_PAUSE)
        self._correlator.missing(write.key)
        logs.event(
            _log, logging.WARNING, "event dropped", event=write.event["reason"], reason=reason
        )  # fmt: skip

    async def _send_once(self, write: Write) -> None:
        event = write.event
        namespace = event["metadata"]["namespace"]
        if write.again:
            changes = {name: event[name] for name in ("count", "lastTimestamp", "message")}
            path = object_path("v1", "events", namespace, event["metadata"]["name"])
            try:
                await self._client.request(
                    "PATCH", path, changes, content_type=STRATEGIC_PATCH, urgent=True
                )
                return
            except ApiError as error:
                # Events live for an hour only.
                if not error.not_found:
                    raise
        try:
            path = object_path("v1", "events", namespace)
            await self._client.request("POST", path, event, urgent=True)
        except ApiError as error:
            # An attempt whose answer was lost did write it.
            if error.reason != "AlreadyExists":
                raise
