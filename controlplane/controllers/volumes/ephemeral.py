"""Makes the claims of generic ephemeral volumes, which live as long as their pods.

Source: Kubernetes documentation, "Ephemeral Volumes", "Generic ephemeral volumes".
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar

from controlplane.engine.controller import Context, Controller
from controlplane.engine.ownership import is_controlled_by, reference_to
from controlplane.engine.recorder import WARNING
from controlplane.engine.resources import CLAIMS, PODS, Object, is_deleting, key_of
from kubeletpy_common.apiclient.errors import ApiError

from .saying import Sayings
from .usage import INDEX, claim_keys, ephemeral_name


class EphemeralVolumes(Controller):
    """Makes a claim for each ephemeral volume of a pod; the pod owns it."""

    name: ClassVar[str] = "ephemeral-volume-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._pods = context.informers.of(PODS)
        self._claims = context.informers.of(CLAIMS)
        self._pods.index(INDEX, claim_keys)
        self._pods.listen(self._pod_changed)
        self._claims.listen(self._claim_changed)
        self._say = Sayings(context.recorder.of("ephemeral_volume"))

    def _pod_changed(self, before: Object | None, pod: Object | None) -> None:
        # Volumes of a pod never change.
        if before is None and pod is not None and ephemeral_volumes(pod):
            self.queue.add(key_of(pod))

    def _claim_changed(self, before: Object | None, claim: Object | None) -> None:
        if claim is None and before is not None:
            for pod in self._pods.indexed(INDEX, key_of(before)):
                self.queue.add(key_of(pod))

    async def sync(self, key: str) -> float | None:
        """See `Controller`."""
        pod = self._pods.get(key)
        if pod is None or is_deleting(pod):
            return None
        for volume in ephemeral_volumes(pod):
            try:
                await self._make(pod, volume)
            except ApiError as error:
                self._tell(pod, volume, f"create PVC {ephemeral_name(pod, volume)}: {error}")
                raise
        return None

    async def _make(self, pod: Object, volume: Object) -> None:
        namespace, name = pod["metadata"]["namespace"], ephemeral_name(pod, volume)
        claim = self._claims.find(namespace, name)
        if claim is None:
            await self.context.writer.create(CLAIMS, claim_for(pod, volume))
        elif not is_controlled_by(claim, pod):
            # It cannot be used before that one is gone, which is heard of.
            self._tell(pod, volume, f"PVC {namespace}/{name} was not created for pod "
                       f"{key_of(pod)} (pod is not owner)")  # fmt: skip

    def _tell(self, pod: Object, volume: Object, why: str) -> None:
        text = f"ephemeral volume {volume['name']}: {why}"
        self._say.say(pod, WARNING, "FailedBinding", text)


def ephemeral_volumes(pod: Object) -> list[dict[str, Any]]:
    """Return the generic ephemeral volumes of a pod (pure)."""
    return [one for one in pod["spec"].get("volumes") or () if one.get("ephemeral") is not None]


def claim_for(pod: Object, volume: Object) -> Object:
    """Return the claim for an ephemeral volume of a pod (pure)."""
    template = volume["ephemeral"]["volumeClaimTemplate"]
    meta = template.get("metadata") or {}
    return {
        "metadata": {
            "namespace": pod["metadata"]["namespace"],
            "name": ephemeral_name(pod, volume),
            "labels": dict(meta.get("labels") or {}),
            "annotations": dict(meta.get("annotations") or {}),
            "ownerReferences": [reference_to(pod, PODS)],
        },
        "spec": copy.deepcopy(template["spec"]),
    }
