"""Binds claims to volumes.

Source: Kubernetes documentation, "Persistent Volumes"; the persistent volume controller of
Kubernetes 1.36, whose annotations, phases, events and texts these are.

A volume and a claim point at each other, and there are no transactions. The volume is written
first, on condition that it is as it was read (its resource version): so only one claim can win it,
whoever else binds at the same time, and that pointer says to whom it belongs. Then come the
volume's phase, the claim's pointer, and its phase. After a crash between any two of them the claim
is looked at again, finds the volume that is for it, and goes on.

Keys of the queue are ``namespace/name`` of claims and ``name`` of volumes.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from controlplane.engine.controller import Context, Controller
from controlplane.engine.recorder import NORMAL, WARNING
from controlplane.engine.resources import (
    CLAIMS,
    PODS,
    STORAGE_CLASSES,
    VOLUMES,
    Object,
    is_deleting,
    key_of,
)
from kubeletpy_common.apiclient.errors import ApiError

from .matching import (
    BETA_PROVISIONER,
    BIND_COMPLETED,
    BOUND_BY_CONTROLLER,
    PROVISIONED_BY,
    PROVISIONER,
    SELECTED_NODE,
    WAIT,
    annotations_of,
    best_volume,
    claim_key,
    class_of,
    default_class,
    differs_in_mode,
    is_for,
    is_free,
    misfit,
    names_class,
)
from .saying import AGAIN, Sayings
from .usage import INDEX, claim_keys, has_ended

_FREE: Final = "binder/free"
_FOR: Final = "binder/for"
_PENDING: Final = "binder/pending"
_NAMED: Final = "binder/named"
_IN_TREE: Final = "kubernetes.io/"
_MANUAL: Final = (
    "Waiting for a volume to be created either by the external provisioner '{}' or manually by the "
    "system administrator. If volume creation is delayed, please verify that the provisioner is "
    "running and correctly registered."
)


class Binder(Controller):
    """Binds claims to volumes, and volumes whose claim is gone are released."""

    name: ClassVar[str] = "persistentvolume-binder-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        of = context.informers.of
        self._claims, self._volumes = of(CLAIMS), of(VOLUMES)
        self._classes, self._pods = of(STORAGE_CLASSES), of(PODS)
        self._volumes.index(_FREE, lambda one: [class_of(one)] if is_free(one) else [])
        self._volumes.index(_FOR, lambda one: [key] if (key := claim_key(one)) else [])
        self._claims.index(_PENDING, lambda one: [] if _was_bound(one) else [class_of(one)])
        self._claims.index(_NAMED, lambda one: [one["spec"].get("volumeName") or ""])
        self._pods.index(INDEX, claim_keys)
        self._claims.listen(self._claim_changed)
        self._volumes.listen(self._volume_changed)
        self._classes.listen(self._class_changed)
        self._pods.listen(self._pod_changed)
        self._say = Sayings(context.recorder.of("persistentvolume-controller"))
        # Volumes that a claim looked at just now is about to get.
        self._chosen: set[str] = set()

    async def sync(self, key: str) -> float | None:
        """See `Controller`."""
        if "/" in key:
            claim = self._claims.get(key)
            return await self._sync_claim(claim) if claim is not None else None
        volume = self._volumes.get(key)
        if volume is not None:
            await self._sync_volume(volume)
        return None

    # What is to be looked at.

    def _claim_changed(self, before: Object | None, claim: Object | None) -> None:
        for one in (before, claim):
            if one is not None and one["spec"].get("volumeName"):
                self.queue.add(one["spec"]["volumeName"])
        found = claim or before
        assert found is not None
        if claim is None:
            self._say.forget(found)
        self.queue.add(key_of(found))
        for volume in self._volumes.indexed(_FOR, key_of(found)):
            self.queue.add(key_of(volume))

    def _volume_changed(self, before: Object | None, volume: Object | None) -> None:
        found = volume or before
        assert found is not None
        self.queue.add(key_of(found))
        for one in (before, volume):
            if one is not None and (key := claim_key(one)):
                self.queue.add(key)
        for claim in self._claims.indexed(_NAMED, key_of(found)):
            self.queue.add(key_of(claim))
        if volume is not None and is_free(volume):
            for claim in self._claims.indexed(_PENDING, class_of(volume)):
                self.queue.add(key_of(claim))

    def _class_changed(self, before: Object | None, value: Object | None) -> None:
        found = value or before
        assert found is not None
        for name in ("", found["metadata"]["name"]):
            for claim in self._claims.indexed(_PENDING, name):
                self.queue.add(key_of(claim))

    def _pod_changed(self, before: Object | None, pod: Object | None) -> None:
        if before is not None and pod is not None and _waits(before) == _waits(pod):
            return
        found = pod or before
        assert found is not None
        for key in claim_keys(found):
            claim = self._claims.get(key)
            if claim is not None and not _was_bound(claim):
                self.queue.add(key)

    # Claims.

    async def _sync_claim(self, claim: Object) -> float | None:
        if _was_bound(claim):
            await self._sync_bound(claim)
            return None
        if is_deleting(claim):
            return None
        if claim["spec"].get("volumeName"):
            return await self._sync_named(claim)
        return await self._sync_unbound(claim)

    async def _sync_unbound(self, claim: Object) -> float | None:
        """Look for a volume, for a claim that takes any."""
        wanted = self._classes.find("", class_of(claim)) if class_of(claim) else None
        delayed = wanted is not None and wanted.get("volumeBindingMode") == WAIT
        reserved = self._volumes.indexed(_FOR, key_of(claim))
        # With delayed binding the scheduler chooses, and tells by the volume or by the claim.
        free = [] if delayed else self._volumes.indexed(_FREE, class_of(claim))
        free = [one for one in free if key_of(one) not in self._chosen]
        volume = best_volume(claim, reserved, free)
        if volume is not None:
            await self._bind(volume, claim)
            return None
        if not names_class(claim):
            default = default_class(self._classes)
            if default is not None:
                await self._patch_claim(
                    claim, {"spec": {"storageClassName": default["metadata"]["name"]}}
                )
                return None
        if delayed and SELECTED_NODE not in annotations_of(claim):
            self._say_what_it_waits_for(claim)
        elif class_of(claim):
            claim = await self._ask_provisioner(claim, wanted)
        else:
            self._say.say(claim, NORMAL, "FailedBinding", "no persistent volumes available for "
                          "this claim and no storage class is set")  # fmt: skip
        await self._set_claim(claim, "Pending", None)
        return AGAIN

    def _say_what_it_waits_for(self, claim: Object) -> None:
        pods = [
            pod["metadata"]["name"] for pod in self._pods.indexed(INDEX, key_of(claim))
            if _waits(pod)
        ]  # fmt: skip
        if not pods:
            reason = "WaitForFirstConsumer"
            text = "waiting for first consumer to be created before binding"
        else:
            reason, plural = "WaitForPodScheduled", "s" if len(pods) > 1 else ""
            text = f"waiting for pod{plural} {','.join(pods)} to be scheduled"
        self._say.say(claim, NORMAL, reason, text)

    async def _ask_provisioner(self, claim: Object, wanted: Object | None) -> Object:
        if wanted is None:
            self._say.say(claim, WARNING, "ProvisioningFailed",
                          f'storageclass.storage.k8s.io "{class_of(claim)}" not found')  # fmt: skip
            return claim
        name = wanted["provisioner"]
        if name.startswith(_IN_TREE):
            self._say.say(claim, WARNING, "ProvisioningFailed",
                          f"no volume plugin matched name: {name}")  # fmt: skip
            return claim
        if annotations_of(claim).get(PROVISIONER) != name:
            marks = {PROVISIONER: name, BETA_PROVISIONER: name}
            claim = await self._patch_claim(claim, {"metadata": {"annotations": marks}})
        self._say.say(claim, NORMAL, "ExternalProvisioning", _MANUAL.format(name))
        return claim

    async def _sync_named(self, claim: Object) -> float | None:
        """Bind a claim to the volume that it names, once that is possible."""
        name = claim["spec"]["volumeName"]
        volume = self._volumes.find("", name)
        if volume is not None:
            if is_for(volume, claim):
                await self._bind(volume, claim)
                return None
            if volume["spec"].get("claimRef"):
                self._say.say(claim, WARNING, "FailedBinding",
                              f'volume "{name}" already bound to a different claim.')  # fmt: skip
            elif why := misfit(volume, claim):
                self._say.say(claim, WARNING, "VolumeMismatch",
                              f'Cannot bind to requested volume "{name}": {why}')  # fmt: skip
            elif name not in self._chosen:
                await self._bind(volume, claim)
                return None
        await self._set_claim(claim, "Pending", None)
        return AGAIN

    async def _sync_bound(self, claim: Object) -> None:
        """Look after a claim that was bound once."""
        name = claim["spec"].get("volumeName")
        if not name:
            await self._lose(claim, "ClaimLost", "Bound claim has lost reference to "
                             "PersistentVolume. Data on the volume is lost!")  # fmt: skip
            return
        volume = self._volumes.find("", name) or await self._read_volume(name)
        if volume is None:
            await self._lose(claim, "ClaimLost", "Bound claim has lost its PersistentVolume. Data "
                             "on the volume is lost!")  # fmt: skip
            return
        reference = volume["spec"].get("claimRef")
        if not reference or reference.get("uid") == claim["metadata"]["uid"]:
            await self._bind(volume, claim)
        elif is_for(volume, claim):
            # Reserved by name: it was made anew, as a copy of the one that the claim had.
            await self._bind(volume, claim)
        else:
            await self._lose(claim, "ClaimMisbound", "Two claims are bound to the same volume, "
                             "this one is bound incorrectly")  # fmt: skip

    async def _read_volume(self, name: str) -> Object | None:
        """Ask the server: a claim is lost for good only if it says so."""
        try:
            return await self.context.writer.read(VOLUMES, {"metadata": {"name": name}})
        except ApiError as error:
            if error.not_found:
                return None
            raise

    async def _lose(self, claim: Object, reason: str, message: str) -> None:
        if (claim.get("status") or {}).get("phase") != "Lost":
            await self._set_claim(claim, "Lost", None)
            self._say.say(claim, WARNING, reason, message)

    async def _bind(self, volume: Object, claim: Object) -> None:
        """Make both point at each other; the volume comes first."""
        name = key_of(volume)
        if name in self._chosen:
            return
        self._chosen.add(name)
        try:
            volume = await self._give(volume, claim)
            volume = await self._set_volume(volume, "Bound")
            claim = await self._take(claim, name)
            await self._set_claim(claim, "Bound", volume)
        finally:
            self._chosen.discard(name)
        self._say.forget(claim)

    async def _give(self, volume: Object, claim: Object) -> Object:
        """Make the volume point at the claim."""
        meta = claim["metadata"]
        changes: dict[str, Any] = {}
        if not is_for(volume, claim) and BOUND_BY_CONTROLLER not in annotations_of(volume):
            changes["metadata"] = {"annotations": {BOUND_BY_CONTROLLER: "yes"}}
        if (volume["spec"].get("claimRef") or {}).get("uid") != meta["uid"]:
            changes["spec"] = {"claimRef": {
                "apiVersion": "v1", "kind": CLAIMS.kind, "namespace": meta["namespace"],
                "name": meta["name"], "uid": meta["uid"],
                "resourceVersion": meta["resourceVersion"],
            }}  # fmt: skip
        return await self._patch_volume(volume, changes) if changes else volume

    async def _take(self, claim: Object, name: str) -> Object:
        """Make the claim point at the volume."""
        marks, known = {}, annotations_of(claim)
        changes: dict[str, Any] = {}
        if claim["spec"].get("volumeName") != name:
            changes["spec"] = {"volumeName": name}
            if BOUND_BY_CONTROLLER not in known:
                marks[BOUND_BY_CONTROLLER] = "yes"
        if BIND_COMPLETED not in known:
            marks[BIND_COMPLETED] = "yes"
        if marks:
            changes["metadata"] = {"annotations": marks}
        return await self._patch_claim(claim, changes) if changes else claim

    # Volumes.

    async def _sync_volume(self, volume: Object) -> None:
        reference = volume["spec"].get("claimRef")
        if not reference or not reference.get("uid"):
            # Unused, or reserved for a claim of a name, which takes it when it comes.
            await self._set_volume(volume, "Available")
            return
        claim = await self._claim_of(volume)
        if claim is None:
            await self._release(volume)
            return
        name = claim["spec"].get("volumeName")
        if name == key_of(volume):
            await self._set_volume(volume, "Bound")
        elif name:
            await self._is_elsewhere(volume)
        elif differs_in_mode(volume, claim):
            self._say_that_modes_differ(volume, claim)
        # Else the claim, which is looked at as well, goes on with it.

    def _say_that_modes_differ(self, volume: Object, claim: Object) -> None:
        why = "due to incompatible volumeMode."
        known, wanted = key_of(volume), claim["metadata"]["name"]
        self._say.say(
            volume, WARNING, "VolumeMismatch",
            f'Cannot bind PersistentVolume to requested PersistentVolumeClaim "{wanted}" {why}',
        )  # fmt: skip
        self._say.say(
            claim, WARNING, "VolumeMismatch",
            f'Cannot bind PersistentVolume "{known}" to requested PersistentVolumeClaim {why}',
        )  # fmt: skip

    async def _claim_of(self, volume: Object) -> Object | None:
        """Return the very claim that a volume is bound to; None: the server says that it is gone.

        What is in memory may be older than the volume, which may be deleted because of it.
        """
        reference = volume["spec"]["claimRef"]
        claim = self._claims.get(claim_key(volume))
        if claim is not None and claim["metadata"]["uid"] == reference["uid"]:
            return claim
        if _phase(volume) in ("Released", "Failed"):
            return None
        known = {"metadata": {"namespace": reference["namespace"], "name": reference["name"]}}
        try:
            claim = await self.context.writer.read(CLAIMS, known)
        except ApiError as error:
            if error.not_found:
                return None
            raise
        return claim if claim["metadata"]["uid"] == reference["uid"] else None

    async def _is_elsewhere(self, volume: Object) -> None:
        """Take a volume back whose claim has another one."""
        provisioned = PROVISIONED_BY in annotations_of(volume)
        if provisioned and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete":
            await self._release(volume)
            return
        if BOUND_BY_CONTROLLER in annotations_of(volume):
            changes: dict[str, Any] = {
                "metadata": {"annotations": {BOUND_BY_CONTROLLER: None}},
                "spec": {"claimRef": None},
            }
        else:
            # A person has reserved it for that claim, and it stays so.
            changes = {"spec": {"claimRef": {"uid": None}}}
        volume = await self._patch_volume(volume, changes)
        await self._set_volume(volume, "Available")

    async def _release(self, volume: Object) -> None:
        """Do as the reclaim policy says with a volume whose claim is gone."""
        if _phase(volume) not in ("Released", "Failed"):
            volume = await self._set_volume(volume, "Released")
        policy = volume["spec"].get("persistentVolumeReclaimPolicy") or "Retain"
        if policy == "Recycle":
            await self._fail(volume, "VolumeFailedRecycle",
                             "No recycler plugin found for the volume!")  # fmt: skip
        elif policy == "Delete" and not _is_deleted_by_others(volume):
            await self._fail(
                volume, "VolumeFailedDelete", "error getting deleter volume plugin for volume "
                f'"{key_of(volume)}": no deletable volume plugin matched',
            )  # fmt: skip
        elif policy not in ("Retain", "Delete"):
            await self._fail(volume, "VolumeUnknownReclaimPolicy",
                             "Volume has unrecognized PersistentVolumeReclaimPolicy")  # fmt: skip

    async def _fail(self, volume: Object, reason: str, message: str) -> None:
        if _phase(volume) != "Failed":
            volume = await self._set_volume(volume, "Failed", message)
            self._say.say(volume, WARNING, reason, message)

    # Writes: each only if the object is still as it was when this was decided.

    async def _set_volume(self, volume: Object, phase: str, message: str = "") -> Object:
        if _phase(volume) == phase:
            return volume
        status = {"phase": phase, "message": message or None}
        return await self._patch_volume(volume, {"status": status}, "status")

    async def _set_claim(self, claim: Object, phase: str, volume: Object | None) -> Object:
        changes = claim_status(claim, phase, volume)
        return await self._patch_claim(claim, {"status": changes}, "status") if changes else claim

    async def _patch_volume(
        self, volume: Object, changes: dict[str, Any], subresource: str = ""
    ) -> Object:
        return await self.context.writer.patch(
            VOLUMES, volume, _on_condition(volume, changes), subresource=subresource
        )

    async def _patch_claim(
        self, claim: Object, changes: dict[str, Any], subresource: str = ""
    ) -> Object:
        return await self.context.writer.patch(
            CLAIMS, claim, _on_condition(claim, changes), subresource=subresource
        )


def claim_status(claim: Object, phase: str, volume: Object | None) -> dict[str, Any]:
    """Return what is to be changed of the status of a claim, as a merge patch (pure).

    The capacity is told when a claim becomes bound; later it is those who resize that say it.
    """
    status = claim.get("status") or {}
    changes: dict[str, Any] = {} if status.get("phase") == phase else {"phase": phase}
    wanted: dict[str, Any] = dict.fromkeys(
        ("accessModes", "capacity", "currentVolumeAttributesClassName")
    )
    if volume is not None:
        spec = volume["spec"]
        wanted = {"accessModes": spec.get("accessModes")}
        if changes:
            wanted["capacity"] = spec.get("capacity")
            if status.get("phase", "Pending") == "Pending":
                wanted["currentVolumeAttributesClassName"] = spec.get("volumeAttributesClassName")
    changes |= {name: value for name, value in wanted.items() if status.get(name) != value}
    return changes


def _on_condition(value: Object, changes: dict[str, Any]) -> dict[str, Any]:
    known = {name: value["metadata"][name] for name in ("uid", "resourceVersion")}
    return {**changes, "metadata": {**changes.get("metadata", {}), **known}}


def _was_bound(claim: Object) -> bool:
    return BIND_COMPLETED in annotations_of(claim)


def _waits(pod: Object) -> bool:
    """Whether the scheduler has yet to choose a node for a pod."""
    return not pod["spec"].get("nodeName") and not has_ended(pod)


def _phase(volume: Object) -> str:
    return (volume.get("status") or {}).get("phase") or "Pending"


def _is_deleted_by_others(volume: Object) -> bool:
    """Whether it is a provisioner's to delete the volume."""
    by = annotations_of(volume).get(PROVISIONED_BY, "")
    return bool(by and not by.startswith(_IN_TREE)) or "csi" in volume["spec"]
