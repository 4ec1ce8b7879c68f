"""Finds a node for a pod: filters, then scores."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .cluster import Cluster
from .nodes import NodeInfo
from .plugins.base import Attempt, Check, Plugin
from .pods import PodInfo
from .statuses import Diagnosis, Status, together

LEAST_NODES: Final = 100
"""Nodes that fit which are looked for in any case, if there are so many."""
_LEAST_PERCENTAGE: Final = 5


@dataclass(frozen=True, slots=True)
class Profile:
    """How pods of one ``schedulerName`` are placed.

    Attributes:
        name: of the scheduler.
        filters: in order.
        scores: with their weights.
        percentage: of nodes that are looked at; None: the scheduler's; 0: by their number.
        preempts: whether pods may make room for others.
        candidates: of preemption: per cent of nodes, and how many at least.
        claims: whether it is told that no ResourceClaims can be taken back to make room.
    """

    name: str
    filters: tuple[Plugin, ...]
    scores: tuple[tuple[Plugin, int], ...]
    percentage: int | None = None
    preempts: bool = True
    candidates: tuple[int, int] = (10, 100)
    claims: bool = True


class NoFitError(Exception):
    """A pod fits on no node.

    Attributes:
        diagnosis: why; None: there are no nodes.
        checks: that were prepared; preemption goes on with them.
    """

    def __init__(self, diagnosis: Diagnosis | None, checks: Sequence[Check] = ()) -> None:
        super().__init__("no nodes available to schedule pods" if diagnosis is None else "no fit")
        self.diagnosis = diagnosis
        self.checks = checks


class Nominations:
    """Which pods were promised a node whose present pods are to go first."""

    def __init__(self) -> None:
        self._nodes: dict[str, dict[str, PodInfo]] = {}
        self._of: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._nodes)

    def set(self, pod: PodInfo, node: str) -> None:
        """Promise a node to a pod; "": none any more."""
        self.drop(pod.uid)
        if node:
            self._nodes.setdefault(node, {})[pod.uid] = pod
            self._of[pod.uid] = node

    def drop(self, uid: str) -> None:
        """Take a promise back."""
        node = self._of.pop(uid, None)
        if node is not None:
            del self._nodes[node][uid]
            if not self._nodes[node]:
                del self._nodes[node]

    def node_of(self, uid: str) -> str:
        """Return the node that was promised to a pod; "": none."""
        return self._of.get(uid, "")

    def on(self, node: str) -> list[PodInfo]:
        """Return the pods to which a node was promised."""
        return list(self._nodes.get(node, {}).values()) if self._nodes else []


class Placer:
    """Finds nodes.

    Args:
        cluster: the state by which pods are placed.
        percentage: of nodes that are looked at; 0: by their number.
    """

    def __init__(self, cluster: Cluster, percentage: int = 0) -> None:
        self._cluster = cluster
        self._percentage = percentage
        self._start = 0
        self.nominations = Nominations()

    def place(self, profile: Profile, attempt: Attempt) -> NodeInfo:
        """Return the node for a pod.

        Raises:
            NoFitError: none does.
            SchedulingError: it cannot be told now.
        """
        nodes = self._cluster.nodes
        if not nodes:
            raise NoFitError(None)
        diagnosis = Diagnosis(len(nodes))
        checks = self._prepare(profile, attempt, diagnosis)
        fitting = self._find(profile, attempt, checks, diagnosis)
        if not fitting:
            raise NoFitError(diagnosis, checks)
        return fitting[0] if len(fitting) == 1 else best(profile, attempt, fitting)

    def _prepare(self, profile: Profile, attempt: Attempt, diagnosis: Diagnosis) -> list[Check]:
        checks: list[Check] = []
        refusal: Status | None = None
        for plugin in profile.filters:
            made = plugin.prepare(attempt)
            if isinstance(made, Check):
                checks.append(made)
            elif made is not None:
                refusal = made
                diagnosis.plugins.add(made.plugin)
                if not made.resolvable:
                    break
        if refusal is not None:
            diagnosis.absent = refusal
            diagnosis.before = ", ".join(refusal.reasons)
            raise NoFitError(diagnosis, checks)
        return checks

    def _find(
        self, profile: Profile, attempt: Attempt, checks: Sequence[Check], diagnosis: Diagnosis
    ) -> list[NodeInfo]:
        pod = attempt.pod
        promised = pod.nominated or self.nominations.node_of(pod.uid)
        node = self._cluster.find(promised) if promised else None
        if node is not None and self.why_not(node, pod, checks) is None:
            return [node]
        nodes = self._cluster.nodes
        only = [check.only for check in checks if check.only is not None]
        if only:
            # The one plugin that names nodes is NodeAffinity.
            names = frozenset.intersection(*only)
            diagnosis.absent = Status("", (together(["NodeAffinity"]),))
            diagnosis.plugins.add("NodeAffinity")
            nodes = [node for name in names if (node := self._cluster.find(name)) is not None]
            if not nodes:
                return []
        return self._look(profile, pod, nodes, checks, diagnosis)

    def _look(
        self, profile: Profile, pod: PodInfo, nodes: Sequence[NodeInfo], checks: Sequence[Check],
        diagnosis: Diagnosis,
    ) -> list[NodeInfo]:  # fmt: skip
        count = len(nodes)
        wanted = self._enough(profile, count)
        fitting: list[NodeInfo] = []
        statuses, promised = diagnosis.statuses, bool(self.nominations)
        start = self._start % count
        for index in range(count):
            node = nodes[(start + index) % count]
            status = self.why_not(node, pod, checks) if promised else first(checks, node)
            if status is None:
                fitting.append(node)
                if len(fitting) == wanted:
                    break
            else:
                statuses[node.name] = status
        diagnosis.plugins.update(status.plugin for status in statuses.values())
        self._start = (self._start + len(fitting) + len(statuses)) % len(self._cluster.nodes)
        return fitting

    def _enough(self, profile: Profile, count: int) -> int:
        if count < LEAST_NODES:
            return count
        percentage = self._percentage if profile.percentage is None else profile.percentage
        if not percentage:
            percentage = max(50 - count // 125, _LEAST_PERCENTAGE)
        return max(count * percentage // 100, LEAST_NODES)

    def why_not(self, node: NodeInfo, pod: PodInfo, checks: Sequence[Check]) -> Status | None:
        """Return why a node does not do, also with the pods that it was promised to."""
        others = [
            one for one in self.nominations.on(node.name)
            if one.priority >= pod.priority and one.uid != pod.uid
        ]  # fmt: skip
        if others:
            crowded = node.copy()
            for one in others:
                crowded.add(one)
                for check in checks:
                    check.add(one, crowded)
            status = first(checks, crowded)
            for one in others:
                for check in checks:
                    check.remove(one, crowded)
            if status is not None:
                return status
        return first(checks, node)


def first(checks: Sequence[Check], node: NodeInfo) -> Status | None:
    """Return what the first check says that speaks against a node."""
    for check in checks:
        status = check.at(node)
        if status is not None:
            return status
    return None


def best(profile: Profile, attempt: Attempt, nodes: Sequence[NodeInfo]) -> NodeInfo:
    """Return the node with the highest score, any of those that share it."""
    totals = total_scores(profile, attempt, nodes)
    highest = max(totals)
    return nodes[random.choice([i for i, total in enumerate(totals) if total == highest])]


def total_scores(profile: Profile, attempt: Attempt, nodes: Sequence[NodeInfo]) -> list[int]:
    """Return the weighed scores of nodes."""
    totals = [0] * len(nodes)
    for plugin, weight in profile.scores:
        scores = plugin.score(attempt, nodes)
        if scores is not None:
            totals = [total + weight * score for total, score in zip(totals, scores, strict=True)]
    return totals
