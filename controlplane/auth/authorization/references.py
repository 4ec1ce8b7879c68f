"""What a pod or a volume refers to, and so its node may read (pure).

Source: core/v1 PodSpec, PersistentVolumeSpec; Kubernetes documentation, "Using Node Authorization".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from controlplane.api.resource import Object

Reference = tuple[str, str, str]
"""(plural name, namespace, name)."""

# Volume sources with a secret, by source and field.
_VOLUME_SECRETS: Final = (
    ("secret", "secretName"), ("azureFile", "secretName"), ("cephfs", "secretRef"),
    ("cinder", "secretRef"), ("flexVolume", "secretRef"), ("rbd", "secretRef"),
    ("scaleIO", "secretRef"), ("iscsi", "secretRef"), ("storageos", "secretRef"),
    ("csi", "nodePublishSecretRef"),
)  # fmt: skip
_CLAIMED_SECRETS: Final = (
    ("azureFile", "secretName", "secretNamespace"), ("cephfs", "secretRef", ""),
    ("cinder", "secretRef", ""), ("flexVolume", "secretRef", ""), ("rbd", "secretRef", ""),
    ("scaleIO", "secretRef", ""), ("iscsi", "secretRef", ""), ("storageos", "secretRef", ""),
    ("csi", "nodePublishSecretRef", ""), ("csi", "nodeStageSecretRef", ""),
    ("csi", "nodeExpandSecretRef", ""),
)  # fmt: skip


def of_pod(pod: Object) -> set[Reference]:
    """Return what a pod refers to in its namespace."""
    namespace, spec = pod["metadata"].get("namespace", ""), pod.get("spec", {})
    found: set[tuple[str, str]] = set()
    if spec.get("serviceAccountName"):
        found.add(("serviceaccounts", spec["serviceAccountName"]))
    for secret in spec.get("imagePullSecrets") or ():
        found.add(("secrets", secret.get("name", "")))
    for key in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(key) or ():
            found.update(_of_container(container))
    for volume in spec.get("volumes") or ():
        found.update(_of_volume(volume, pod["metadata"].get("name", "")))
    return {(plural, namespace, name) for plural, name in found if name}


def of_volume(volume: Object) -> tuple[Reference | None, set[Reference]]:
    """Return the claim of a PersistentVolume, and the secrets that a kubelet needs for it."""
    spec = volume.get("spec", {})
    claim = spec.get("claimRef")
    if not claim:
        return None, set()
    home, found = claim.get("namespace", ""), set()
    for source, field, namespace_field in _CLAIMED_SECRETS:
        entry = spec.get(source) or {}
        reference = entry.get(field)
        if isinstance(reference, dict):
            name, namespace = reference.get("name", ""), reference.get("namespace")
        else:
            name, namespace = reference or "", entry.get(namespace_field)
        if name:
            found.add(("secrets", namespace or home, name))
    return ("persistentvolumeclaims", home, claim.get("name", "")), found


def _of_container(container: Object) -> Iterator[tuple[str, str]]:
    for source in container.get("envFrom") or ():
        yield "secrets", (source.get("secretRef") or {}).get("name", "")
        yield "configmaps", (source.get("configMapRef") or {}).get("name", "")
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        yield "secrets", (source.get("secretKeyRef") or {}).get("name", "")
        yield "configmaps", (source.get("configMapKeyRef") or {}).get("name", "")


def _of_volume(volume: Object, pod: str) -> Iterator[tuple[str, str]]:
    for source, field in _VOLUME_SECRETS:
        reference = (volume.get(source) or {}).get(field)
        yield (
            "secrets",
            reference.get("name", "") if isinstance(reference, dict) else (reference or ""),
        )
    yield "configmaps", (volume.get("configMap") or {}).get("name", "")
    yield "persistentvolumeclaims", (volume.get("persistentVolumeClaim") or {}).get("claimName", "")
    if volume.get("ephemeral"):
        yield "persistentvolumeclaims", f"{pod}-{volume.get('name', '')}"
    for part in (volume.get("projected") or {}).get("sources") or ():
        yield "secrets", (part.get("secret") or {}).get("name", "")
        yield "configmaps", (part.get("configMap") or {}).get("name", "")
