"""storage.k8s.io, volumes and claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controlplane.api.resource import Strategy
from controlplane.kinds.strategies.storage.claims import PersistentVolumeClaim
from controlplane.kinds.strategies.storage.classes import (
    CSIDriver,
    CSINode,
    CSIStorageCapacity,
    StorageClass,
    VolumeAttachment,
    VolumeAttributesClass,
)
from controlplane.kinds.strategies.storage.volumes import PersistentVolume

STORAGE: Final[Mapping[str, Strategy]] = {
    "/persistentvolumeclaims": PersistentVolumeClaim(),
    "/persistentvolumes": PersistentVolume(),
    "storage.k8s.io/csidrivers": CSIDriver(),
    "storage.k8s.io/csinodes": CSINode(),
    "storage.k8s.io/csistoragecapacities": CSIStorageCapacity(),
    "storage.k8s.io/storageclasses": StorageClass(),
    "storage.k8s.io/volumeattachments": VolumeAttachment(),
    "storage.k8s.io/volumeattributesclasses": VolumeAttributesClass(),
}
