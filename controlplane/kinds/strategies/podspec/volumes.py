"""Checks of a pod's volumes (pure).

Source: Kubernetes documentation, "Volumes", "Projected Volumes", "Ephemeral Volumes".
"""

from __future__ import annotations

import re
from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.formats import label_problems, range_problems, subdomain_problems
from controlplane.api.metadata import (
    check_labels,
    duplicate,
    forbidden,
    required,
    too_long,
    unsupported,
    wrong,
)
from controlplane.api.resource import Object
from controlplane.kinds.quantity import parse
from controlplane.kinds.strategies.podspec.paths import (
    check_descending,
    check_mode,
    check_no_backsteps,
)
from controlplane.kinds.strategies.podspec.projected import (
    check_downward_file,
    check_key_paths,
    check_projected,
)

_HOST_PATHS: Final = ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File",
                      "FileOrCreate", "Socket"]  # fmt: skip
# In the order in which the first of several counts as the volume's source.
_SOURCES: Final = (
    "emptyDir", "hostPath", "gitRepo", "gcePersistentDisk", "awsElasticBlockStore", "secret",
    "nfs", "iscsi", "glusterfs", "flocker", "persistentVolumeClaim", "rbd", "cinder", "cephfs",
    "quobyte", "downwardAPI", "fc", "flexVolume", "configMap", "azureFile", "vsphereVolume",
    "photonPersistentDisk", "portworxVolume", "azureDisk", "storageos", "projected", "scaleIO",
    "csi", "ephemeral", "image",
)  # fmt: skip
# Fields without which a source says nothing, for the sources that are looked at no further.
_REQUIRED: Final[dict[str, tuple[str, ...]]] = {
    "gcePersistentDisk": ("pdName",), "awsElasticBlockStore": ("volumeID",),
    "glusterfs": ("endpoints", "path"), "persistentVolumeClaim": ("claimName",),
    "rbd": ("monitors", "image"), "cinder": ("volumeID",), "cephfs": ("monitors",),
    "flexVolume": ("driver",), "azureFile": ("secretName", "shareName"),
    "vsphereVolume": ("volumePath",), "photonPersistentDisk": ("pdID",),
    "portworxVolume": ("volumeID",), "azureDisk": ("diskName", "diskURI"),
    "scaleIO": ("gateway", "system", "volumeName"), "quobyte": ("registry", "volume"),
    "gitRepo": ("repository",), "nfs": ("server", "path"), "iscsi": ("targetPortal",),
    "secret": ("secretName",), "configMap": ("name",), "storageos": ("volumeName",),
}  # fmt: skip
_INITIATORS: Final = {
    "iqn": re.compile(r"iqn\.\d{4}-\d{2}\.([a-zA-Z0-9-.]+)(:[^,;*&$|\s]+)\Z", re.ASCII),
    "eui": re.compile(r"eui.[a-zA-Z0-9]{16}\Z", re.ASCII),
    "naa": re.compile(r"naa.[a-zA-Z0-9]{32}\Z", re.ASCII),
}


def check_volumes(
    volumes: list[Object], pod: str, path: str, *, is_pod: bool
) -> tuple[dict[str, Object], list[Cause]]:
    """Return the good volumes by name, and what is wrong with the others.

    Args:
        volumes: of a pod spec.
        pod: name of the pod; "" for templates.
        path: of ``volumes``.
        is_pod: what a template may leave open must be there.
    """
    causes: list[Cause] = []
    good: dict[str, Object] = {}
    created = {f"{pod}-{v.get('name', '')}" for v in volumes if pod and "ephemeral" in v}
    for index, volume in enumerate(volumes):
        at, name = f"{path}[{index}]", volume.get("name", "")
        found = _check_source(volume, name, pod, at, is_pod=is_pod)
        if not name:
            found.append(required(f"{at}.name"))
        else:
            found += [wrong(f"{at}.name", name, why) for why in label_problems(name)]
        if name in good:
            found.append(duplicate(f"{at}.name", name))
        if not found:
            good[name] = volume
        causes += found
        claim = volume.get("persistentVolumeClaim", {}).get("claimName", "")
        if claim in created:
            text = "must not reference a PVC that gets created for an ephemeral volume"
            causes.append(wrong(f"{at}.persistentVolumeClaim.claimName", claim, text))
    return good, causes


def _check_source(volume: Object, name: str, pod: str, path: str, *, is_pod: bool) -> list[Cause]:
    found = [key for key in _SOURCES if key in volume]
    if not found:
        return [required(path, "must specify a volume type")]
    first = found[0]
    # Two sources have names of their own in Kubernetes' answers.
    told = {"gcePersistentDisk": "persistentDisk"}.get(first, first)
    causes = _check_kind(first, volume[first], f"{path}.{told}", is_pod=is_pod)
    causes += _check_names(volume, name, pod, path)
    for key in found[1:]:
        told = {"cephfs": "cephFS", "downwardAPI": "downwarAPI"}.get(key, key)
        causes.append(forbidden(f"{path}.{told}", "may not specify more than 1 volume type"))
    return causes


def _check_names(volume: Object, name: str, pod: str, path: str) -> list[Cause]:
    iscsi = volume.get("iscsi", {})
    causes: list[Cause] = []
    if "initiatorName" in iscsi and len(f"{name}:{iscsi.get('targetPortal', '')}") > 64:
        text = (
            "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if "
            "iscsi.initiatorName is specified."
        )
        causes.append(wrong(f"{path}.name", name, text))
    if "ephemeral" in volume and pod and name:
        claim = f"{pod}-{name}"
        causes += [
            wrong(f"{path}.name", name, f'PVC name "{claim}": {why}')
            for why in subdomain_problems(claim)
        ]
    return causes


def _check_kind(kind: str, source: Any, path: str, *, is_pod: bool) -> list[Cause]:
    causes = [required(f"{path}.{key}") for key in _REQUIRED.get(kind, ()) if not source.get(key)]
    if kind == "image":
        if is_pod and not source.get("reference"):
            causes.append(required(f"{path}.reference"))
        policies = ["Always", "IfNotPresent", "Never"]
        if source.get("pullPolicy") not in policies:
            causes.append(unsupported(f"{path}.pullPolicy", source.get("pullPolicy"), policies))
        return causes
    checks = {
        "emptyDir": _check_empty_dir, "hostPath": _check_host_path, "secret": _check_files,
        "configMap": _check_files, "downwardAPI": _check_downward, "projected": check_projected,
        "csi": _check_csi, "ephemeral": _check_ephemeral, "nfs": _check_nfs, "iscsi": _check_iscsi,
        "fc": _check_fc, "flocker": _check_flocker, "gitRepo": _check_git,
        "flexVolume": _check_flex, "azureDisk": _check_azure_disk, "storageos": _check_storageos,
        "cinder": _check_secret_reference, "gcePersistentDisk": _check_partition,
        "awsElasticBlockStore": _check_partition,
    }  # fmt: skip
    check = checks.get(kind)
    return causes + check(source, path) if check is not None else causes


def _check_empty_dir(source: Object, path: str) -> list[Cause]:
    if parse(source.get("sizeLimit", "0")) >= 0:
        return []
    return [forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")]


def _check_host_path(source: Object, path: str) -> list[Cause]:
    if not source.get("path"):
        return [required(f"{path}.path")]
    causes = check_no_backsteps(source["path"], f"{path}.path")
    if source.get("type", "") not in _HOST_PATHS:
        causes.append(unsupported(f"{path}.type", source["type"], _HOST_PATHS))
    return causes


def _check_files(source: Object, path: str) -> list[Cause]:
    causes = check_mode(source, "defaultMode", path)
    return causes + check_key_paths(source.get("items", []), f"{path}.items")


def _check_downward(source: Object, path: str) -> list[Cause]:
    causes = check_mode(source, "defaultMode", path)
    for file in source.get("items", ()):
        causes += check_downward_file(file, path)
    return causes


def _check_csi(source: Object, path: str) -> list[Cause]:
    driver, at = source.get("driver", ""), f"{path}.driver"
    if not driver:
        causes = [required(at)]
    else:
        causes = [too_long(at, 63)] if len(driver.encode()) > 63 else []
        causes += [wrong(at, driver, why) for why in subdomain_problems(driver.lower())]
    if "nodePublishSecretRef" in source:
        name = source["nodePublishSecretRef"].get("name", "")
        if not name:
            causes.append(required(f"{path}.nodePublishSecretRef.name"))
        else:
            causes += [wrong(f"{path}.name", name, why) for why in subdomain_problems(name)]
    return causes


def _check_ephemeral(source: Object, path: str) -> list[Cause]:
    at = f"{path}.volumeClaimTemplate"
    if "volumeClaimTemplate" not in source:
        return [required(at)]
    template = source["volumeClaimTemplate"]
    meta, spec = template.get("metadata", {}), template.get("spec", {})
    causes = check_labels(meta.get("labels", {}), f"{at}.metadata.labels")
    causes += [
        forbidden(f"{at}.metadata.{key}", "cannot be set for an ephemeral volume")
        for key in meta.keys() - {"labels", "annotations", "creationTimestamp"}
    ]
    modes = spec.get("accessModes", [])
    known = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"]
    if not modes:
        text = "at least 1 access mode is required"
        causes.append(required(f"{at}.spec.accessModes", text))
    causes += [
        unsupported(f"{at}.spec.accessModes", mode, known) for mode in modes if mode not in known
    ]
    if "storage" not in spec.get("resources", {}).get("requests", {}):
        causes.append(required(f"{at}.spec.resources[storage]"))
    return causes


def _check_nfs(source: Object, path: str) -> list[Cause]:
    where = source.get("path", "")
    return (
        [] if where.startswith("/") else [wrong(f"{path}.path", where, "must be an absolute path")]
    )


def _check_iscsi(source: Object, path: str) -> list[Cause]:
    name = source.get("iqn", "")
    causes = _check_initiator(name, f"{path}.iqn") if name else [required(f"{path}.iqn")]
    lun = source.get("lun", 0)
    causes += [wrong(f"{path}.lun", lun, why) for why in range_problems(lun, 0, 255)]
    chap = source.get("chapAuthDiscovery") or source.get("chapAuthSession")
    if chap and "secretRef" not in source:
        causes.append(required(f"{path}.secretRef"))
    if "initiatorName" in source:
        causes += _check_initiator(source["initiatorName"], f"{path}.initiatorname")
    return causes


def _check_initiator(name: str, path: str) -> list[Cause]:
    expression = _INITIATORS.get(name[:3])
    if expression is None:
        return [wrong(path, name, "must be valid format starting with iqn, eui, or naa")]
    return [] if expression.match(name) else [wrong(path, name, "must be valid format")]


def _check_fc(source: Object, path: str) -> list[Cause]:
    targets, ids = source.get("targetWWNs"), source.get("wwids")
    at = f"{path}.targetWWNs"
    if not targets and not ids:
        return [required(at, "must specify either targetWWNs or wwids, but not both")]
    causes: list[Cause] = []
    if targets and ids:
        text = "targetWWNs and wwids can not be specified simultaneously"
        causes.append(wrong(at, targets, text))
    if targets and "lun" not in source:
        causes.append(required(f"{path}.lun", "lun is required if targetWWNs is specified"))
    elif targets:
        lun = source["lun"]
        causes += [wrong(f"{path}.lun", lun, why) for why in range_problems(lun, 0, 255)]
    return causes


def _check_flocker(source: Object, path: str) -> list[Cause]:
    name, uuid = source.get("datasetName", ""), source.get("datasetUUID", "")
    causes: list[Cause] = []
    if not name and not uuid:
        causes.append(required(path, "one of datasetName and datasetUUID is required"))
    if name and uuid:
        text = "datasetName and datasetUUID can not be specified simultaneously"
        causes.append(wrong(path, "resource", text))
    if "/" in name:
        causes.append(wrong(f"{path}.datasetName", name, "must not contain '/'"))
    return causes


def _check_git(source: Object, path: str) -> list[Cause]:
    return check_descending(source.get("directory", ""), f"{path}.directory")


def _check_flex(source: Object, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for key in source.get("options", ()):
        owner = f".{key.partition('/')[0].lower()}"
        if owner.endswith((".kubernetes.io", ".k8s.io")):
            text = "kubernetes.io and k8s.io namespaces are reserved"
            causes.append(wrong(f"{path}.options[{key}]", key, text))
    return causes


def _check_azure_disk(source: Object, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for key, known in (
        ("cachingMode", ["None", "ReadOnly", "ReadWrite"]),
        ("kind", ["Dedicated", "Managed", "Shared"]),
    ):
        if key in source and source[key] not in known:
            causes.append(unsupported(f"{path}.{key}", source[key], known))
    managed = source.get("kind") == "Managed"
    start = "/subscriptions/" if managed else "https://"
    if "kind" in source and not source.get("diskURI", "").startswith(start):
        shape = (
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks"
            "/{disk-id}"
            if managed
            else "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
        )
        causes.append(unsupported(f"{path}.diskURI", source.get("diskURI", ""), [shape]))
    return causes


def _check_storageos(source: Object, path: str) -> list[Cause]:
    causes = [
        wrong(f"{path}.{key}", source[key], why)
        for key in ("volumeName", "volumeNamespace")
        if source.get(key)
        for why in label_problems(source[key])
    ]
    return causes + _check_secret_reference(source, path)


def _check_secret_reference(source: Object, path: str) -> list[Cause]:
    if "secretRef" in source and not source["secretRef"].get("name"):
        return [required(f"{path}.secretRef.name")]
    return []


def _check_partition(source: Object, path: str) -> list[Cause]:
    number = source.get("partition", 0)
    if 0 <= number <= 255:
        return []
    return [wrong(f"{path}.partition", number, "must be between 1 and 255, inclusive")]
