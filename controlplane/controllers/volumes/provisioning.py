"""What a volume is that is a directory of a node (pure).

Source: Kubernetes documentation, "Dynamic Volume Provisioning", "Storage Classes"; the events are
those that provisioners of sig-storage tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from controlplane.engine.resources import CLAIMS, Object, is_deleting

from .matching import (
    BETA_PROVISIONER,
    BOUND_BY_CONTROLLER,
    PROVISIONED_BY,
    PROVISIONER,
    SELECTED_NODE,
    WAIT,
    annotations_of,
)

NAME: Final = "kubeletpy.io/host-path"
"""Of the provisioner, in storage classes."""
FINALIZER: Final = "external-provisioner.volume.kubernetes.io/finalizer"
"""Keeps a volume until its directory is removed (KEP-2644)."""
HOSTNAME: Final = "kubernetes.io/hostname"
DEFAULT_MODE: Final = 0o777
_PARAMETERS: Final = ("directory", "mode")


class RefusalError(ValueError):
    """A claim cannot have a volume; the text says why."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Of a storage class.

    Attributes:
        directory: name below the root, for the volumes of this class; "": the root itself.
        mode: permission bits of a volume's directory. Pods run as any user, and see nothing of the
            directories around it.
    """

    directory: str = ""
    mode: int = DEFAULT_MODE


def parameters_of(storage_class: Object) -> Parameters:
    """Return the parameters of a class.

    Raises:
        RefusalError: one is unknown, or cannot be taken.
    """
    given: Mapping[str, str] = storage_class.get("parameters") or {}
    unknown = sorted(set(given) - set(_PARAMETERS))
    if unknown:
        raise RefusalError(
            f"parameter {unknown[0]!r} is unknown; there are {' and '.join(_PARAMETERS)}"
        )
    directory, mode = given.get("directory", ""), given.get("mode", f"{DEFAULT_MODE:o}")
    if directory and ("/" in directory or directory.startswith(".") or len(directory) > 63):
        raise RefusalError(
            f"parameter directory: {directory!r} is not one name of at most 63 characters that "
            "begins with no dot"
        )
    try:
        bits = int(mode, 8)
    except ValueError:
        bits = -1
    if not 0 <= bits <= 0o1777:
        raise RefusalError(f"parameter mode: {mode!r} is no octal number of at most 1777")
    return Parameters(directory, bits)


def is_asked(claim: Object, storage_class: Object | None) -> bool:
    """Whether it is this provisioner's to make a volume for a claim, now."""
    if storage_class is None or storage_class.get("provisioner") != NAME or is_deleting(claim):
        return False
    marks = annotations_of(claim)
    if claim["spec"].get("volumeName") or NAME not in (
        marks.get(PROVISIONER), marks.get(BETA_PROVISIONER)
    ):  # fmt: skip
        return False
    return storage_class.get("volumeBindingMode") != WAIT or SELECTED_NODE in marks


def check_claim(claim: Object, storage_class: Object) -> None:
    """Check that what a claim asks for can be.

    Raises:
        RefusalError: it cannot.
    """
    spec = claim["spec"]
    if spec.get("volumeMode") == "Block":
        raise RefusalError(f"{NAME} does not support block volume provisioning")
    if spec.get("selector") is not None:
        raise RefusalError("claim Selector is not supported")
    for name in ("dataSource", "dataSourceRef"):
        if spec.get(name):
            raise RefusalError(f"{name} is not supported: a new volume is empty")
    if spec.get("volumeAttributesClassName"):
        raise RefusalError("volumeAttributesClassName is not supported")
    if storage_class.get("mountOptions"):
        raise RefusalError(
            "Mount options are not supported by the provisioner but StorageClass "
            f'"{storage_class["metadata"]["name"]}" has mount options '
            f"{storage_class['mountOptions']}"
        )


def place(nodes: Iterable[Object], storage_class: Object, boot: str) -> Object | None:
    """Return a node for a volume that no pod waits for: this machine, else any that is well.

    Args:
        nodes: all.
        storage_class: says which may be.
        boot: the boot id of this machine.
    """
    terms = storage_class.get("allowedTopologies") or []
    fitting = [node for node in nodes if not is_deleting(node) and is_allowed(node, terms)]
    fitting.sort(key=lambda node: (not is_here(node, boot), not _is_well(node),
                                   str(node["metadata"]["name"])))  # fmt: skip
    return fitting[0] if fitting else None


def is_allowed(node: Object, terms: list[dict[str, Any]]) -> bool:
    """Whether ``allowedTopologies`` let a volume be on a node."""
    labels = node["metadata"].get("labels") or {}

    def matches(term: dict[str, Any]) -> bool:
        wanted = term.get("matchLabelExpressions") or []
        return all(labels.get(one["key"]) in one.get("values", []) for one in wanted)

    return not terms or any(matches(term) for term in terms)


def is_here(node: Object, boot: str) -> bool:
    """Whether a node is this machine: the kubelet tells which boot of a kernel it runs on."""
    told = ((node.get("status") or {}).get("nodeInfo") or {}).get("bootID", "")
    return bool(boot) and told == boot


def _is_well(node: Object) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or []
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and not node["spec"].get("unschedulable")


def volume_name(claim: Object) -> str:
    """Return the name of the volume that is made for a claim, the same each time."""
    return f"pvc-{claim['metadata']['uid']}"


def volume_of(
    claim: Object, storage_class: Object, node: Object, path: str, *, here: bool
) -> Object:
    """Return the volume for a claim.

    Args:
        claim: it is for.
        storage_class: of both.
        node: that has the directory.
        path: of the directory.
        here: the directory is there already; else the node's kubelet makes it.
    """
    meta, spec = claim["metadata"], claim["spec"]
    policy = storage_class.get("reclaimPolicy") or "Delete"
    labels = node["metadata"].get("labels") or {}
    hostname = labels.get(HOSTNAME) or node["metadata"]["name"]
    required = [{"key": HOSTNAME, "operator": "In", "values": [hostname]}]
    return {
        "metadata": {
            "name": volume_name(claim),
            "annotations": {PROVISIONED_BY: NAME, BOUND_BY_CONTROLLER: "yes"},
            "finalizers": [FINALIZER] if policy == "Delete" else [],
        },
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec.get("accessModes") or [],
            "volumeMode": "Filesystem",
            "persistentVolumeReclaimPolicy": policy,
            "storageClassName": storage_class["metadata"]["name"],
            # One that was here and is lost must not be replaced by an empty one without a word.
            "hostPath": {"path": path, "type": "Directory" if here else "DirectoryOrCreate"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": required}]}},
            "claimRef": {
                "apiVersion": "v1", "kind": CLAIMS.kind, "namespace": meta["namespace"],
                "name": meta["name"], "uid": meta["uid"],
                "resourceVersion": meta["resourceVersion"],
            },
        },
    }  # fmt: skip


def is_ours(volume: Object) -> bool:
    """Whether this provisioner has made a volume."""
    return annotations_of(volume).get(PROVISIONED_BY) == NAME and "hostPath" in volume["spec"]


def is_to_go(volume: Object) -> bool:
    """Whether a volume of ours is to be deleted with its directory, as far as it says itself."""
    phase = (volume.get("status") or {}).get("phase")
    if volume["spec"].get("persistentVolumeReclaimPolicy") != "Delete":
        return False
    return phase in ("Released", "Failed") or (is_deleting(volume) and phase != "Bound")


def hostname_of(volume: Object) -> str:
    """Return the hostname of the node that has a volume; "": it does not say."""
    affinity = (volume["spec"].get("nodeAffinity") or {}).get("required") or {}
    for term in affinity.get("nodeSelectorTerms") or ():
        for one in term.get("matchExpressions") or ():
            if one["key"] == HOSTNAME and one.get("values"):
                return str(one["values"][0])
    return ""


def default_storage_class(name: str, *, default: bool) -> Object:
    """Return the storage class that a cluster of one machine begins with."""
    marks = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    return {
        "metadata": {"name": name, "annotations": marks},
        "provisioner": NAME,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": WAIT,
        "allowVolumeExpansion": True,
    }
