"""What nodes and pods say of each other directly: names, labels, taints, ports, images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from .. import hinting
from ..events import Hints
from ..nodes import NO_SCHEDULE, NodeInfo
from ..pods import PodInfo
from ..statuses import Status
from ..terms import Match, Taint, names_of, node_terms, tolerates, untolerated, weighed_nodes
from .base import MOST, Attempt, Check, Plugin, normalized

UNSCHEDULABLE_TAINT: Final[Taint] = ("node.kubernetes.io/unschedulable", "", "NoSchedule")
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"
_MEGABYTE: Final = 1024 * 1024
_LEAST_IMAGE: Final = 23 * _MEGABYTE
_MOST_IMAGE: Final = 1000 * _MEGABYTE


class NodeUnschedulable(Plugin):
    """Nodes that take no pods (``kubectl cordon``)."""

    name: ClassVar[str] = "NodeUnschedulable"
    hints: ClassVar[Hints] = hinting.NODE_UNSCHEDULABLE

    def prepare(self, attempt: Attempt) -> Check | Status | None:
        """Nothing, for a pod that tolerates it."""
        if any(tolerates(one, UNSCHEDULABLE_TAINT) for one in attempt.pod.tolerations):
            return None
        return _Schedulable()


class _Schedulable(Check):
    _WHY: Final = Status(NodeUnschedulable.name, ("node(s) were unschedulable",))

    def at(self, node: NodeInfo) -> Status | None:
        return self._WHY if node.unschedulable else None


class NodeName(Plugin):
    """Pods that ask for a node by name."""

    name: ClassVar[str] = "NodeName"
    hints: ClassVar[Hints] = hinting.NODE_NAME

    def prepare(self, attempt: Attempt) -> Check | Status | None:
        """Nothing, for a pod that has no node: only such ones are placed."""
        wanted = attempt.pod.spec.get("nodeName")
        return _Named(wanted) if wanted else None


class _Named(Check):
    _WHY: Final = Status(NodeName.name, ("node(s) didn't match the requested node name",))

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted

    def at(self, node: NodeInfo) -> Status | None:
        return None if node.name == self._wanted else self._WHY


class TaintToleration(Plugin):
    """Taints of nodes that pods must tolerate."""

    name: ClassVar[str] = "TaintToleration"
    hints: ClassVar[Hints] = hinting.TAINT_TOLERATION

    def prepare(self, attempt: Attempt) -> Check | Status | None:
        """Look at the taints that keep pods away."""
        return _Tolerates(attempt.pod)

    def score(self, attempt: Attempt, nodes: Sequence[NodeInfo]) -> list[int] | None:
        """Prefer nodes with few taints that ask pods to stay away and are not tolerated."""
        soft = [
            one for one in attempt.pod.tolerations
            if one.get("effect") in (None, "", "PreferNoSchedule")
        ]  # fmt: skip
        counts = [
            sum(
                taint[2] == "PreferNoSchedule" and not any(tolerates(one, taint) for one in soft)
                for taint in node.taints
            )
            if node.taints
            else 0
            for node in nodes
        ]
        return normalized(counts, reverse=True)


class _Tolerates(Check):
    _WHY: Final = Status(TaintToleration.name, ("node(s) had untolerated taint(s)",))

    def __init__(self, pod: PodInfo) -> None:
        self._tolerations = pod.tolerations

    def at(self, node: NodeInfo) -> Status | None:
        if not node.taints or untolerated(node.taints, self._tolerations, NO_SCHEDULE) is None:
            return None
        return self._WHY


class NodeAffinity(Plugin):
    """Labels that pods ask of nodes.

    Args:
        added: node affinity that every pod of the profile has besides.
    """

    name: ClassVar[str] = "NodeAffinity"
    hints: ClassVar[Hints] = hinting.NODE_AFFINITY

    def __init__(self, added: Mapping[str, Any] | None = None) -> None:
        required = (added or {}).get(_REQUIRED)
        self._added = None if required is None else node_terms(required)
        self._weighed = weighed_nodes((added or {}).get(_PREFERRED))

    def prepare(self, attempt: Attempt) -> Check | Status | None:
        """Look at ``nodeSelector`` and required affinity."""
        pod = attempt.pod
        if pod.match is None and self._added is None:
            return None
        only = names_of(pod.node_affinity.get(_REQUIRED))
        if only is not None and not only:
            return Status(self.name, ("pod affinity terms conflict",))
        return _Labels(pod.match, self._added, only)

    def score(self, attempt: Attempt, nodes: Sequence[NodeInfo]) -> list[int] | None:
        """Prefer nodes that fit preferred affinity, by its weights."""
        weighed = (*self._weighed, *weighed_nodes(attempt.pod.node_affinity.get(_PREFERRED)))
        if not weighed:
            return None
        return normalized([
            sum(weight for weight, match in weighed if match(node.name, node.labels))
            for node in nodes
        ])  # fmt: skip


class _Labels(Check):
    _WHY: Final = Status(NodeAffinity.name, ("node(s) didn't match Pod's node affinity/selector",))
    _ENFORCED: Final = Status(
        NodeAffinity.name, ("node(s) didn't match scheduler-enforced node affinity",)
    )

    def __init__(
        self, match: Match | None, added: list[Match] | None, only: frozenset[str] | None
    ) -> None:
        self._match = match
        self._added = added
        self.only = only

    def at(self, node: NodeInfo) -> Status | None:
        if self._added is not None and not any(
            term(node.name, node.labels) for term in self._added
        ):
            return self._ENFORCED
        if self._match is not None and not self._match(node.name, node.labels):
            return self._WHY
        return None


class NodePorts(Plugin):
    """Ports of the node that pods take."""

    name: ClassVar[str] = "NodePorts"
    hints: ClassVar[Hints] = hinting.NODE_PORTS

    def prepare(self, attempt: Attempt) -> Check | Status | None:
        """Nothing, for a pod that takes none."""
        return _Ports(attempt.pod) if attempt.pod.ports else None


class _Ports(Check):
    _WHY: Final = Status(
        NodePorts.name, ("node(s) didn't have free ports for the requested pod ports",), True
    )

    def __init__(self, pod: PodInfo) -> None:
        self._ports = pod.ports

    def at(self, node: NodeInfo) -> Status | None:
        return None if not node.ports or node.has_free(self._ports) else self._WHY


class ImageLocality(Plugin):
    """Images that nodes have already."""

    name: ClassVar[str] = "ImageLocality"

    def score(self, attempt: Attempt, nodes: Sequence[NodeInfo]) -> list[int] | None:
        """Prefer nodes that have large images of the pod, which many nodes have."""
        spec, images = attempt.pod.spec, attempt.cluster.images
        containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
        names = [tagged(one.get("image", "")) for one in containers]
        names += [
            tagged(one["image"].get("reference", ""))
            for one in spec.get("volumes") or () if "image" in one
        ]  # fmt: skip
        names = [name for name in names if name in images]
        if not names:
            return [0] * len(nodes)
        total = len(attempt.cluster.nodes)
        most = _MOST_IMAGE * len(containers)

        def score(node: NodeInfo) -> int:
            size = sum(
                int(node.images[name] * (images[name] / total))
                for name in names if name in node.images
            )  # fmt: skip
            size = min(max(size, _LEAST_IMAGE), most)
            return MOST * (size - _LEAST_IMAGE) // (most - _LEAST_IMAGE)

        return [score(node) for node in nodes]


def tagged(image: str) -> str:
    """Return the name of an image with its tag (pure)."""
    return image if image.rfind(":") > image.rfind("/") else f"{image}:latest"
