"""What the scheduler knows of a node: whole numbers, kept up to date pod by pod."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from controlplane.engine.resources import Object

from .pods import ANYWHERE, PodInfo, Port
from .requests import CPU, MEMORY, STORAGE, Amounts, amounts
from .terms import Taint

ZONE: Final = "topology.kubernetes.io/zone"
REGION: Final = "topology.kubernetes.io/region"
HOSTNAME: Final = "kubernetes.io/hostname"
NO_SCHEDULE: Final = ("NoSchedule", "NoExecute")


class NodeInfo:
    """A node, its pods, and what they take.

    Attributes:
        name: of it.
        node: the object; None: pods are bound to a node that is not there.
        pods: by uid.
        cpu, memory, storage, others: what pods hold; see `requests.Requests`.
        scored_cpu, scored_memory: as scores count it.
        has_cpu, has_memory, has_storage, has_others, has_pods: what it has for pods.
        ports: how often pods take each.
        images: bytes by name.
    """

    __slots__ = (
        "cpu", "has_cpu", "has_memory", "has_others", "has_pods", "has_storage", "images",
        "labels", "memory", "name", "node", "others", "pods", "ports", "scored_cpu",
        "scored_memory", "storage", "taints", "unschedulable",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.node: Object | None = None
        self.labels: Mapping[str, str] = {}
        self.taints: tuple[Taint, ...] = ()
        self.unschedulable = False
        self.pods: dict[str, PodInfo] = {}
        self.cpu = self.memory = self.storage = 0
        self.scored_cpu = self.scored_memory = 0
        self.others: Amounts = {}
        self.has_cpu = self.has_memory = self.has_storage = self.has_pods = 0
        self.has_others: Amounts = {}
        self.ports: dict[Port, int] = {}
        self.images: dict[str, int] = {}

    def set(self, node: Object | None) -> None:
        """Take what a node says of itself."""
        self.node = node
        if node is None:
            return
        spec, status = node.get("spec") or {}, node.get("status") or {}
        self.labels = node["metadata"].get("labels") or {}
        self.taints = tuple(taints_of(node))
        self.unschedulable = bool(spec.get("unschedulable"))
        has = amounts(status.get("allocatable"))
        self.has_cpu, self.has_memory = has.pop(CPU, 0), has.pop(MEMORY, 0)
        self.has_storage, self.has_pods = has.pop(STORAGE, 0), has.pop("pods", 0)
        self.has_others = has
        self.images = dict(images_of(node))

    def add(self, pod: PodInfo) -> None:
        """Count a pod."""
        self.pods[pod.uid] = pod
        self._count(pod, 1)

    def remove(self, pod: PodInfo) -> None:
        """Count a pod no more."""
        del self.pods[pod.uid]
        self._count(pod, -1)

    def _count(self, pod: PodInfo, sign: int) -> None:
        wants = pod.requests
        self.cpu += sign * wants.cpu
        self.memory += sign * wants.memory
        self.storage += sign * wants.storage
        self.scored_cpu += sign * wants.scored_cpu
        self.scored_memory += sign * wants.scored_memory
        for name, value in wants.others.items():
            self.others[name] = self.others.get(name, 0) + sign * value
        for port in pod.ports:
            left = self.ports.get(port, 0) + sign
            if left:
                self.ports[port] = left
            else:
                del self.ports[port]

    def copy(self) -> NodeInfo:
        """Return a copy whose pods may be other ones."""
        made = NodeInfo.__new__(NodeInfo)
        for name in NodeInfo.__slots__:
            setattr(made, name, getattr(self, name))
        made.pods, made.others, made.ports = dict(self.pods), dict(self.others), dict(self.ports)
        return made

    def has_free(self, ports: tuple[Port, ...]) -> bool:
        """Whether a pod may take ports."""
        return not any(conflicts(one, taken) for one in ports for taken in self.ports)


def conflicts(one: Port, other: Port) -> bool:
    """Whether two ports cannot be taken on one node (pure)."""
    if one[1:] != other[1:]:
        return False
    return one[0] == other[0] or ANYWHERE in (one[0], other[0])


def taints_of(node: Object) -> Iterator[Taint]:
    """Yield the taints of a node."""
    for one in (node.get("spec") or {}).get("taints") or ():
        yield one.get("key", ""), one.get("value") or "", one.get("effect", "")


def images_of(node: Object) -> Iterator[tuple[str, int]]:
    """Yield the names of the images that a node has, and their size in bytes."""
    for image in (node.get("status") or {}).get("images") or ():
        for name in image.get("names") or ():
            yield name, image.get("sizeBytes", 0)


def condition_of(value: Object, kind: str) -> dict[str, Any]:
    """Return a condition of an object; empty: it has none."""
    for one in (value.get("status") or {}).get("conditions") or ():
        if one.get("type") == kind:
            found: dict[str, Any] = one
            return found
    return {}
