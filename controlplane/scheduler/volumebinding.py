"""Having the volumes of a pod bound, or made, before the pod is bound to its node."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any, Final

from controlplane.engine.controller import Context
from controlplane.engine.resources import CLAIMS, VOLUMES, Object, is_deleting, key_of
from kubeletpy_common.apiclient.errors import ApiError

from .cluster import Cluster
from .plugins.volumes import VolumeBinding, is_bound_to
from .storage import (
    BOUND_BY_CONTROLLER,
    SELECTED_NODE,
    PodVolumes,
    Storage,
    fits_node,
    is_fully_bound,
)

LONGEST: Final = 600.0
"""Seconds that volumes may take (``bindTimeoutSeconds``)."""


class VolumesError(Exception):
    """The volumes of a pod cannot be had on its node now, and why."""

    def __str__(self) -> str:
        return f'running PreBind plugin "{VolumeBinding.name}": {super().__str__()}'


class VolumeBinder:
    """Decides for volumes, and waits until it is so.

    Args:
        context: of the process.
        storage: claims and volumes.
        cluster: the nodes.
        longest: seconds that it may take.
    """

    def __init__(
        self, context: Context, storage: Storage, cluster: Cluster, longest: float = LONGEST
    ) -> None:
        self._writer = context.writer
        self._storage = storage
        self._cluster = cluster
        self._longest = longest
        self._bells: set[asyncio.Event] = set()
        storage.claims.informer.listen(self._changed)
        storage.volumes.informer.listen(self._changed)

    def _changed(self, before: Object | None, after: Object | None) -> None:
        for bell in self._bells:
            bell.set()

    def assume(self, volumes: PodVolumes, node: str) -> PodVolumes:
        """Decide for what is to be written, before it is; other pods see it at once."""
        made = PodVolumes()
        for volume, claim in volumes.bindings:
            bound = bound_to(volume, claim)
            if bound != volume:
                self._storage.volumes.assume(bound)
            made.bindings.append((bound, claim))
        for claim in volumes.provisions:
            chosen = copy.deepcopy(claim)
            chosen["metadata"].setdefault("annotations", {})[SELECTED_NODE] = node
            self._storage.claims.assume(chosen)
            made.provisions.append(chosen)
        return made

    def forget(self, volumes: PodVolumes) -> None:
        """Take back what was decided and not written."""
        for volume, _ in volumes.bindings:
            self._storage.volumes.restore(key_of(volume))
        for claim in volumes.provisions:
            self._storage.claims.restore(key_of(claim))

    async def bind(self, volumes: PodVolumes, node: str, is_there: Callable[[], bool]) -> None:
        """Write what was decided, and wait until all claims are bound.

        Args:
            volumes: what `assume` returned.
            node: of the pod.
            is_there: says whether the pod is there still.

        Raises:
            VolumesError: it cannot be had, and why.
        """
        try:
            for volume, _ in volumes.bindings:
                await self._writer.update(VOLUMES, volume)
            for claim in volumes.provisions:
                await self._writer.update(CLAIMS, claim)
        except ApiError as error:
            raise VolumesError(str(error)) from error
        bell = asyncio.Event()
        self._bells.add(bell)
        try:
            async with asyncio.timeout(self._longest):
                while not self._is_done(volumes, node):
                    if not is_there():
                        raise VolumesError("binding volumes: pod does not exist any more")
                    await bell.wait()
                    bell.clear()
        except TimeoutError:
            raise VolumesError("binding volumes: context deadline exceeded") from None
        finally:
            self._bells.discard(bell)

    def notice(self) -> None:
        """Have waiting pods looked at: one may be gone."""
        self._changed(None, None)

    def _is_done(self, volumes: PodVolumes, name: str) -> bool:
        node = self._cluster.find(name)
        if node is None:
            raise VolumesError(f'binding volumes: failed to get node "{name}"')

        def check(volume: Object) -> None:
            if not fits_node(volume, name, node.labels):
                raise VolumesError(
                    f'binding volumes: pv "{volume["metadata"]["name"]}" node affinity doesn\'t '
                    f'match node "{name}"'
                )

        claims = [claim for _, claim in volumes.bindings]
        for volume, _ in volumes.bindings:
            found = self._storage.volumes.informer.get(key_of(volume))
            if found is None or not (found["spec"].get("claimRef") or {}).get("uid"):
                raise VolumesError(
                    f'binding volumes: ClaimRef got reset for pv "{volume["metadata"]["name"]}"'
                )
            check(found)
        for claim in volumes.provisions:
            meta = claim["metadata"]
            found = self._found(claim)
            if (found["metadata"].get("annotations") or {}).get(SELECTED_NODE) != name:
                raise VolumesError(f'binding volumes: provisioning failed for PVC "{meta["name"]}"')
            volume_name = found["spec"].get("volumeName")
            made = self._storage.volumes.informer.get(volume_name) if volume_name else None
            if made is not None:
                check(made)
            claims.append(claim)
        return all(is_fully_bound(self._found(claim)) for claim in claims)

    def _found(self, claim: Object) -> Object:
        found = self._storage.claims.informer.get(key_of(claim))
        if found is None or is_deleting(found):
            name = claim["metadata"]["name"]
            raise VolumesError(f'binding volumes: persistentvolumeclaim "{name}" not found')
        return found


def bound_to(volume: Object, claim: Object) -> Object:
    """Return a volume that says that it is a claim's (pure)."""
    meta = claim["metadata"]
    reference: dict[str, Any] = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": meta["namespace"],
        "name": meta["name"], "uid": meta["uid"], "resourceVersion": meta["resourceVersion"],
    }  # fmt: skip
    if (volume["spec"].get("claimRef") or {}).get("uid") == meta["uid"]:
        return volume
    made = copy.deepcopy(volume)
    if not is_bound_to(volume, claim):
        made["metadata"].setdefault("annotations", {})[BOUND_BY_CONTROLLER] = "yes"
    made["spec"]["claimRef"] = reference
    return made
