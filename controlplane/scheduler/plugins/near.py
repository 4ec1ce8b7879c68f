"""Pods that want to be near other pods, or far from them.

Source: Kubernetes documentation, "Inter-pod affinity and anti-affinity". Anti-affinity holds both
ways: a pod may not come to where a pod is that does not want it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Final

from .. import hinting
from ..cluster import Cluster
from ..events import Hints
from ..nodes import NodeInfo
from ..pods import PodInfo
from ..statuses import Status
from ..terms import Term
from .base import MOST, Attempt, Check, Plugin

Pair = tuple[str, str]
"""A topology's label and its value: a domain."""
_NAME: Final = "InterPodAffinity"


class InterPodAffinity(Plugin):
    """Affinity and anti-affinity between pods.

    Args:
        hard_weight: of required affinity of pods that are there, in the score.
        ignore_preferred: whether what those prefer counts not.
    """

    name: ClassVar[str] = _NAME
    hints: ClassVar[Hints] = hinting.INTER_POD_AFFINITY

    def __init__(self, hard_weight: int = 1, *, ignore_preferred: bool = False) -> None:
        self._hard = hard_weight
        self._ignore = ignore_preferred

    def prepare(self, attempt: Attempt) -> Check | Status | None:
        """Nothing, if neither the pod nor one that is there cares."""
        pod, cluster = attempt.pod, attempt.cluster
        parsed = pod.terms
        if not (parsed.affinity or parsed.anti or cluster.terms("anti")):
            return None
        check = Near(pod, cluster)
        return check if check.matters else None

    def score(self, attempt: Attempt, nodes: Sequence[NodeInfo]) -> list[int] | None:
        """Prefer nodes near to what the pod likes, and to what likes the pod."""
        domains = self._domains(attempt)
        if not domains:
            return None
        points = [
            sum(values.get(node.labels[key], 0) for key, values in domains.items()
                if key in node.labels)
            for node in nodes
        ]  # fmt: skip
        low, high = min(points), max(points)
        if high == low:
            return [0] * len(nodes)
        return [int(MOST * ((one - low) / (high - low))) for one in points]

    def _domains(self, attempt: Attempt) -> dict[str, dict[str, int]]:
        """Return points of the values of labels."""
        pod, cluster = attempt.pod, attempt.cluster
        parsed, domains = pod.terms, dict[str, dict[str, int]]()
        liked, avoided = parsed.preferred, parsed.avoided
        if self._ignore and not (liked or avoided):
            return domains
        for sign, terms in ((1, liked), (-1, avoided)):
            for term in terms:
                found = cluster.matching((term,))
                _points(domains, cluster, term, found.items(), sign * term.weight)
        labels = cluster.labels_of(pod.namespace)
        for kind, weight in (("affinity", self._hard), ("preferred", 1), ("avoided", -1)):
            for term, found in cluster.terms(kind).items():
                if term.matches(pod.namespace, pod.labels, labels):
                    each = weight if kind == "affinity" else weight * term.weight
                    _points(domains, cluster, term, found.items(), each)
        return domains


def _points(
    domains: dict[str, dict[str, int]], cluster: Cluster, term: Term,
    counts: Iterable[tuple[str, int]], weight: int,
) -> None:  # fmt: skip
    for name, count in counts:
        node = cluster.find(name)
        value = None if node is None else node.labels.get(term.topology)
        if value is not None and weight:
            values = domains.setdefault(term.topology, {})
            values[value] = values.get(value, 0) + weight * count


class Near(Check):
    """Which domains a pod must be in, and must not.

    Args:
        pod: that is placed.
        cluster: the pods that are there.
    """

    _FAR: Final = Status(_NAME, ("node(s) didn't match pod affinity rules",))
    _BESIDE: Final = Status(_NAME, ("node(s) didn't match pod anti-affinity rules",), True)
    _UNWANTED: Final = Status(
        _NAME, ("node(s) didn't satisfy existing pods anti-affinity rules",), True
    )

    def __init__(self, pod: PodInfo, cluster: Cluster) -> None:
        self._pod, self._cluster = pod, cluster
        self._labels = cluster.labels_of(pod.namespace)
        self._wanted, self._anti = pod.terms.affinity, pod.terms.anti
        self._with: dict[Pair, int] = {}
        self._without: dict[Pair, int] = {}
        self._unwelcome: dict[Pair, int] = {}
        for term, nodes in cluster.terms("anti").items():
            if term.matches(pod.namespace, pod.labels, self._labels):
                self._count(self._unwelcome, term, nodes.items())
        if self._wanted:
            found = cluster.matching(self._wanted)
            for term in self._wanted:
                self._count(self._with, term, found.items())
        for term in self._anti:
            self._count(self._without, term, cluster.matching((term,)).items())

    @property
    def matters(self) -> bool:
        """Whether it speaks against any node."""
        return bool(self._wanted or self._anti or self._unwelcome)

    def _count(self, pairs: dict[Pair, int], term: Term, counts: Iterable[tuple[str, int]]) -> None:
        for name, count in counts:
            node = self._cluster.find(name)
            if node is not None:
                _change(pairs, term, node, count)

    def at(self, node: NodeInfo) -> Status | None:
        """Return which rule speaks against a node."""
        if self._wanted and not self._is_near(node):
            return self._FAR
        labels = node.labels
        if self._without:
            for term in self._anti:
                value = labels.get(term.topology)
                if value is not None and (term.topology, value) in self._without:
                    return self._BESIDE
        if self._unwelcome:
            for pair in labels.items():
                if pair in self._unwelcome:
                    return self._UNWANTED
        return None

    def _is_near(self, node: NodeInfo) -> bool:
        there = True
        for term in self._wanted:
            value = node.labels.get(term.topology)
            if value is None:
                return False
            there = there and (term.topology, value) in self._with
        # The first of pods that want each other may go anywhere.
        return there or (not self._with and self._matches_all(self._pod))

    def _matches_all(self, pod: PodInfo) -> bool:
        labels = self._cluster.labels_of(pod.namespace)
        return all(term.matches(pod.namespace, pod.labels, labels) for term in self._wanted)

    def add(self, pod: PodInfo, node: NodeInfo) -> None:
        """Suppose that a pod is on a node, too."""
        self._suppose(pod, node, 1)

    def remove(self, pod: PodInfo, node: NodeInfo) -> None:
        """Suppose that a pod is not on a node."""
        self._suppose(pod, node, -1)

    def _suppose(self, pod: PodInfo, node: NodeInfo, sign: int) -> None:
        own = self._pod
        for term in pod.terms.anti:
            if term.matches(own.namespace, own.labels, self._labels):
                _change(self._unwelcome, term, node, sign)
        if self._wanted and self._matches_all(pod):
            for term in self._wanted:
                _change(self._with, term, node, sign)
        labels = self._cluster.labels_of(pod.namespace)
        for term in self._anti:
            if term.matches(pod.namespace, pod.labels, labels):
                _change(self._without, term, node, sign)


def _change(pairs: dict[Pair, int], term: Term, node: NodeInfo, count: int) -> None:
    value = node.labels.get(term.topology)
    if value is not None:
        pair = (term.topology, value)
        left = pairs.get(pair, 0) + count
        if left:
            pairs[pair] = left
        else:
            del pairs[pair]
