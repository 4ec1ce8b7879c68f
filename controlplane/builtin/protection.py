"""Lets claims and volumes that are to be deleted go once nothing uses them.

Source: Kubernetes documentation, "Persistent Volumes", "Storage Object in Use Protection".
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from controlplane.admission.classes import CLAIM_FINALIZER, VOLUME_FINALIZER
from controlplane.api import codec
from controlplane.api.errors import ApiError
from controlplane.api.resource import Object, Resource
from controlplane.builtin.following import context, follow
from controlplane.builtin.selection import CLAIM_PROTECTION, VOLUME_PROTECTION
from controlplane.controllers.volumes.usage import claim_names, has_ended
from controlplane.engine.queue import WorkQueue
from controlplane.plane import Background, Plane
from controlplane.store.model import Change

_CLAIMS = "/core/persistentvolumeclaims/"
_VOLUMES = "/core/persistentvolumes/"
_PODS = "/core/pods/"


def protect_claims(plane: Plane) -> Background:
    """Return what takes the finalizer off claims that no pod uses."""
    return _ClaimProtection(plane).run


def protect_volumes(plane: Plane) -> Background:
    """Return what takes the finalizer off volumes that are not bound."""
    return _VolumeProtection(plane).run


class _ClaimProtection:
    """Looks at claims whose deletion is asked for, and again when pods that use them end."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._queue = WorkQueue(CLAIM_PROTECTION, self._look, workers=2)

    async def run(self) -> None:
        """Work, until cancelled.

        Raises:
            CompactedError: it fell too far behind, and has to begin anew.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._queue.run())
            tasks.create_task(self._follow(_CLAIMS))
            tasks.create_task(self._follow(_PODS))

    async def _follow(self, prefix: str) -> None:
        async for change in follow(self._plane.store, prefix):
            for key in self._concerned(change):
                self._queue.add(key)
        # The store is closing, and the server with it.
        await asyncio.Event().wait()

    def _concerned(self, change: Change) -> Iterable[str]:
        if change.key.startswith(_CLAIMS):
            return [change.key] if change.item is not None else []
        pod = codec.decode(change.previous) if change.previous is not None else None
        ended = change.item is None or has_ended(codec.decode(change.item))
        if pod is None or not ended:
            return []
        return [f"{_CLAIMS}{pod['metadata']['namespace']}/{name}" for name in claim_names(pod)]

    async def _look(self, key: str) -> float | None:
        item = self._plane.store.get(key)
        if item is None:
            return None
        meta = codec.decode(item)["metadata"]
        if not meta.get("deletionTimestamp") or CLAIM_FINALIZER not in meta.get("finalizers", []):
            return None
        pods = self._plane.store.read(f"{_PODS}{meta['namespace']}/").items
        values = (codec.decode(one) for one in pods)
        if any(meta["name"] in claim_names(pod) and not has_ended(pod) for pod in values):
            return None
        claims = self._plane.catalog.find("", "v1", "persistentvolumeclaims")
        assert claims is not None
        await _release(self._plane, claims, meta, CLAIM_FINALIZER, CLAIM_PROTECTION)
        return None


class _VolumeProtection:
    """Looks at volumes whose deletion is asked for, at each change of them."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._queue = WorkQueue(VOLUME_PROTECTION, self._look, workers=2)

    async def run(self) -> None:
        """Work, until cancelled.

        Raises:
            CompactedError: it fell too far behind, and has to begin anew.
        """
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(self._queue.run())
            async for change in follow(self._plane.store, _VOLUMES):
                if change.item is not None:
                    self._queue.add(change.key)
            working.cancel()

    async def _look(self, key: str) -> float | None:
        item = self._plane.store.get(key)
        value = codec.decode(item) if item is not None else {"metadata": {}}
        meta = value["metadata"]
        if not meta.get("deletionTimestamp") or VOLUME_FINALIZER not in meta.get("finalizers", []):
            return None
        if value.get("status", {}).get("phase") == "Bound":
            return None
        volumes = self._plane.catalog.find("", "v1", "persistentvolumes")
        assert volumes is not None
        await _release(self._plane, volumes, meta, VOLUME_FINALIZER, VOLUME_PROTECTION)
        return None


async def _release(
    plane: Plane, resource: Resource, meta: Object, finalizer: str, controller: str
) -> None:
    async def released(value: Object) -> Object:
        kept = [one for one in value["metadata"].get("finalizers", []) if one != finalizer]
        value["metadata"]["finalizers"] = kept
        value["metadata"].pop("resourceVersion", None)
        return value

    try:
        namespace, writing = meta.get("namespace", ""), context(controller)
        await plane.registry.update(resource, namespace, meta["name"], released, writing)
    except ApiError as error:
        if error.reason != "NotFound":
            raise
