"""Claims: from a volume of a pod to the PersistentVolume that stands behind it.

The checks and their wording are those of the Go kubelet 1.36 (volumemanager/populator and
component-helpers/storage).
"""

from __future__ import annotations

from kubeletpy.api.pod import Pod
from kubeletpy.api.volumes import Volume

from .errors import VolumeError
from .objects import Object, ObjectMissing, Objects, ObjectsUnreachable
from .plugin import VolumeSource

PROTECTION = "kubernetes.io/pvc-protection"
_GID = "pv.beta.kubernetes.io/gid"


def claim_name(pod: Pod, volume: Volume) -> str:
    """Return the claim of a volume, "" if it has none (pure); generic ephemeral ones (KEP-1698)."""
    if volume.persistent_volume_claim is not None:
        return volume.persistent_volume_claim.claim_name
    return f"{pod.metadata.name}-{volume.name}" if volume.ephemeral is not None else ""


def check_claim(pod: Pod, volume: Volume, claim: Object) -> str:
    """Return the name of the volume that a claim is bound to (pure).

    Raises:
        VolumeError: it is not to be used, or not yet.
    """
    meta, spec = claim["metadata"], claim.get("spec", {})
    where = f"error processing PVC {pod.metadata.namespace}/{meta['name']}: "
    if meta.get("deletionTimestamp") and PROTECTION not in meta.get("finalizers", []):
        raise VolumeError("", f"{where}PVC is being deleted")
    if claim.get("status", {}).get("phase") != "Bound":
        raise VolumeError("", f"{where}PVC is not bound")
    if not spec.get("volumeName"):
        raise VolumeError("", f"{where}PVC has empty pvc.Spec.VolumeName")
    if volume.ephemeral is not None and not _controlled_by(claim, pod):
        raise VolumeError(
            "",
            f"PVC {meta.get('namespace', '')}/{meta['name']} was not created for pod "
            f"{pod.metadata.namespace}/{pod.metadata.name} (pod is not owner)",
        )
    return str(spec["volumeName"])


def check_volume(pod: Pod, volume: Volume, claim: Object, found: Object) -> None:
    """Check that a PersistentVolume is the claim's, and used as it can be (pure).

    Raises:
        VolumeError: it is not.
    """
    name = found["metadata"]["name"]
    meta = claim["metadata"]
    where = f"error processing PVC {pod.metadata.namespace}/{meta['name']}: "
    reference = found.get("spec", {}).get("claimRef")
    if not reference:
        raise VolumeError(
            "",
            f"{where}found PV object {name} but it has a nil pv.Spec.ClaimRef indicating it is "
            "not yet bound to the claim",
        )
    if reference.get("uid", "") != meta.get("uid", ""):
        raise VolumeError(
            "",
            f"{where}found PV object {name} but its pv.Spec.ClaimRef.UID "
            f"{reference.get('uid', '')} does not point to claim.UID {meta.get('uid', '')}",
        )
    mode = found["spec"].get("volumeMode") or "Filesystem"
    for container in (*pod.spec.init_containers, *pod.spec.containers):
        mounted = any(mount.name == volume.name for mount in container.volume_mounts)
        device = any(device.name == volume.name for device in container.volume_devices)
        if mounted and mode != "Filesystem":
            raise VolumeError(
                "",
                f"volume {volume.name} has volumeMode {mode}, but is specified in volumeMounts",
            )
        if device and mode != "Block":
            raise VolumeError(
                "",
                f"volume {volume.name} has volumeMode {mode}, but is specified in volumeDevices",
            )


def _controlled_by(claim: Object, pod: Pod) -> bool:
    return any(
        owner.get("controller") and owner.get("uid") == pod.metadata.uid
        for owner in claim["metadata"].get("ownerReferences", [])
    )


async def resolve(objects: Objects, pod: Pod, volume: Volume) -> tuple[VolumeSource, bool]:
    """Return what a volume stands for, and whether it is only to be read.

    Raises:
        VolumeError: its claim is not bound, or cannot be read for now.
    """
    name = claim_name(pod, volume)
    if not name:
        return VolumeSource(inline=volume), False
    where = f"error processing PVC {pod.metadata.namespace}/{name}: "
    namespace = pod.metadata.namespace
    try:
        claim = await objects.get("persistentvolumeclaims", namespace, name)
    except (ObjectMissing, ObjectsUnreachable) as error:
        message = f"{where}failed to fetch PVC from API server: {error}"
        raise VolumeError("", message) from error
    volume_name = check_claim(pod, volume, claim)
    try:
        found = await objects.get("persistentvolumes", "", volume_name)
    except (ObjectMissing, ObjectsUnreachable) as error:
        message = f"{where}failed to fetch PV {volume_name} from API server: {error}"
        raise VolumeError("", message) from error
    check_volume(pod, volume, claim, found)
    source = volume.persistent_volume_claim
    return VolumeSource(volume=found, claim=claim), bool(source and source.read_only)


def volume_group(found: Object) -> int | None:
    """Return the group that a PersistentVolume asks for by annotation; None if it does not."""
    text = found["metadata"].get("annotations", {}).get(_GID, "")
    return int(text) if text.isascii() and text.isdigit() else None


def check_node(found: Object, labels: dict[str, str] | None) -> None:
    """Check that a PersistentVolume can be had on this node (pure).

    Args:
        found: the volume.
        labels: of the node; None: they are not known, so nothing is checked.

    Raises:
        VolumeError: its node affinity wants another node.
    """
    required = (found["spec"].get("nodeAffinity") or {}).get("required")
    if required is None or labels is None:
        return
    terms = required.get("nodeSelectorTerms") or []
    if not any(_matches(term, labels) for term in terms):
        raise VolumeError("", "no matching NodeSelectorTerms")


def _matches(term: Object, labels: dict[str, str]) -> bool:
    expressions = term.get("matchExpressions") or []
    if term.get("matchFields") or not expressions:
        # A volume's affinity names labels only; an empty term matches nothing.
        return False
    return all(_holds(each, labels) for each in expressions)


def _holds(expression: Object, labels: dict[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or []
    value = labels.get(key)
    match expression["operator"]:
        case "In":
            return value is not None and value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            try:
                left, right = int(value or ""), int(values[0])
            except (ValueError, IndexError):
                return False
            return left > right if operator == "Gt" else left < right
        case _:
            return False
