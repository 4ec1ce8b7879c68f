"""Volumes: whether a pod can have all of its own on a node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

from controlplane.engine.ownership import is_controlled_by
from controlplane.engine.resources import Object, is_deleting

from .. import hinting
from ..events import Hints
from ..nodes import REGION, ZONE, NodeInfo
from ..pods import PodInfo, claims_of
from ..statuses import SchedulingError, Status
from ..storage import (
    NO_PROVISIONER,
    SELECTED_NODE,
    PodVolumes,
    Storage,
    class_of,
    fits_node,
    is_fully_bound,
    requested,
    size_of,
    volume_class,
)
from ..terms import selector_of
from .base import Attempt, Check, Plugin

_OLD_ZONE: Final = "failure-domain.beta.kubernetes.io/zone"
_OLD_REGION: Final = "failure-domain.beta.kubernetes.io/region"
_PLACES: Final = {_OLD_ZONE: ZONE, _OLD_REGION: REGION, ZONE: ZONE, REGION: REGION}


def not_found(kind: str, name: str) -> str:
    """Return what the API server would say of an object that is not there."""
    return f'{kind} "{name}" not found'


class VolumePlugin(Plugin):
    """A plugin that looks at volumes.

    Args:
        storage: claims, volumes and all the rest.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def claim(self, pod: PodInfo, name: str) -> Object | None:
        """Return a claim of the pod's namespace."""
        return self.storage.claims.get(f"{pod.namespace}/{name}")


class VolumeRestrictions(VolumePlugin):
    """Volumes that one pod, or one node, may use alone."""

    name: ClassVar[str] = "VolumeRestrictions"
    hints: ClassVar[Hints] = hinting.VOLUME_RESTRICTIONS

    def prepare(self, attempt: Attempt) -> Check | Status | None:
        """Nothing, for a pod without such volumes."""
        pod = attempt.pod
        alone: set[str] = set()
        for name, ephemeral in claims_of(pod.pod):
            if ephemeral:
                continue
            claim = self.claim(pod, name)
            if claim is None:
                return Status(self.name, (not_found("persistentvolumeclaim", name),))
            if "ReadWriteOncePod" in (claim["spec"].get("accessModes") or ()):
                alone.add(name)
        disks = list(disks_of(pod))
        used = sum(attempt.cluster.uses(f"{pod.namespace}/{name}") for name in alone)
        return _Alone(pod, disks, alone, used) if disks or used else None


class _Alone(Check):
    _DISK: Final = Status(VolumeRestrictions.name, ("node(s) had no available disk",), True)
    _USED: Final = Status(
        VolumeRestrictions.name,
        ("node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode "
         "already in-use by another pod",), True,
    )  # fmt: skip

    def __init__(
        self, pod: PodInfo, disks: list[tuple[Any, ...]], alone: set[str], used: int
    ) -> None:
        self._namespace = pod.namespace
        self._disks = disks
        self._alone = alone
        self._used = used

    def at(self, node: NodeInfo) -> Status | None:
        if self._disks and any(
            disks_conflict(one, other)
            for pod in node.pods.values() for other in disks_of(pod) for one in self._disks
        ):  # fmt: skip
            return self._DISK
        return self._USED if self._used > 0 else None

    def add(self, pod: PodInfo, node: NodeInfo) -> None:
        self._used += self._of(pod)

    def remove(self, pod: PodInfo, node: NodeInfo) -> None:
        self._used -= self._of(pod)

    def _of(self, pod: PodInfo) -> int:
        if pod.namespace != self._namespace:
            return 0
        return sum(name in self._alone for name, ephemeral in claims_of(pod.pod) if not ephemeral)


def disks_of(pod: PodInfo) -> Iterator[tuple[Any, ...]]:
    """Yield the disks that a pod uses directly: kind, identity, whether it only reads."""
    for one in pod.spec.get("volumes") or ():
        if "gcePersistentDisk" in one:
            disk = one["gcePersistentDisk"]
            yield "gce", {disk.get("pdName")}, bool(disk.get("readOnly"))
        elif "awsElasticBlockStore" in one:
            yield "aws", {one["awsElasticBlockStore"].get("volumeID")}, False
        elif "iscsi" in one:
            yield "iscsi", {one["iscsi"].get("iqn")}, bool(one["iscsi"].get("readOnly"))
        elif "rbd" in one:
            rbd = one["rbd"]
            image = (rbd.get("pool") or "rbd", rbd.get("image"))
            monitors = {(monitor, *image) for monitor in rbd.get("monitors") or ()}
            yield "rbd", monitors, bool(rbd.get("readOnly"))


def disks_conflict(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether two uses of disks cannot be on one node (pure)."""
    return one[0] == other[0] and bool(one[1] & other[1]) and not (one[2] and other[2])


class NodeVolumeLimits(VolumePlugin):
    """How many volumes of a CSI driver a node takes, by its CSINode."""

    name: ClassVar[str] = "NodeVolumeLimits"
    hints: ClassVar[Hints] = hinting.NODE_VOLUME_LIMITS

    def prepare(self, attempt: Attempt) -> Check | Status | None:
        """Nothing, for a pod without volumes of CSI drivers."""
        pod, new = attempt.pod, dict[str, str]()
        for name, ephemeral in claims_of(pod.pod):
            claim = self.claim(pod, name)
            if claim is None:
                why = not_found("persistentvolumeclaim", name)
                text = f"looking up PVC {pod.namespace}/{name}: {why}"
                return _Refusal(Status(self.name, (text,)))
            if ephemeral and not is_controlled_by(claim, pod.pod):
                # VolumeBinding refuses the pod.
                continue
            self._count(claim, new)
        return _Limits(self, new) if new else None

    def on(self, node: NodeInfo) -> dict[str, str]:
        """Return the volumes that a node has, or will have, with their drivers."""
        found: dict[str, str] = {}
        for pod in node.pods.values():
            for name, _ in claims_of(pod.pod):
                claim = self.claim(pod, name)
                if claim is not None:
                    self._count(claim, found)
        for one in self.storage.attachments.indexed("scheduler-node", node.name):
            spec = one["spec"]
            volume = self.storage.volumes.get(spec["source"].get("persistentVolumeName") or "")
            csi = volume["spec"].get("csi") if volume is not None else None
            if csi is not None and spec.get("attacher"):
                found[f"{spec['attacher']}/{csi.get('volumeHandle')}"] = spec["attacher"]
        return found

    def _count(self, claim: Object, found: dict[str, str]) -> None:
        volume = self.storage.volumes.get(claim["spec"].get("volumeName") or "")
        if volume is not None:
            csi = volume["spec"].get("csi")
            if csi is not None:
                found[f"{csi['driver']}/{csi.get('volumeHandle')}"] = csi["driver"]
            return
        found_class = self.storage.classes.get(class_of(claim))
        if found_class is not None:
            meta, driver = claim["metadata"], found_class.get("provisioner", "")
            found[f"{driver}/ {meta['namespace']}/{meta['name']}"] = driver

    def limits(self, node: NodeInfo) -> dict[str, int]:
        """Return how many volumes of each driver a node takes."""
        found = self.storage.nodes.get(node.name)
        drivers = (found["spec"].get("drivers") or ()) if found is not None else ()
        return {
            one["name"]: one["allocatable"]["count"]
            for one in drivers if (one.get("allocatable") or {}).get("count") is not None
        }  # fmt: skip


class _Refusal(Check):
    def __init__(self, status: Status) -> None:
        self._status = status

    def at(self, node: NodeInfo) -> Status | None:
        return self._status


class _Limits(Check):
    _WHY: Final = Status(NodeVolumeLimits.name, ("node(s) exceed max volume count",), True)

    def __init__(self, plugin: NodeVolumeLimits, new: Mapping[str, str]) -> None:
        self._plugin = plugin
        self._new = new

    def at(self, node: NodeInfo) -> Status | None:
        limits = self._plugin.limits(node)
        if not any(driver in limits for driver in self._new.values()):
            return None
        there = self._plugin.on(node)
        counts: dict[str, int] = {}
        for driver in (there | dict(self._new)).values():
            if driver in limits:
                counts[driver] = counts.get(driver, 0) + 1
        more = {driver for name, driver in self._new.items() if name not in there}
        full = any(counts[driver] > limits[driver] for driver in more if driver in limits)
        return self._WHY if full else None


def foreign(claim: Object, pod: PodInfo) -> str:
    """Return what is said of a claim that has the name of a pod's ephemeral volume."""
    name = f"{pod.namespace}/{pod.pod['metadata']['name']}"
    return (f"PVC {pod.namespace}/{claim['metadata']['name']} was not created for pod {name} "
            "(pod is not owner)")  # fmt: skip


class VolumeBinding(VolumePlugin):
    """Claims that are bound, and those that are to be, once the pod has a node."""

    name: ClassVar[str] = "VolumeBinding"
    hints: ClassVar[Hints] = hinting.VOLUME_BINDING

    def prepare(self, attempt: Attempt) -> Check | Status | None:
        """Nothing, for a pod without claims."""
        pod = attempt.pod
        bound: list[Object] = []
        waiting: list[Object] = []
        for name, ephemeral in claims_of(pod.pod):
            claim = self.claim(pod, name)
            why = self._why_not(pod, claim, name, ephemeral)
            if why:
                return Status(self.name, (why,))
            assert claim is not None
            if is_fully_bound(claim):
                bound.append(claim)
            elif self.storage.waits(claim) and not claim["spec"].get("volumeName"):
                waiting.append(claim)
            else:
                return Status(self.name, ("pod has unbound immediate PersistentVolumeClaims",))
        if not bound and not waiting:
            return None
        made: dict[str, PodVolumes] = {}
        attempt.kept[self.name] = made
        return VolumesFit(self.storage, bound, waiting, made)

    def _why_not(self, pod: PodInfo, claim: Object | None, name: str, ephemeral: bool) -> str:
        if claim is None:
            if ephemeral:
                return ("waiting for ephemeral volume controller to create the "
                        f'persistentvolumeclaim "{name}"')  # fmt: skip
            return not_found("persistentvolumeclaim", name)
        if (claim.get("status") or {}).get("phase") == "Lost":
            volume = claim["spec"].get("volumeName", "")
            return (
                f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{volume}"'
            )
        if is_deleting(claim):
            return f'persistentvolumeclaim "{name}" is being deleted'
        if ephemeral and not is_controlled_by(claim, pod.pod):
            return foreign(claim, pod)
        return ""


class VolumesFit(Check):
    """Whether the volumes of a pod can be used on a node, or made for it."""

    _AFFINITY: Final = "node(s) didn't match PersistentVolume's node affinity"
    _NONE: Final = "node(s) didn't find available persistent volumes to bind"
    _SPACE: Final = "node(s) did not have enough free storage"
    _LOST: Final = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"

    def __init__(
        self, storage: Storage, bound: list[Object], waiting: list[Object],
        made: dict[str, PodVolumes],
    ) -> None:  # fmt: skip
        self._storage = storage
        self._bound = bound
        self._waiting = sorted(waiting, key=requested)
        self._made = made
        self._offered = {
            name: storage.volumes_of_class(name) for name in {class_of(one) for one in waiting}
        }

    def at(self, node: NodeInfo) -> Status | None:
        """Return what is missing on a node; keep what is to be done for it otherwise."""
        reasons = [why] if (why := self._why_bound(node)) else []
        volumes = PodVolumes()
        if why := self._why_waiting(node, volumes):
            reasons.append(why)
        if reasons:
            order = [self._AFFINITY, self._NONE, self._SPACE, self._LOST]
            return Status(VolumeBinding.name, tuple(sorted(reasons, key=order.index)))
        self._made[node.name] = volumes
        return None

    def _why_bound(self, node: NodeInfo) -> str:
        for claim in self._bound:
            volume = self._storage.volumes.get(claim["spec"]["volumeName"])
            if volume is None:
                return self._LOST
            if not fits_node(volume, node.name, node.labels):
                return self._AFFINITY
        return ""

    def _why_waiting(self, node: NodeInfo, volumes: PodVolumes) -> str:
        provision: list[Object] = []
        chosen: set[str] = set()
        for claim in self._waiting:
            selected = (claim["metadata"].get("annotations") or {}).get(SELECTED_NODE)
            if selected is not None and selected != node.name:
                return self._NONE
            volume = None
            if selected is None:
                volume = best_volume(claim, self._offered[class_of(claim)], node, chosen)
            if volume is None:
                provision.append(claim)
            else:
                chosen.add(volume["metadata"]["name"])
                volumes.bindings.append((volume, claim))
        for claim in provision:
            if why := self._why_not_made(claim, node):
                return why
            volumes.provisions.append(claim)
        return ""

    def _why_not_made(self, claim: Object, node: NodeInfo) -> str:
        found = self._storage.classes.get(class_of(claim))
        if found is None:
            raise SchedulingError(
                f'running "{VolumeBinding.name}" filter plugin: failed to find storage class '
                f'"{class_of(claim)}"'
            )
        provisioner = found.get("provisioner", "")
        if provisioner in ("", NO_PROVISIONER):
            return self._NONE
        if not allows(found.get("allowedTopologies"), node.labels):
            return self._NONE
        return "" if self._has_space(claim, provisioner, node) else self._SPACE

    def _has_space(self, claim: Object, provisioner: str, node: NodeInfo) -> bool:
        driver = self._storage.drivers.get(provisioner)
        if driver is None or not driver["spec"].get("storageCapacity"):
            return True
        size = requested(claim)
        for one in self._storage.capacities:
            if one.get("storageClassName") != class_of(claim):
                continue
            limit = one.get("maximumVolumeSize") or one.get("capacity")
            selector = selector_of(one.get("nodeTopology"))
            if limit is None or size_of({"storage": limit}) < size or selector is None:
                continue
            if selector.matches(node.labels):
                return True
        return False


def allows(topologies: Sequence[Mapping[str, Any]] | None, labels: Mapping[str, str]) -> bool:
    """Whether a storage class's topologies allow a node of these labels (pure)."""
    if not topologies:
        return True
    return any(
        all(labels.get(one.get("key", "")) in (one.get("values") or ())
            for one in term.get("matchLabelExpressions") or ())
        for term in topologies if term.get("matchLabelExpressions")
    )  # fmt: skip


def best_volume(
    claim: Object, volumes: Sequence[Object], node: NodeInfo, taken: set[str]
) -> Object | None:
    """Return the smallest volume that does for a claim on a node (pure)."""
    size, best = requested(claim), None
    spec = claim["spec"]
    selector = selector_of(spec.get("selector"))

    def wanted(labels: Mapping[str, str]) -> bool:
        return spec.get("selector") is None or (selector is not None and selector.matches(labels))

    for volume in volumes:
        its = volume["spec"]
        if volume["metadata"]["name"] in taken or is_deleting(volume):
            continue
        bound = is_bound_to(volume, claim)
        if (
            (its.get("claimRef") is not None and not bound)
            or size_of(its.get("capacity")) < size
            or its.get("volumeMode", "Filesystem") != spec.get("volumeMode", "Filesystem")
            or (its.get("volumeAttributesClassName") or "")
            != (spec.get("volumeAttributesClassName") or "")
        ):
            continue
        fits = fits_node(volume, node.name, node.labels)
        if bound:
            return volume if fits else None
        if (
            not fits
            or (volume.get("status") or {}).get("phase") != "Available"
            or not wanted(volume["metadata"].get("labels") or {})
            or volume_class(volume) != class_of(claim)
            or not set(spec.get("accessModes") or ()) <= set(its.get("accessModes") or ())
        ):  # fmt: skip
            continue
        if best is None or size_of(its.get("capacity")) < size_of(best["spec"].get("capacity")):
            best = volume
    return best


def is_bound_to(volume: Object, claim: Object) -> bool:
    """Whether a volume says that it is a claim's (pure)."""
    reference, meta = volume["spec"].get("claimRef"), claim["metadata"]
    if reference is None:
        return False
    if reference.get("name") != meta["name"] or reference.get("namespace") != meta["namespace"]:
        return False
    return not reference.get("uid") or reference["uid"] == meta["uid"]


class VolumeZone(VolumePlugin):
    """Volumes whose labels say in which zones they can be used."""

    name: ClassVar[str] = "VolumeZone"
    hints: ClassVar[Hints] = hinting.VOLUME_ZONE

    def prepare(self, attempt: Attempt) -> Check | Status | None:
        """Nothing, for a pod whose volumes have no such labels."""
        places: list[tuple[str, frozenset[str]]] = []
        for name, ephemeral in claims_of(attempt.pod.pod):
            if ephemeral:
                continue
            found = self._places(attempt.pod, name)
            if isinstance(found, str):
                return Status(self.name, (found,))
            places += found
        return _Zones(places) if places else None

    def _places(self, pod: PodInfo, name: str) -> list[tuple[str, frozenset[str]]] | str:
        claim = self.claim(pod, name)
        if claim is None:
            return not_found("persistentvolumeclaim", name)
        volume_name = claim["spec"].get("volumeName")
        if not volume_name:
            kind = class_of(claim)
            if not kind:
                return "PersistentVolumeClaim had no pv name and storageClass name"
            if self.storage.classes.get(kind) is None:
                return not_found("storageclass.storage.k8s.io", kind)
            return [] if self.storage.waits(claim) else "PersistentVolume had no name"
        volume = self.storage.volumes.get(volume_name)
        if volume is None:
            return not_found("persistentvolume", volume_name)
        labels = volume["metadata"].get("labels") or {}
        return [
            (key, frozenset(labels[key].split("__"))) for key in _PLACES if key in labels
        ]  # fmt: skip


class _Zones(Check):
    _WHY: Final = Status(VolumeZone.name, ("node(s) had no available volume zone",))

    def __init__(self, places: list[tuple[str, frozenset[str]]]) -> None:
        self._places = places

    def at(self, node: NodeInfo) -> Status | None:
        labels = node.labels
        if not any(key in labels for key in _PLACES):
            return None
        for key, values in self._places:
            if labels.get(key, labels.get(_PLACES[key])) not in values:
                return self._WHY
        return None
