"""Lets claims and volumes that are to be deleted go once nothing uses them.

Source: Kubernetes documentation, "Persistent Volumes", "Storage Object in Use Protection".
"""

from __future__ import annotations

from typing import ClassVar, Final

from controlplane.engine.controller import Context, Controller
from controlplane.engine.informer import Informer
from controlplane.engine.resources import (
    CLAIMS,
    PODS,
    VOLUMES,
    Object,
    Resource,
    is_deleting,
    key_of,
    split,
)

from .usage import INDEX, claim_keys, claim_names, has_ended

CLAIM_FINALIZER: Final = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER: Final = "kubernetes.io/pv-protection"


class _Protection(Controller):
    """Keeps a finalizer on objects, and takes it off those that are to go and are not used."""

    resource: ClassVar[Resource]
    finalizer: ClassVar[str]

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.objects: Informer = context.informers.of(self.resource)
        self.objects.listen(self.enqueue)

    async def is_used(self, value: Object) -> bool:
        """Whether something uses an object; the server is asked before it is let go."""
        raise NotImplementedError

    async def sync(self, key: str) -> float | None:
        """See `Controller`."""
        value = self.objects.get(key)
        if value is None:
            return None
        finalizers = value["metadata"].get("finalizers") or []
        there = self.finalizer in finalizers
        if not is_deleting(value):
            wanted = [*finalizers, self.finalizer]
            if there:
                return None
        elif not there or await self.is_used(value):
            return None
        else:
            wanted = [one for one in finalizers if one != self.finalizer]
        known = {name: value["metadata"][name] for name in ("uid", "resourceVersion")}
        await self.context.writer.patch(
            self.resource, value, {"metadata": {"finalizers": wanted, **known}}
        )
        return None


class ClaimProtection(_Protection):
    """Keeps claims for as long as pods use them."""

    name: ClassVar[str] = "persistentvolumeclaim-protection-controller"
    resource = CLAIMS
    finalizer = CLAIM_FINALIZER

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._pods = context.informers.of(PODS)
        self._pods.index(INDEX, claim_keys)
        self._pods.listen(self._pod_changed)

    def _pod_changed(self, before: Object | None, pod: Object | None) -> None:
        if before is not None and (pod is None or has_ended(pod)):
            for key in claim_keys(before):
                claim = self.objects.get(key)
                if claim is not None and is_deleting(claim):
                    self.queue.add(key)

    async def is_used(self, value: Object) -> bool:
        """See `_Protection`."""
        key = key_of(value)
        if any(not has_ended(pod) for pod in self._pods.indexed(INDEX, key)):
            return True
        # A pod that was made just now may not be in memory yet.
        namespace, name = split(key)
        pods = (await self.context.client.get(PODS.path(namespace)))["items"]
        return any(name in claim_names(pod) and not has_ended(pod) for pod in pods)


class VolumeProtection(_Protection):
    """Keeps volumes for as long as they are bound."""

    name: ClassVar[str] = "persistentvolume-protection-controller"
    resource = VOLUMES
    finalizer = VOLUME_FINALIZER

    async def is_used(self, value: Object) -> bool:
        """See `_Protection`."""
        return (value.get("status") or {}).get("phase") == "Bound"
