"""What the runtime says of pods: its events, and full lists of what it has."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from kubeletpy.cri import labels
from kubeletpy.cri.client import CriError
from kubeletpy.cri.events import ContainerEvents, EventsUnsupported, Resync
from kubeletpy_common import logs
from kubeletpy_proto import cri_pb2

from .observe import Listing
from .tools import Tools

_log = logging.getLogger(__name__)
RELIST_WITH_EVENTS = 300.0
"""Seconds between full lists while the runtime sends events, as in the Go kubelet."""
RELIST_WITHOUT_EVENTS = 1.0
RELIST_RETRY = 1.0
_SETTLE = 1.0
"""Seconds after which a new event stream surely was registered by the runtime."""


@dataclass
class Contact:
    """How the runtime was last heard of."""

    ok: bool = False
    error: str = "not asked yet"
    events: bool = True


class RuntimeWatch:
    """Follows the runtime.

    Args:
        tools: the runtime, and who is told how long a list took.
        changed: called with the UID of a pod of which something changed; returns whether that pod
            is known.
        listed: called after each full list.

    Attributes:
        contact: how the runtime was last heard of.
        listing: the last full list.
        listed: whether there was one.
        listed_at: when it was begun, by the monotonic clock; what ended since may be in it.
    """

    def __init__(
        self, tools: Tools, changed: Callable[[str], bool], listed: Callable[[], None]
    ) -> None:
        self.contact = Contact()
        self.listing = Listing()
        self.listed = False
        self._tools = tools
        self._changed = changed
        self._on_list = listed
        self.listed_at = 0.0
        self._bell = asyncio.Event()

    def ring(self) -> None:
        """Make a full list now."""
        self._bell.set()

    async def follow_events(self) -> None:
        """Follow the runtime's events until cancelled, or for good if it sends none."""
        try:
            async for event in ContainerEvents(self._tools.cri):
                if isinstance(event, Resync):
                    self.ring()
                    # An event between this list and the runtime's registration would be lost.
                    asyncio.get_running_loop().call_later(_SETTLE, self.ring)
                else:
                    self._on_event(event)
        except EventsUnsupported as error:
            logs.event(
                _log, logging.WARNING, "runtime sends no events; it is listed every second",
                reason=str(error),
            )  # fmt: skip
            self.contact.events = False
            self.ring()

    def _on_event(self, event: cri_pb2.ContainerEventResponse) -> None:
        uid = event.pod_sandbox_status.metadata.uid
        for status in event.containers_statuses:
            uid = uid or status.labels.get(labels.POD_UID, "")
        if not self._changed(uid):
            self.ring()

    async def keep_listing(self) -> None:
        """Make full lists until cancelled: when asked, after faults, and now and then."""
        while True:
            self._bell.clear()
            succeeded = await self._list_once()
            pause = RELIST_WITH_EVENTS if self.contact.events else RELIST_WITHOUT_EVENTS
            if not succeeded:
                await asyncio.sleep(RELIST_RETRY)
                continue
            try:
                async with asyncio.timeout(pause):
                    await self._bell.wait()
            except TimeoutError:
                pass

    async def _list_once(self) -> bool:
        begun = time.monotonic()
        try:
            listing = await self._tools.observer.listing()
        except CriError as error:
            if self.contact.ok or self.contact.error != str(error):
                logs.event(_log, logging.ERROR, "runtime not reachable", reason=str(error))
            self.contact.ok, self.contact.error = False, str(error)
            return False
        if not self.contact.ok:
            logs.event(_log, logging.INFO, "runtime reachable", endpoint=self._tools.cri.endpoint)
        self.contact.ok, self.contact.error = True, ""
        interval = begun - self.listed_at if self.listed else None
        self.listed_at = begun
        self._tools.measures.relisted(time.monotonic() - begun, interval)
        before, self.listing = self.listing, listing
        for uid in before.states.keys() | listing.states.keys():
            if before.states.get(uid) != listing.states.get(uid):
                self._changed(uid)
        self.listed = True
        self._on_list()
        return True
