"""The state that pods are placed by: nodes with their pods, counted as they come and go.

Pods that were given a node but whose binding is not confirmed yet are *assumed*: they count
already. Everything here runs in one thread without waiting, so no snapshot is needed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from controlplane.api.selectors import LabelSelector
from controlplane.engine.resources import Object

from .nodes import REGION, ZONE, NodeInfo
from .pods import PodInfo
from .terms import Labels, Term

_MOST_COUNTS: Final = 128
"""Selectors whose matching pods are counted as they come and go."""


class Counts:
    """How many pods, that a condition counts, are on each node.

    Args:
        counts: says whether a pod counts.
    """

    __slots__ = ("counted", "counts", "nodes")

    def __init__(self, counts: Callable[[PodInfo], bool]) -> None:
        self.counts = counts
        self.counted: set[str] = set()
        self.nodes: dict[str, int] = {}

    def put(self, pod: PodInfo) -> None:
        """Follow a pod that came."""
        if self.counts(pod):
            self.counted.add(pod.uid)
            self.nodes[pod.node] = self.nodes.get(pod.node, 0) + 1

    def take(self, pod: PodInfo) -> None:
        """Follow a pod that went."""
        if pod.uid in self.counted:
            self.counted.discard(pod.uid)
            left = self.nodes[pod.node] - 1
            if left:
                self.nodes[pod.node] = left
            else:
                del self.nodes[pod.node]


class Cluster:
    """All nodes and the pods that have one.

    Attributes:
        nodes: those that are there, in the order in which they are tried: zones take turns.
        namespaces: labels by name.
        images: how many nodes have an image.
    """

    def __init__(self) -> None:
        self._infos: dict[str, NodeInfo] = {}
        self._pods: dict[str, PodInfo] = {}
        self._assumed: set[str] = set()
        self._counts: OrderedDict[tuple[Any, ...], Counts] = OrderedDict()
        self._terms: dict[str, dict[Term, dict[str, int]]] = {
            "affinity": {}, "anti": {}, "preferred": {}, "avoided": {},
        }  # fmt: skip
        self._claims: dict[str, int] = {}
        self._priorities: dict[int, int] = {}
        self._order: list[NodeInfo] | None = []
        self.namespaces: dict[str, Labels] = {}
        self.images: dict[str, int] = {}

    @property
    def nodes(self) -> list[NodeInfo]:
        """Those that are there."""
        if self._order is None:
            self._order = by_turns(one for one in self._infos.values() if one.node is not None)
        return self._order

    def find(self, name: str) -> NodeInfo | None:
        """Return a node that is there."""
        info = self._infos.get(name)
        return info if info is not None and info.node is not None else None

    def pod(self, uid: str) -> PodInfo | None:
        """Return a pod that has a node, or is assumed to have."""
        return self._pods.get(uid)

    def is_assumed(self, uid: str) -> bool:
        """Whether a pod was given a node that is not confirmed yet."""
        return uid in self._assumed

    def set_node(self, name: str, node: Object | None) -> None:
        """Take a node as it is now; None: it is gone."""
        info = self._infos.get(name)
        if info is None:
            if node is None:
                return
            info = self._infos[name] = NodeInfo(name)
        for image in info.images:
            self._count(self.images, image, -1)
        place = None if info.node is None else _place(info.labels)
        info.set(node)
        if node is None:
            info.images = {}
            if not info.pods:
                del self._infos[name]
        for image in info.images:
            self._count(self.images, image, 1)
        if (None if node is None else _place(info.labels)) != place:
            self._order = None

    def assume(self, pod: PodInfo, node: str) -> PodInfo:
        """Count a pod as being on a node."""
        made = PodInfo(pod.pod, node)
        self._assumed.add(made.uid)
        self._add(made)
        return made

    def forget(self, uid: str) -> None:
        """Take back an assumption, unless it was confirmed."""
        if uid in self._assumed:
            self._assumed.discard(uid)
            self._remove(self._pods[uid])

    def put(self, pod: PodInfo) -> None:
        """Take a pod that has a node, as it is now."""
        before = self._pods.get(pod.uid)
        if before is not None:
            self._remove(before)
        self._assumed.discard(pod.uid)
        self._add(pod)

    def take(self, uid: str) -> None:
        """Take note that a pod is gone, or ended."""
        pod = self._pods.get(uid)
        if pod is not None:
            self._assumed.discard(uid)
            self._remove(pod)

    def _add(self, pod: PodInfo) -> None:
        self._pods[pod.uid] = pod
        info = self._infos.get(pod.node)
        if info is None:
            info = self._infos[pod.node] = NodeInfo(pod.node)
        info.add(pod)
        for counts in self._counts.values():
            counts.put(pod)
        self._index(pod, 1)

    def _remove(self, pod: PodInfo) -> None:
        del self._pods[pod.uid]
        info = self._infos[pod.node]
        info.remove(pod)
        if info.node is None and not info.pods:
            del self._infos[pod.node]
        for counts in self._counts.values():
            counts.take(pod)
        self._index(pod, -1)

    @property
    def lowest_priority(self) -> int | None:
        """Of the pods that have nodes; None: there are none."""
        return min(self._priorities, default=None)

    def _index(self, pod: PodInfo, sign: int) -> None:
        left = self._priorities.get(pod.priority, 0) + sign
        if left:
            self._priorities[pod.priority] = left
        else:
            del self._priorities[pod.priority]
        parsed = pod.terms
        for kind, index in self._terms.items():
            for term in getattr(parsed, kind):
                nodes = index.setdefault(term, {})
                self._count(nodes, pod.node, sign)
                if not nodes:
                    del index[term]
        for volume in pod.spec.get("volumes") or ():
            claim = volume.get("persistentVolumeClaim")
            if claim is not None:
                self._count(self._claims, f"{pod.namespace}/{claim.get('claimName')}", sign)

    @staticmethod
    def _count(counts: dict[str, int], key: str, sign: int) -> None:
        left = counts.get(key, 0) + sign
        if left:
            counts[key] = left
        else:
            del counts[key]

    def uses(self, claim: str) -> bool:
        """Whether a pod that has a node uses a claim (``namespace/name``)."""
        return claim in self._claims

    def terms(self, kind: str) -> Mapping[Term, Mapping[str, int]]:
        """Return the terms of pods that have nodes, with the number of such pods by node.

        Args:
            kind: ``affinity``, ``anti``, ``preferred`` or ``avoided``.
        """
        return self._terms[kind]

    def matching(self, terms: tuple[Term, ...]) -> Mapping[str, int]:
        """Return how many pods on each node all of the terms count."""

        def counts(pod: PodInfo) -> bool:
            labels = self.labels_of(pod.namespace)
            return all(term.matches(pod.namespace, pod.labels, labels) for term in terms)

        return self._counted(terms, counts)

    def selected(self, selector: LabelSelector, namespace: str) -> Mapping[str, int]:
        """Return how many pods of a namespace a selector matches on each node.

        Those that are being deleted do not count.
        """

        def counts(pod: PodInfo) -> bool:
            return (
                pod.namespace == namespace and not pod.deleting and selector.matches(pod.labels)
            )  # fmt: skip

        return self._counted((selector, namespace), counts)

    def _counted(
        self, key: tuple[Any, ...], counts: Callable[[PodInfo], bool]
    ) -> Mapping[str, int]:
        found = self._counts.get(key)
        if found is None:
            found = self._counts[key] = Counts(counts)
            for pod in self._pods.values():
                found.put(pod)
            if len(self._counts) > _MOST_COUNTS:
                self._counts.popitem(last=False)
        else:
            self._counts.move_to_end(key)
        return found.nodes

    def set_namespace(self, name: str, labels: Labels | None) -> None:
        """Take the labels of a namespace; None: it is gone."""
        if labels is None:
            self.namespaces.pop(name, None)
        elif self.namespaces.get(name) == labels:
            return
        else:
            self.namespaces[name] = labels
        for key in [key for key in self._counts if any(isinstance(one, Term) for one in key)]:
            if any(term.over is not None for term in key):
                del self._counts[key]

    def labels_of(self, namespace: str) -> Labels:
        """Return the labels of a namespace."""
        return self.namespaces.get(namespace) or {}


def _place(labels: Labels) -> tuple[str, str]:
    return labels.get(REGION, ""), labels.get(ZONE, "")


def by_turns(nodes: Iterable[NodeInfo]) -> list[NodeInfo]:
    """Return nodes so that zones take turns: neighbours in the list share little (pure)."""
    zones: dict[tuple[str, str], list[NodeInfo]] = {}
    for node in nodes:
        zones.setdefault(_place(node.labels), []).append(node)
    rows = list(zones.values())
    longest = max(map(len, rows), default=0)
    return [row[index] for index in range(longest) for row in rows if index < len(row)]
