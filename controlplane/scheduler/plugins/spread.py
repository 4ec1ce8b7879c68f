"""Pods spread evenly over domains of nodes.

Source: Kubernetes documentation, "Pod Topology Spread Constraints".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from controlplane.api.selectors import LabelSelector

from .. import hinting
from ..cluster import Cluster
from ..events import Hints
from ..nodes import HOSTNAME, NO_SCHEDULE, ZONE, NodeInfo
from ..pods import PodInfo
from ..statuses import Status
from ..terms import selector_of, selector_with, untolerated
from .base import MOST, Attempt, Check, Plugin
from .resources import round_half_up

HARD: Final = "DoNotSchedule"
SOFT: Final = "ScheduleAnyway"
SYSTEM_DEFAULTS: Final[Sequence[Mapping[str, Any]]] = (
    {"topologyKey": HOSTNAME, "whenUnsatisfiable": SOFT, "maxSkew": 3},
    {"topologyKey": ZONE, "whenUnsatisfiable": SOFT, "maxSkew": 5},
)
_NAME: Final = "PodTopologySpread"
_MANY: Final = 2**31 - 1
_NOWHERE: Final = LabelSelector()


@dataclass(frozen=True, slots=True)
class Constraint:
    """One constraint of a pod.

    Attributes:
        skew: how much fuller a domain may be than the emptiest.
        topology: label that makes the domains.
        selector: of the pods that count; None: none.
        least: domains below which the emptiest counts as having no pod.
        affinity, taints: whether only nodes count that the pod's affinity and tolerations allow.
    """

    skew: int
    topology: str
    selector: LabelSelector | None
    least: int = 1
    affinity: bool = True
    taints: bool = False

    def counts(self, pod: PodInfo, node: NodeInfo) -> bool:
        """Say whether a node counts for a pod."""
        if self.affinity and pod.match is not None and not pod.match(node.name, node.labels):
            return False
        if not self.taints:
            return True
        return untolerated(node.taints, pod.tolerations, NO_SCHEDULE) is None

    def pods(self, cluster: Cluster, namespace: str) -> Mapping[str, int]:
        """Return how many pods count on each node."""
        # Go counts nothing for a selector that selects everything.
        if self.selector is None or not self.selector.requirements:
            return {}
        return cluster.selected(self.selector, namespace)

    def selects(self, pod: PodInfo) -> bool:
        """Say whether a pod counts by its labels."""
        return self.selector is not None and self.selector.matches(pod.labels)


Select = Callable[[PodInfo], LabelSelector]
"""Returns what selects the pods that belong together with one by its Services and its owner."""


class PodTopologySpread(Plugin):
    """Topology spread.

    Args:
        defaults: constraints of pods that have none.
        system: whether those are the built-in ones, for which nodes without a label count, too.
        select: for the defaults.
    """

    name: ClassVar[str] = _NAME
    hints: ClassVar[Hints] = hinting.POD_TOPOLOGY_SPREAD

    def __init__(
        self, defaults: Sequence[Mapping[str, Any]] = SYSTEM_DEFAULTS, *, system: bool = True,
        select: Select = lambda pod: _NOWHERE,
    ) -> None:  # fmt: skip
        self._defaults = defaults
        self._system = system
        self._select = select

    def _constraints(self, pod: PodInfo, action: str) -> list[Constraint]:
        given = pod.spec.get("topologySpreadConstraints")
        if given:
            return [constraint(one, pod) for one in given if _action(one) == action]
        defaults = [one for one in self._defaults if _action(one) == action]
        selector = self._select(pod) if defaults else _NOWHERE
        if not selector.requirements:
            return []
        return [
            Constraint(one["maxSkew"], one["topologyKey"], selector) for one in defaults
        ]  # fmt: skip

    def prepare(self, attempt: Attempt) -> Check | Status | None:
        """Nothing, for a pod that requires no spreading."""
        constraints = self._constraints(attempt.pod, HARD)
        return Spread(attempt.pod, attempt.cluster, constraints) if constraints else None

    def score(self, attempt: Attempt, nodes: Sequence[NodeInfo]) -> list[int] | None:
        """Prefer nodes of domains with few pods."""
        pod, cluster = attempt.pod, attempt.cluster
        constraints = self._constraints(pod, SOFT)
        if not constraints:
            return None
        every = bool(pod.spec.get("topologySpreadConstraints")) or not self._system
        keys = [one.topology for one in constraints]
        ignored = {
            node.name for node in nodes if every and not all(key in node.labels for key in keys)
        }
        points = [0.0] * len(nodes)
        for one in constraints:
            _add_points(points, one, pod, cluster, nodes, ignored, keys if every else [])
        return _inverted([
            None if node.name in ignored else round_half_up(score)
            for node, score in zip(nodes, points, strict=True)
        ])  # fmt: skip


def _action(value: Mapping[str, Any]) -> str:
    return str(value.get("whenUnsatisfiable", HARD))


def constraint(value: Mapping[str, Any], pod: PodInfo) -> Constraint:
    """Return a parsed constraint of a pod."""
    same = {key: pod.labels[key] for key in value.get("matchLabelKeys") or () if key in pod.labels}
    return Constraint(
        value.get("maxSkew", 1),
        value.get("topologyKey", ""),
        selector_with(selector_of(value.get("labelSelector")), same),
        value.get("minDomains") or 1,
        value.get("nodeAffinityPolicy", "Honor") == "Honor",
        value.get("nodeTaintsPolicy", "Ignore") == "Honor",
    )


def _add_points(
    points: list[float], one: Constraint, pod: PodInfo, cluster: Cluster,
    nodes: Sequence[NodeInfo], ignored: set[str], keys: Sequence[str],
) -> None:  # fmt: skip
    found = one.pods(cluster, pod.namespace)
    if one.topology == HOSTNAME:
        weight = math.log(len(nodes) - len(ignored) + 2)
        for index, node in enumerate(nodes):
            if HOSTNAME in node.labels and node.name not in ignored:
                points[index] += found.get(node.name, 0) * weight + (one.skew - 1)
        return
    domains = {
        node.labels.get(one.topology, ""): 0 for node in nodes if node.name not in ignored
    }  # fmt: skip
    weight = math.log(len(domains) + 2)
    for name, count in found.items():
        other = cluster.find(name)
        if other is None or not all(key in other.labels for key in keys):
            continue
        value = other.labels.get(one.topology, "")
        if value in domains and one.counts(pod, other):
            domains[value] += count
    for index, node in enumerate(nodes):
        if one.topology in node.labels and node.name not in ignored:
            points[index] += domains[node.labels[one.topology]] * weight + (one.skew - 1)


def _inverted(points: list[int | None]) -> list[int]:
    """Return scores: few points are good, none are for nodes that do not count."""
    counted = [one for one in points if one is not None]
    low, high = min(counted, default=0), max(counted, default=0)
    return [
        0 if one is None else MOST if high == 0 else MOST * (high + low - one) // high
        for one in points
    ]


class Spread(Check):
    """How many pods each domain has.

    Args:
        pod: that is placed.
        cluster: the pods that are there.
        constraints: that are required.
    """

    _MISSING: Final = Status(
        _NAME, ("node(s) didn't match pod topology spread constraints (missing required label)",)
    )
    _SKEWED: Final = Status(_NAME, ("node(s) didn't match pod topology spread constraints",), True)

    def __init__(self, pod: PodInfo, cluster: Cluster, constraints: list[Constraint]) -> None:
        self._pod = pod
        self._constraints = constraints
        self._keys = [one.topology for one in constraints]
        self._own = [int(one.selects(pod)) for one in constraints]
        self._domains: list[dict[str, int]] = [{} for _ in constraints]
        found = [one.pods(cluster, pod.namespace) for one in constraints]
        for node in cluster.nodes:
            if self._has_all(node):
                for one, domains, counts in zip(constraints, self._domains, found, strict=True):
                    if one.counts(pod, node):
                        value = node.labels[one.topology]
                        domains[value] = domains.get(value, 0) + counts.get(node.name, 0)
        self._lowest = list(map(self._least, constraints, self._domains))

    @staticmethod
    def _least(one: Constraint, domains: dict[str, int]) -> int:
        return 0 if len(domains) < one.least else min(domains.values(), default=_MANY)

    def _has_all(self, node: NodeInfo) -> bool:
        return all(key in node.labels for key in self._keys)

    def at(self, node: NodeInfo) -> Status | None:
        """Return which constraint speaks against a node."""
        for index, one in enumerate(self._constraints):
            value = node.labels.get(one.topology)
            if value is None:
                return self._MISSING
            count = self._domains[index].get(value, 0) + self._own[index]
            if count - self._lowest[index] > one.skew:
                return self._SKEWED
        return None

    def add(self, pod: PodInfo, node: NodeInfo) -> None:
        """Suppose that a pod is on a node, too."""
        self._suppose(pod, node, 1)

    def remove(self, pod: PodInfo, node: NodeInfo) -> None:
        """Suppose that a pod is not on a node."""
        self._suppose(pod, node, -1)

    def _suppose(self, pod: PodInfo, node: NodeInfo, sign: int) -> None:
        if pod.namespace != self._pod.namespace or pod.deleting or not self._has_all(node):
            return
        for index, one in enumerate(self._constraints):
            selected = one.selector is not None and one.selector.requirements and one.selects(pod)
            if selected and one.counts(self._pod, node):
                domains, value = self._domains[index], node.labels[one.topology]
                domains[value] = domains.get(value, 0) + sign
                self._lowest[index] = self._least(one, domains)
