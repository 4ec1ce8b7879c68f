"""Statuses of pods to the API server: one patch in flight for each pod, always the newest.

A status is sent as soon as it changes; what changes while a patch is under way goes with the next
one. States that pass by within moments while a pod starts are not sent on their own. While the API
server is away attempts back off, and the newest status of each pod waits: one for each pod is all
that is kept. What somebody else writes over a status is put right by the next event of the watch.

A pod that is being deleted is deleted from the API server once its last status is acknowledged
there and nothing of it is left running or mounted (`StatusManager.finish`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from kubeletpy.api.codec import to_builtins
from kubeletpy.api.pod import Pod
from kubeletpy.api.status import PodStatus
from kubeletpy.sources.updates import from_api
from kubeletpy_common import logs
from kubeletpy_common.apiclient.client import STRATEGIC_PATCH, object_path
from kubeletpy_common.apiclient.errors import ApiError

from .patch import difference, patch_of

_log = logging.getLogger(__name__)
IN_FLIGHT = 32
"""Requests about pods at a time."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
"""Seconds between attempts: the first, doubled each time, and the longest."""
STARTING = 0.2
"""Seconds for which a status waits that says no more than that a pod is being started."""
REFUSED = frozenset({400, 413, 422})
"""Codes by which an API server refuses a patch that it will refuse again: it is tried further, but
nobody waits for it."""
LAST_WORDS = 5.0
"""Seconds for which the last status of a pod is waited for that nobody deleted."""


class Client(Protocol):
    """What is needed of the API server; `kubeletpy_common.apiclient.client.ApiClient` has it."""

    async def turn(self) -> None:
        """Wait for the rate limit."""

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


@dataclass
class _Entry:
    """One pod.

    Attributes:
        pod: as its worker has it.
        wanted: the newest status, as plain JSON; None: nobody said anything yet.
        uid: of the object in the API server; "" while there is none.
        shown: the status that the API server has.
        version: resource version of ``shown``.
        deleting: whether the object is marked for deletion.
        residue: what the API server did not take over of the last patch: not to be sent again.
        compared: ``shown``, ``wanted`` and their difference, as they were last looked at.
    """

    pod: Pod
    wanted: dict[str, Any] | None = None
    uid: str = ""
    shown: Mapping[str, Any] = field(default_factory=dict)
    version: int = 0
    deleting: bool = False
    residue: dict[str, Any] = field(default_factory=dict)
    compared: tuple[Any, Any, dict[str, Any]] = (None, None, {})
    ended: bool = False
    sender: asyncio.Task[None] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def path(self) -> str:
        meta = self.pod.metadata
        return object_path("v1", "pods", meta.namespace, meta.name)

    def patch(self) -> dict[str, Any] | None:
        """Return what is to be sent; None if nothing is."""
        if self.wanted is None or not self.uid:
            return None
        changes = self.changes(self.wanted)
        if not changes or changes == self.residue:
            return None
        return patch_of(changes, self.uid)

    def changes(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Return what ``wanted`` differs in from what the API server has.

        It is asked for several times on the way of a status; neither side is ever changed, only
        replaced.
        """
        shown, compared, found = self.compared
        if shown is not self.shown or compared is not wanted:
            found = difference(self.shown, wanted)
            self.compared = (self.shown, wanted, found)
        return found


class StatusManager:
    """Keeps the statuses in the API server as the kubelet sees them.

    Args:
        client: of the API server.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._entries: dict[str, _Entry] = {}
        self._shown: dict[str, Mapping[str, Any]] = {}
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._away = False

    def publish(self, pod: Pod, status: PodStatus) -> None:
        """Take over the newest status of a pod."""
        uid = pod.metadata.uid
        entry = self._entries.get(uid)
        if entry is None:
            entry = self._entries[uid] = _Entry(pod)
            shown = self._shown.pop(uid, None)
            if shown is not None:
                _take(entry, shown)
        entry.pod = pod
        wanted = to_builtins(status)
        if wanted != entry.wanted:
            entry.wanted = wanted
        entry.changed.set()
        self._kick(entry)

    def show(self, uid: str, item: Mapping[str, Any] | None) -> None:
        """Take over what the API server has; None: it has the pod no longer.

        Args:
            uid: of the pod whose status is to be there: of the static pod if ``item`` mirrors one.
            item: the object.
        """
        entry = self._entries.get(uid)
        if item is None:
            self._shown.pop(uid, None)
            if entry is not None:
                entry.uid = ""
                entry.settled.set()
                entry.changed.set()
                if entry.ended:
                    self._forget(uid)
            return
        if entry is None:
            self._shown[uid] = item
            return
        _take(entry, item)
        self._kick(entry)

    def gone(self, pod: Pod) -> None:
        """Nothing of a pod is left on the node."""
        uid = pod.metadata.uid
        entry = self._entries.get(uid)
        if entry is not None:
            entry.ended = True
            if not entry.uid:
                self._forget(uid)

    def _forget(self, uid: str) -> None:
        entry = self._entries.pop(uid, None)
        if entry is not None and entry.sender is not None:
            entry.sender.cancel()

    async def close(self) -> None:
        """Send nothing any more."""
        tasks = [entry.sender for entry in self._entries.values() if entry.sender is not None]
        self._entries.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def told(self) -> None:
        """Return once the API server knows the newest status of every pod that it has."""
        for entry in list(self._entries.values()):
            if entry.uid:
                await entry.settled.wait()

    async def finish(self, pod: Pod) -> None:
        """Return once the API server knows the last status of an ended pod, or has refused it.

        If it is being deleted there, this deletes it. While the API server is away this takes as
        long; a pod that nobody deleted (the kubelet ends all of them) is not waited for long.
        """
        entry = self._entries.get(pod.metadata.uid)
        if entry is None or not from_api(pod):
            return
        try:
            async with asyncio.timeout(None if entry.deleting else LAST_WORDS):
                await entry.settled.wait()
        except TimeoutError:
            return
        pause = FIRST_PAUSE
        while entry.deleting and entry.uid:
            try:
                await self._delete(entry)
            except ApiError as error:
                pause = await self._failed(entry, error, pause)
            else:
                return

    async def _delete(self, entry: _Entry) -> None:
        options = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": entry.uid},
        }
        async with self._slots:
            await self._client.turn()
            try:
                await self._client.request("DELETE", entry.path, options, urgent=True)
            except ApiError as error:
                # Gone already, or there is a namesake.
                if not (error.not_found or error.conflict):
                    raise
        self._answered()

    def _kick(self, entry: _Entry) -> None:
        if entry.patch() is None:
            if entry.sender is None:
                entry.settled.set()
            return
        entry.settled.clear()
        if entry.sender is None:
            entry.sender = asyncio.create_task(
                self._send(entry), name=f"status {entry.pod.metadata.name}"
            )

    async def _send(self, entry: _Entry) -> None:
        pause = FIRST_PAUSE
        try:
            while entry.patch() is not None:
                await self._hold(entry)
                try:
                    await self._send_once(entry)
                    pause = FIRST_PAUSE
                except ApiError as error:
                    pause = await self._failed(entry, error, pause)
        finally:
            entry.sender = None
            entry.settled.set()

    async def _hold(self, entry: _Entry) -> None:
        """Wait while all that there is to say is that the pod is being started."""
        try:
            async with asyncio.timeout(STARTING):
                while True:
                    entry.changed.clear()
                    patch = entry.patch()
                    if patch is None or not _starting(entry.shown, patch["status"]):
                        return
                    await entry.changed.wait()
        except TimeoutError:
            pass

    async def _send_once(self, entry: _Entry) -> None:
        async with self._slots:
            await self._client.turn()
            # What came while it was waited for goes along.
            patch, wanted = entry.patch(), entry.wanted
            if patch is None or wanted is None:
                return
            answer = await self._client.request(
                "PATCH", f"{entry.path}/status", patch, content_type=STRATEGIC_PATCH, urgent=True
            )
        self._answered()
        _take(entry, answer)
        entry.residue = entry.changes(wanted)

    async def _failed(self, entry: _Entry, error: ApiError, pause: float) -> float:
        """Wait until it may be tried again; return how long to wait the next time."""
        if error.not_found:
            entry.uid = ""
            return pause
        if error.conflict:
            await self._look_again(entry)
            return pause
        if not self._away or not error.transient:
            logs.event(
                _log, logging.WARNING, "status of a pod not taken by the API server",
                pod=entry.path, code=error.code, reason=str(error),
            )  # fmt: skip
        self._away = self._away or error.transient
        if error.code in REFUSED:
            # Else a pod whose last status is not taken could never be removed.
            entry.settled.set()
        wait = max(pause * random.uniform(0.8, 1.2), error.retry_after or 0.0)
        await asyncio.sleep(wait)
        return min(pause * 2, LONGEST_PAUSE)

    async def _look_again(self, entry: _Entry) -> None:
        """See whether a pod that was refused is another one by now."""
        try:
            item = await self._client.request("GET", entry.path)
        except ApiError as error:
            if error.not_found:
                entry.uid = ""
            else:
                await asyncio.sleep(FIRST_PAUSE)
            return
        if item.get("metadata", {}).get("uid") == entry.uid:
            _take(entry, item)
            await asyncio.sleep(FIRST_PAUSE)
        else:
            entry.uid = ""

    def _answered(self) -> None:
        if self._away:
            self._away = False
            logs.event(_log, logging.INFO, "statuses of pods are taken again")


def _take(entry: _Entry, item: Mapping[str, Any]) -> None:
    """Take over an object, unless it is older than what is known."""
    metadata = item.get("metadata", {})
    text = str(metadata.get("resourceVersion") or "")
    version = int(text) if text.isdecimal() else 0
    same = entry.uid == metadata.get("uid")
    if same and 0 < version < entry.version:
        return
    if not same:
        entry.residue = {}
    entry.uid = str(metadata.get("uid") or "")
    entry.version = version
    entry.shown = item.get("status") or {}
    entry.deleting = metadata.get("deletionTimestamp") is not None


def _starting(shown: Mapping[str, Any], changes: Mapping[str, Any]) -> bool:
    """Whether a change says no more than that a pod is on its way, with nothing wrong yet."""
    phase = changes.get("phase", shown.get("phase"))
    if phase != "Pending":
        return False
    statuses = [
        *(changes.get("initContainerStatuses") or ()),
        *(changes.get("containerStatuses") or ()),
    ]
    waits = {"ContainerCreating", "PodInitializing"}
    return all(
        (status.get("state") or {}).get("waiting", {}).get("reason") in waits for status in statuses
    )
