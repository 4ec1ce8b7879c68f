"""Claims, volumes and classes as the scheduler sees them: with what it decided but wrote not yet.

Source: Kubernetes documentation, "Storage Classes", volume binding mode WaitForFirstConsumer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from controlplane.engine.controller import Context
from controlplane.engine.informer import Informer
from controlplane.engine.resources import (
    CLAIMS,
    CSI_NODES,
    STORAGE_CLASSES,
    VOLUMES,
    Object,
    Resource,
    key_of,
    version_of,
)

from .requests import amount
from .terms import Labels, node_terms

CSI_DRIVERS: Final = Resource("storage.k8s.io/v1", "csidrivers", "CSIDriver", namespaced=False)
CAPACITIES: Final = Resource("storage.k8s.io/v1", "csistoragecapacities", "CSIStorageCapacity")
ATTACHMENTS: Final = Resource(
    "storage.k8s.io/v1", "volumeattachments", "VolumeAttachment", namespaced=False
)
SELECTED_NODE: Final = "volume.kubernetes.io/selected-node"
BIND_COMPLETED: Final = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER: Final = "pv.kubernetes.io/bound-by-controller"
NO_PROVISIONER: Final = "kubernetes.io/no-provisioner"
_BETA_CLASS: Final = "volume.beta.kubernetes.io/storage-class"


class Assumed:
    """Objects of an informer, some of them as the scheduler is about to write them.

    Args:
        informer: of the resource.
    """

    def __init__(self, informer: Informer) -> None:
        self.informer = informer
        self._assumed: dict[str, tuple[Object, int]] = {}

    def get(self, key: str) -> Object | None:
        """Return an object as it is, or will be."""
        real = self.informer.get(key)
        found = self._assumed.get(key)
        if found is None:
            return real
        value, version = found
        if real is None or version_of(real) > version:
            # Someone else wrote it since.
            del self._assumed[key]
            return real
        return value

    def assume(self, value: Object) -> None:
        """Take an object as it will be."""
        real = self.informer.get(key_of(value))
        self._assumed[key_of(value)] = (value, version_of(real) if real is not None else 0)

    def restore(self, key: str) -> None:
        """Take an assumption back."""
        self._assumed.pop(key, None)


@dataclass(frozen=True, slots=True)
class Storage:
    """All that volumes are decided by.

    Attributes:
        claims, volumes: with what is assumed of them.
        classes, nodes, drivers, capacities, attachments: informers.
    """

    claims: Assumed
    volumes: Assumed
    classes: Informer
    nodes: Informer
    drivers: Informer
    capacities: Informer
    attachments: Informer

    @staticmethod
    def of(context: Context) -> Storage:
        """Return the storage that the informers of a process show."""
        informers = context.informers
        made = Storage(
            Assumed(informers.of(CLAIMS)), Assumed(informers.of(VOLUMES)),
            informers.of(STORAGE_CLASSES), informers.of(CSI_NODES), informers.of(CSI_DRIVERS),
            informers.of(CAPACITIES), informers.of(ATTACHMENTS),
        )  # fmt: skip
        made.volumes.informer.index("scheduler-class", lambda value: [volume_class(value)])
        made.attachments.index("scheduler-node", lambda value: [value["spec"]["nodeName"]])
        return made

    def volumes_of_class(self, name: str) -> list[Object]:
        """Return the volumes of a storage class."""
        found = self.volumes.informer.indexed("scheduler-class", name)
        made = (self.volumes.get(one["metadata"]["name"]) for one in found)
        return [one for one in made if one is not None]

    def waits(self, claim: Object) -> bool:
        """Whether a claim is bound once a pod that uses it has a node."""
        found = self.classes.get(class_of(claim))
        return found is not None and found.get("volumeBindingMode") == "WaitForFirstConsumer"


@dataclass(slots=True)
class PodVolumes:
    """What is to be done so that a pod has its volumes on one node.

    Attributes:
        bindings: pairs of volume and claim that are to be bound.
        provisions: claims for which volumes are to be made.
    """

    bindings: list[tuple[Object, Object]] = field(default_factory=list)
    provisions: list[Object] = field(default_factory=list)


def class_of(claim: Object) -> str:
    """Return the name of a claim's storage class; "": none (pure)."""
    annotations = claim["metadata"].get("annotations") or {}
    return annotations.get(_BETA_CLASS) or claim["spec"].get("storageClassName") or ""


def volume_class(volume: Object) -> str:
    """Return the name of a volume's storage class; "": none (pure)."""
    annotations = volume["metadata"].get("annotations") or {}
    return annotations.get(_BETA_CLASS) or volume["spec"].get("storageClassName") or ""


def is_fully_bound(claim: Object) -> bool:
    """Whether a claim is bound, and that is complete (pure)."""
    annotations = claim["metadata"].get("annotations") or {}
    return bool(claim["spec"].get("volumeName")) and BIND_COMPLETED in annotations


def size_of(quantities: Mapping[str, Any] | None) -> int:
    """Return the bytes of storage in quantities by resource (pure)."""
    text = (quantities or {}).get("storage")
    return amount("storage", str(text)) if text is not None else 0


def requested(claim: Object) -> int:
    """Return the bytes that a claim asks for (pure)."""
    return size_of((claim["spec"].get("resources") or {}).get("requests"))


def fits_node(volume: Object, name: str, labels: Labels) -> bool:
    """Whether a volume can be used on a node, by its node affinity (pure)."""
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    return required is None or any(term(name, labels) for term in node_terms(required))
