"""v1 PersistentVolume."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import forbidden, required, too_long, unsupported, wrong
from controlplane.api.resource import Column, Context, Object
from controlplane.kinds import cells
from controlplane.kinds.checks import (
    check_dns_subdomain,
    check_immutable,
    check_one_of,
    check_qualified_name,
    check_required_one_of,
    is_same,
)
from controlplane.kinds.quantity import parse
from controlplane.kinds.strategies.base import WithStatus
from controlplane.kinds.strategies.storage.claims import CLASS_ANNOTATION
from controlplane.kinds.strategies.storage.modes import (
    MODES,
    check_access_modes,
    check_size,
    short_modes,
)

# Where a volume's data is, with the fields that each kind of storage cannot do without.
_SOURCES: Final[dict[str, tuple[str, ...]]] = {
    "hostPath": ("path",),
    "gcePersistentDisk": ("pdName",),
    "awsElasticBlockStore": ("volumeID",),
    "glusterfs": ("endpoints", "path"),
    "flocker": (),
    "nfs": ("server", "path"),
    "rbd": ("monitors", "image"),
    "quobyte": ("registry", "volume"),
    "cephfs": ("monitors",),
    "iscsi": ("targetPortal", "iqn"),
    "cinder": ("volumeID",),
    "fc": (),
    "flexVolume": ("driver",),
    "azureFile": ("secretName", "shareName"),
    "vsphereVolume": ("volumePath",),
    "photonPersistentDisk": ("pdID",),
    "portworxVolume": ("volumeID",),
    "azureDisk": ("diskName", "diskURI"),
    "scaleIO": ("gateway", "system", "volumeName"),
    "local": ("path",),
    "storageos": ("volumeName",),
    "csi": ("driver", "volumeHandle"),
}
_RECLAIM: Final = ("Delete", "Recycle", "Retain")
_HOST_PATHS: Final = ("", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File",
                      "FileOrCreate", "Socket")  # fmt: skip
_OPERATORS: Final = ("DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn")


class PersistentVolume(WithStatus):
    """Volumes: where their data is never changes."""

    generation = False
    initial: ClassVar[Mapping[str, Any]] = {"phase": "Pending"}
    columns = (
        Column("Capacity", description="Its size."),
        Column("Access Modes", description="How it can be mounted."),
        Column("Reclaim Policy", description="What happens when its claim is gone."),
        Column("Status", description="Whether it is bound."),
        Column("Claim", description="That it is bound to."),
        Column("StorageClass", description="That it is of."),
        Column("VolumeAttributesClass", description="That it is of."),
        Column("Reason", description="Why it has this status."),
        Column("VolumeMode", priority=1, description="Files or blocks."),
    )

    def default(self, value: Object) -> None:
        """Put in phase, policy, mode, and the details of some kinds of storage."""
        super().default(value)
        spec = value["spec"]
        value["status"]["phase"] = value["status"].get("phase") or "Pending"
        spec["persistentVolumeReclaimPolicy"] = (
            spec.get("persistentVolumeReclaimPolicy") or "Retain"
        )
        spec.setdefault("volumeMode", "Filesystem")
        _default_sources(spec)

    def prepare_create(self, value: Object, context: Context) -> None:
        """Note since when it is pending."""
        super().prepare_create(value, context)
        value["status"]["lastPhaseTransitionTime"] = context.now

    def prepare_status(self, value: Object, old: Object, context: Context) -> None:
        """Note when the phase changes, unless the client does."""
        status, before = value.get("status", {}), old.get("status", {})
        key = "lastPhaseTransitionTime"
        if status.get("phase") == before.get("phase"):
            if key not in status and key in before:
                status[key] = before[key]
        elif status.get(key) in (None, before.get(key)):
            status[key] = context.now

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with the spec, or what of it may not be changed."""
        causes = check_volume_spec(value["spec"], "spec")
        return causes if old is None else causes + _check_update(value["spec"], old["spec"])

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        spec, status, meta = value["spec"], value.get("status", {}), value["metadata"]
        claim, kind = spec.get("claimRef"), meta.get("annotations", {}).get(CLASS_ANNOTATION)
        return [
            spec.get("capacity", {}).get("storage", "0"),
            short_modes(spec.get("accessModes", ())),
            spec.get("persistentVolumeReclaimPolicy", ""),
            "Terminating" if meta.get("deletionTimestamp") else status.get("phase", ""),
            f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
            kind if kind is not None else spec.get("storageClassName", ""),
            cells.optional(spec.get("volumeAttributesClassName")),
            status.get("reason", ""),
            cells.optional(spec.get("volumeMode")),
        ]


def check_volume_spec(spec: Object, path: str, *, inline: bool = False) -> list[Cause]:
    """Return what is wrong with the spec of a volume.

    Args:
        spec: it.
        path: of it.
        inline: it is part of a VolumeAttachment.
    """
    causes: list[Cause] = []
    if inline:
        text = "may not be specified in the context of inline volumes"
        for key in ("claimRef", "capacity", "nodeAffinity"):
            causes += [forbidden(f"{path}.{key}", text)] if spec.get(key) else []
        if "csi" not in spec:
            causes.append(required(f"{path}.csi", "has to be specified for inline volumes"))
    causes += check_access_modes(spec.get("accessModes", ()), f"{path}.accessModes")
    causes += [] if inline else _check_capacity(spec.get("capacity", {}), f"{path}.capacity")
    policy, here = (
        spec.get("persistentVolumeReclaimPolicy"),
        f"{path}.persistentVolumeReclaimPolicy",
    )
    if policy and inline and policy != "Retain":
        causes.append(forbidden(here, "may only be Retain in the context of inline volumes"))
    elif policy and not inline:
        causes += check_one_of(policy, here, _RECLAIM)
    affinity = spec.get("nodeAffinity")
    if affinity is not None and not inline:
        causes += _check_affinity(affinity, f"{path}.nodeAffinity")
    causes += _check_sources(spec, path)
    host = spec.get("hostPath", {}).get("path", "")
    if host and posixpath.normpath(host).strip("/") == "" and policy == "Recycle":
        causes.append(forbidden(here, "may not be 'recycle' for a hostPath mount of '/'"))
    for key in ("storageClassName", "volumeAttributesClassName"):
        if spec.get(key):
            text = "may not be specified in the context of inline volumes"
            name = f"{path}.{key}"
            causes += [forbidden(name, text)] if inline else check_dns_subdomain(spec[key], name)
    if "volumeAttributesClassName" in spec and "csi" not in spec:
        text = "has to be specified when using volumeAttributesClassName"
        causes.append(required(f"{path}.csi", text))
    if spec.get("volumeAttributesClassName") == "":
        causes.append(required(f"{path}.volumeAttributesClassName", "an empty name is disallowed"))
    if spec.get("volumeMode") is not None:
        causes += check_one_of(spec["volumeMode"], f"{path}.volumeMode", MODES)
    return causes


def _check_capacity(capacity: dict[str, str], path: str) -> list[Cause]:
    causes = [] if capacity else [required(path)]
    if set(capacity) != {"storage"}:
        causes.append(unsupported(path, capacity, ["storage"]))
    for name, size in capacity.items():
        if parse(size) < 0:
            causes.append(wrong(f"{path}[{name}]", size, "must be a valid resource quantity"))
        causes += [cause for cause in check_size(size, f"{path}[{name}]") if parse(size) <= 0]
    return causes


def _check_sources(spec: Object, path: str) -> list[Cause]:
    found = [key for key in _SOURCES if key in spec]
    if not found:
        return [required(path, "must specify a volume type")]
    text = "may not specify more than 1 volume type"
    causes = [forbidden(f"{path}.{key}", text) for key in found[1:]]
    first, source = found[0], spec[found[0]]
    here = f"{path}.{first}"
    causes += [required(f"{here}.{key}") for key in _SOURCES[first] if not source.get(key)]
    if first in ("hostPath", "local", "nfs") and source.get("path"):
        causes += _check_path(first, source["path"], f"{here}.path")
    if first == "hostPath" and "type" in source:
        causes += check_one_of(source["type"], f"{here}.type", _HOST_PATHS)
    if first == "csi":
        causes += _check_csi(source, here)
    if "local" in spec and not spec.get("nodeAffinity", {}).get("required"):
        causes.append(required(f"{path}.nodeAffinity", "Local volume requires node affinity"))
    return causes


def _check_path(kind: str, value: str, path: str) -> list[Cause]:
    if ".." in value.split("/") and kind != "nfs":
        return [wrong(path, value, "must not contain '..'")]
    if kind == "nfs" and not value.startswith("/"):
        return [wrong(path, value, "must be an absolute path")]
    return []


def _check_csi(source: Object, path: str) -> list[Cause]:
    causes: list[Cause] = []
    driver = source.get("driver", "")
    if driver:
        causes += [too_long(f"{path}.driver", 63)] if len(driver) > 63 else []
        causes += check_dns_subdomain(driver.lower(), f"{path}.driver")
    for key in ("controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef",
                "nodeExpandSecretRef"):  # fmt: skip
        if key in source:
            causes += [
                required(f"{path}.{key}.{name}")
                for name in ("name", "namespace")
                if not source[key].get(name)
            ]
    return causes


def _check_affinity(affinity: Object, path: str) -> list[Cause]:
    selector = affinity.get("required")
    if selector is None:
        return [required(f"{path}.required", "must specify required node constraints")]
    terms, here = selector.get("nodeSelectorTerms", []), f"{path}.required.nodeSelectorTerms"
    causes = [] if terms else [required(here, "must have at least one node selector term")]
    for index, term in enumerate(terms):
        for number, one in enumerate(term.get("matchExpressions", ())):
            below = f"{here}[{index}].matchExpressions[{number}]"
            causes += check_required_one_of(one.get("operator"), f"{below}.operator", _OPERATORS)
            causes += check_qualified_name(one.get("key", ""), f"{below}.key")
            if one.get("operator") in ("In", "NotIn") and not one.get("values"):
                causes.append(required(f"{below}.values", "needed by In and NotIn"))
    return causes


def _check_update(spec: Object, old: Object) -> list[Cause]:
    one, other = ({key: item.get(key) for key in _SOURCES} for item in (spec, old))
    secret = "controllerExpandSecretRef"
    if one["csi"] and other["csi"] and not other["csi"].get(secret):
        one["csi"] = {key: item for key, item in one["csi"].items() if key != secret}
    causes: list[Cause] = []
    if not is_same(one, other):
        text = "spec.persistentvolumesource is immutable after creation"
        causes.append(forbidden("spec.persistentvolumesource", text))
    causes += check_immutable(spec.get("volumeMode"), old.get("volumeMode"), "volumeMode")
    if old.get("nodeAffinity") is not None:
        causes += check_immutable(spec.get("nodeAffinity"), old["nodeAffinity"], "nodeAffinity")
    key = "volumeAttributesClassName"
    if old.get(key) is not None and spec.get(key) is None:
        causes.append(forbidden(f"spec.{key}", "update from non-nil value to nil is forbidden"))
    return causes


def _default_sources(spec: Object) -> None:
    host = spec.get("hostPath")
    if host is not None:
        host.setdefault("type", "")
    for name, defaults in (
        ("iscsi", {"iscsiInterface": "default"}),
        ("rbd", {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"}),
        ("scaleIO", {"storageMode": "ThinProvisioned", "fsType": "xfs"}),
        ("azureDisk", {"cachingMode": "ReadWrite", "kind": "Shared", "fsType": "ext4",
                       "readOnly": False}),
    ):  # fmt: skip
        if name in spec:
            for key, item in defaults.items():
                spec[name].setdefault(key, item)
