"""DefaultStorageClass, DefaultIngressClass, PersistentVolumeClaimResize and
StorageObjectInUseProtection: what claims, volumes and ingresses are given, and may ask for.

Source: Kubernetes documentation, "Storage Classes", "Ingress", "Persistent Volumes".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from controlplane.admission.refusals import forbidden, is_of
from controlplane.api import codec
from controlplane.api.resource import Context, Object, Resource
from controlplane.kinds.quantity import QuantityError, parse
from controlplane.plane import Plane

CLAIM_FINALIZER: Final = "kubernetes.io/pvc-protection"
VOLUME_FINALIZER: Final = "kubernetes.io/pv-protection"
ATTRIBUTES_FINALIZER: Final = "kubernetes.io/vac-protection"
_STORAGE_DEFAULTS: Final[tuple[str, ...]] = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
_STORAGE_CLASS: Final = "volume.beta.kubernetes.io/storage-class"
_INGRESS_DEFAULTS: Final[tuple[str, ...]] = ("ingressclass.kubernetes.io/is-default-class",)
_INGRESS_CLASS: Final = "kubernetes.io/ingress.class"


class DefaultClasses:
    """Gives claims and ingresses the class that is marked as default.

    Args:
        plane: the parts of the server.
        group: of the kind that is completed.
        plural: of it.
    """

    def __init__(self, plane: Plane, group: str, plural: str) -> None:
        self._plane = plane
        self._of = (group, plural)

    async def admit(
        self, resource: Resource, value: Object, old: Object | None, context: Context
    ) -> None:
        """Complete a new object that names no class."""
        if not is_of(resource, *self._of) or old is not None or context.subresource:
            return
        spec, annotations = value.setdefault("spec", {}), value["metadata"].get("annotations", {})
        if self._of[1] == "ingresses":
            field, mark, marks = "ingressClassName", _INGRESS_CLASS, _INGRESS_DEFAULTS
            prefix = "/networking.k8s.io/ingressclasses/"
        else:
            field, mark, marks = "storageClassName", _STORAGE_CLASS, _STORAGE_DEFAULTS
            prefix = "/storage.k8s.io/storageclasses/"
        if field in spec or mark in annotations:
            return
        classes = (codec.decode(item) for item in self._plane.store.read(prefix).items)
        name = default_class(classes, marks)
        if name:
            spec[field] = name


class ClaimResize:
    """Lets a claim grow only where its storage class allows it.

    Args:
        plane: the parts of the server.
    """

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    async def admit(
        self, resource: Resource, value: Object, old: Object | None, context: Context
    ) -> None:
        """Check the change of a claim.

        Raises:
            ApiError: it may not grow.
        """
        if not is_of(resource, "", "persistentvolumeclaims") or old is None or context.subresource:
            return
        if not _grows(value, old):
            return
        if old.get("status", {}).get("phase") != "Bound":
            why = "Only bound persistent volume claims can be expanded"
            raise forbidden(resource, value["metadata"], why)
        names = {one.get("spec", {}).get("storageClassName", "") for one in (value, old)}
        item = self._plane.store.get(f"/storage.k8s.io/storageclasses/{min(names)}")
        if len(names) > 1 or item is None or not codec.decode(item).get("allowVolumeExpansion"):
            why = (
                "only dynamically provisioned pvc can be resized and the storageclass that "
                "provisions the pvc must support resize"
            )
            raise forbidden(resource, value["metadata"], why)


class InUseProtection:
    """Keeps claims, volumes and classes of attributes from going while they are used."""

    async def admit(
        self, resource: Resource, value: Object, old: Object | None, context: Context
    ) -> None:
        """Put the finalizer on a new claim, volume or class of attributes."""
        if old is not None or context.subresource:
            return
        finalizer = {
            ("", "persistentvolumeclaims"): CLAIM_FINALIZER,
            ("", "persistentvolumes"): VOLUME_FINALIZER,
            ("storage.k8s.io", "volumeattributesclasses"): ATTRIBUTES_FINALIZER,
        }.get((resource.group, resource.plural))
        meta = value["metadata"]
        if finalizer is not None and finalizer not in meta.get("finalizers", []):
            meta["finalizers"] = [*meta.get("finalizers", []), finalizer]


def default_class(classes: Iterable[Object], marks: tuple[str, ...]) -> str:
    """Return the name of the default class: the newest, then the first by name; "" if none (pure).

    Args:
        classes: all of them.
        marks: annotations of which one is "true" on a default class.
    """
    found = [
        one["metadata"]
        for one in classes
        if any(one["metadata"].get("annotations", {}).get(mark) == "true" for mark in marks)
    ]
    found.sort(key=lambda meta: str(meta["name"]))
    newest = max(found, key=lambda meta: str(meta["creationTimestamp"]), default=None)
    return str(newest["name"]) if newest is not None else ""


def _grows(value: Object, old: Object) -> bool:
    sizes = [
        one.get("spec", {}).get("resources", {}).get("requests", {}).get("storage", "0")
        for one in (value, old)
    ]
    try:
        return parse(sizes[0]) > parse(sizes[1])
    except QuantityError:
        return False
