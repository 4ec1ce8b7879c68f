"""What happens in a cluster that may make a pod fit that did not (pure).

Source: KEP-4247 (queueing hints).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from controlplane.engine.resources import Object

from .pods import PodInfo

POD: Final = "Pod"
WAITING: Final = "WaitingPod"
"""The pod itself, which has no node."""
NODE: Final = "Node"
CLAIM: Final = "PersistentVolumeClaim"
VOLUME: Final = "PersistentVolume"
CLASS: Final = "StorageClass"
CSI_NODE: Final = "CSINode"
CSI_DRIVER: Final = "CSIDriver"
CAPACITY: Final = "CSIStorageCapacity"
ATTACHMENT: Final = "VolumeAttachment"
ANYTHING: Final = "*"

ADD: Final = 1
DELETE: Final = 2
ALLOCATABLE: Final = 4
LABEL: Final = 8
TAINT: Final = 16
CONDITION: Final = 32
ANNOTATION: Final = 64
SCALE_DOWN: Final = 128
TOLERATION: Final = 256
UNGATED: Final = 512
OTHER: Final = 1024
UPDATE: Final = ALLOCATABLE | LABEL | TAINT | CONDITION | ANNOTATION | SCALE_DOWN | TOLERATION | \
    UNGATED | OTHER  # fmt: skip
ALL: Final = UPDATE | ADD | DELETE

Hint = Callable[[PodInfo, Any, Any], bool]
"""Says whether an event makes a waiting pod worth another attempt: the pod, before, after.

Of pods before and after are `PodInfo`, of everything else the objects.
"""
Hints = tuple[tuple[str, int, Hint | None], ...]
"""Resource, actions, and what to ask; None: each such event is worth it."""


def of_node(before: Object, after: Object) -> Iterator[int]:
    """Yield what changed of a node, as far as it matters to pods."""
    old, new = before.get("spec") or {}, after.get("spec") or {}
    if old.get("unschedulable") and not new.get("unschedulable"):
        yield TAINT
    if _status(before, "allocatable") != _status(after, "allocatable"):
        yield ALLOCATABLE
    if before["metadata"].get("labels") != after["metadata"].get("labels"):
        yield LABEL
    if old.get("taints") != new.get("taints"):
        yield TAINT
    if _conditions(before) != _conditions(after):
        yield CONDITION
    if before["metadata"].get("annotations") != after["metadata"].get("annotations"):
        yield ANNOTATION


def _status(value: Object, key: str) -> Any:
    return (value.get("status") or {}).get(key)


def _conditions(node: Object) -> dict[str, str]:
    return {one["type"]: one.get("status", "") for one in _status(node, "conditions") or ()}


def of_pod(before: PodInfo, after: PodInfo) -> Iterator[int]:
    """Yield what changed of a pod, as far as it matters to itself or to others."""
    found = False
    if before.labels != after.labels:
        found = True
        yield LABEL
    if is_smaller(before, after):
        found = True
        yield SCALE_DOWN
    if before.spec.get("schedulingGates") and not after.spec.get("schedulingGates"):
        found = True
        yield UNGATED
    if len(before.tolerations) != len(after.tolerations):
        found = True
        yield TOLERATION
    if not found:
        yield OTHER


def is_smaller(before: PodInfo, after: PodInfo) -> bool:
    """Whether a pod asks for less of something than before."""
    old, new = before.requests, after.requests
    return (
        new.cpu < old.cpu
        or new.memory < old.memory
        or new.storage < old.storage
        or any(new.others.get(name, 0) < value for name, value in old.others.items())
    )
