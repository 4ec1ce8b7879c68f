"""What CSI volumes need of the API server, and the volumes that the node says are in use."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kubeletpy.volumes.errors import VolumeError
from kubeletpy_common import logs
from kubeletpy_common.apiclient.client import MERGE_PATCH, ApiClient, object_path
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.apiclient.reflector import Reflector, Synced

from . import NAME
from .requests import CsiVolume, attached, attachment_name

if TYPE_CHECKING:
    from kubeletpy.registration.presence import NodePresence

_log = logging.getLogger(__name__)
Object = dict[str, Any]
_STORAGE = "storage.k8s.io/v1"
FIRST_READ = 10.0
"""Seconds that the first list of CSIDrivers may take."""
ATTACH_TIMEOUT = 100.0
"""Seconds that a volume waits to be attached before that is told as a fault."""
_IN_USE_TIMEOUT = 30.0
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.2, 3.0


class CsiObjects:
    """Reads CSIDrivers, VolumeAttachments and Secrets.

    CSIDrivers are followed by a watch, begun when the first is asked for. A kubelet may only get a
    VolumeAttachment by its name, not watch it (Node authorizer): it is looked at whenever the node
    changes, which a controller does when it has attached something, and now and then.

    Args:
        api: the API server.
        node: name of the node.
        presence: the node in the API server.
    """

    def __init__(self, api: ApiClient, node: str, presence: NodePresence) -> None:
        self._api = api
        self._node = node
        self._presence = presence
        self._drivers: dict[str, Object] = {}
        self._synced = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._node_changed = asyncio.Event()
        self._in_use: set[str] = set()
        presence.listeners.append(lambda _: self._node_changed.set())
        presence.adders.append(self._add_to_status)

    async def close(self) -> None:
        """Follow nothing any longer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # CSIDrivers ---------------------------------------------------------------------------------

    async def driver(self, name: str) -> Object | None:
        """Return a CSIDriver object; None if there is none.

        Raises:
            VolumeError: it is not known yet.
        """
        if self._task is None:
            self._task = asyncio.create_task(self._follow(), name="CSIDrivers")
        try:
            async with asyncio.timeout(FIRST_READ):
                await self._synced.wait()
        except TimeoutError:
            raise VolumeError(
                "", f"{NAME}: the CSIDriver {name} cannot be read: the API server does not answer"
            ) from None
        return self._drivers.get(name)

    async def _follow(self) -> None:
        async for change in Reflector(self._api, object_path(_STORAGE, "csidrivers")):
            if isinstance(change, Synced):
                self._drivers = {str(one["metadata"]["name"]): one for one in change.items}
                self._synced.set()
                continue
            name = str(change.object["metadata"]["name"])
            if change.kind == "DELETED":
                self._drivers.pop(name, None)
            else:
                self._drivers[name] = change.object

    # Attaching ----------------------------------------------------------------------------------

    async def attachment(self, volume: CsiVolume) -> dict[str, str]:
        """Wait until a controller has attached a volume; return what the driver gets of it.

        Raises:
            VolumeError: it cannot be attached, or is not for too long.
        """
        await self._tell_in_use(volume.unique_name)
        name = attachment_name(volume, self._node)
        path = object_path(_STORAGE, "volumeattachments", name=name)
        pause, why = _SHORTEST_PAUSE, ""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ATTACH_TIMEOUT):
                while True:
                    self._node_changed.clear()
                    try:
                        found = await self._api.get(path)
                    except ApiError as error:
                        if not (error.not_found or error.transient):
                            raise VolumeError("", str(error)) from error
                        why = str(error)
                    else:
                        done, fault = attached(found)
                        if fault:
                            raise VolumeError("", fault)
                        if done:
                            metadata = found["status"].get("attachmentMetadata") or {}
                            return {str(key): str(value) for key, value in metadata.items()}
                        why = ""
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(pause):
                            await self._node_changed.wait()
                    pause = min(pause * 1.5, _LONGEST_PAUSE)
        raise VolumeError(
            "",
            f"volume {volume.handle} has GET error for volume attachment {name}: {why}"
            if why
            else f"volume {volume.handle} is not attached for volume attachment {name}",
        )

    async def _tell_in_use(self, name: str) -> None:
        """Have the node's status say that a volume is in use, so that nobody detaches it."""
        self.add_in_use(name)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_IN_USE_TIMEOUT):
                while True:
                    self._node_changed.clear()
                    status = (self._presence.node or {}).get("status") or {}
                    if name in (status.get("volumesInUse") or ()):
                        return
                    await self._node_changed.wait()
        raise VolumeError(
            "",
            f"Volume {name} has not been added to the list of VolumesInUse in the node's volume "
            "status",
        )

    def add_in_use(self, name: str) -> None:
        """A volume is, or may be, in use on this node."""
        if name not in self._in_use:
            self._in_use.add(name)
            self._presence.report()

    def drop_in_use(self, name: str) -> None:
        """A volume is not in use on this node any more: it may be detached."""
        if name in self._in_use:
            self._in_use.discard(name)
            self._presence.report()

    def _add_to_status(self, status: Object) -> None:
        status["volumesInUse"] = sorted(self._in_use)

    # Secrets and claims --------------------------------------------------------------------------

    async def secret(self, reference: tuple[str, str] | None, what: str) -> dict[str, str]:
        """Return the content of a Secret; nothing for None.

        Args:
            reference: namespace and name.
            what: field that names it, for the error.

        Raises:
            VolumeError: it cannot be read.
        """
        if reference is None:
            return {}
        namespace, name = reference
        try:
            found = await self._api.get(object_path("v1", "secrets", namespace, name))
        except ApiError as error:
            raise VolumeError("", f"fetching {what} {namespace}/{name} failed: {error}") from error
        content = {}
        for key, value in (found.get("data") or {}).items():
            try:
                content[str(key)] = base64.b64decode(value, validate=True).decode()
            except ValueError as error:
                raise VolumeError(
                    "", f"{what} {namespace}/{name}: key {key} is no text: {error}"
                ) from error
        return content

    async def claim_resized(self, claim: Object, size: str) -> None:
        """Tell that the file system of a claim's volume fills it now; what fails is tried again.

        Args:
            claim: the PersistentVolumeClaim.
            size: of the volume.
        """
        meta, status = claim["metadata"], claim.get("status") or {}
        done = ("FileSystemResizePending", "Resizing", "NodeResizeError")
        conditions = [one for one in status.get("conditions") or () if one.get("type") not in done]
        body = {
            "status": {
                "capacity": {**(status.get("capacity") or {}), "storage": size},
                "conditions": conditions,
                "allocatedResourceStatuses": {"storage": None},
            }
        }
        path = object_path(
            "v1", "persistentvolumeclaims", meta["namespace"], meta["name"], "status"
        )
        try:
            await self._api.patch(path, body, kind=MERGE_PATCH)
        except ApiError as error:
            logs.event(
                _log, logging.WARNING, "claim not told of its size", claim=meta["name"],
                reason=str(error),
            )  # fmt: skip

    def node_uid(self) -> Callable[[], str]:
        """Return what tells the UID of the Node object."""
        return lambda: str((self._presence.node or {}).get("metadata", {}).get("uid") or "")
