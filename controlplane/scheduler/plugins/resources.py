"""Resources: whether they suffice, and how evenly they are used."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Final

from .. import hinting
from ..events import Hints
from ..nodes import NodeInfo
from ..pods import PodInfo
from ..requests import CPU, MEMORY, STORAGE, is_counted, is_extended
from ..statuses import Status
from .base import MOST, Attempt, Check, Plugin

Weights = Mapping[str, int]
DEFAULT_WEIGHTS: Final[Weights] = {CPU: 1, MEMORY: 1}
Shape = Sequence[tuple[int, int]]
"""Points of a curve: how many per cent are used, and the score from 0 to `MOST`."""


class NodeResourcesFit(Plugin):
    """What pods ask for must be free.

    Args:
        strategy: ``LeastAllocated``, ``MostAllocated`` or ``RequestedToCapacityRatio``.
        weights: of resources in the score.
        shape: of the last of them.
        ignored, groups: extended resources that others look after, by name and by domain.
    """

    name: ClassVar[str] = "NodeResourcesFit"
    hints: ClassVar[Hints] = hinting.NODE_RESOURCES_FIT

    def __init__(
        self, strategy: str = "LeastAllocated", weights: Weights = DEFAULT_WEIGHTS,
        shape: Shape = (), ignored: Sequence[str] = (), groups: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._weights = weights
        self._curve = _CURVES.get(strategy) or _curve(shape)
        self._rounded = strategy == "RequestedToCapacityRatio"
        self._plain = strategy == "LeastAllocated" and dict(weights) == DEFAULT_WEIGHTS
        self._ignored = frozenset(ignored)
        self._groups = frozenset(groups)

    def prepare(self, attempt: Attempt) -> Check | Status | None:
        """Look at what is free."""
        return Fits(attempt.pod, self._ignored, self._groups)

    def score(self, attempt: Attempt, nodes: Sequence[NodeInfo]) -> list[int] | None:
        """Prefer nodes by how much of their resources is taken."""
        if self._plain:
            wants = attempt.pod.requests
            cpu, memory = wants.scored_cpu, wants.scored_memory
            return [_least(node, cpu, memory) for node in nodes]
        return [self._score(attempt.pod, node) for node in nodes]

    def _score(self, pod: PodInfo, node: NodeInfo) -> int:
        total = weights = 0
        for name, weight in self._weights.items():
            taken, has = scored(pod, node, name)
            if has:
                points = self._curve(taken, has)
                if points or not self._rounded:
                    total += points * weight
                    weights += weight
        if not weights:
            return 0
        return round_half_up(total / weights) if self._rounded else total // weights


def _least(node: NodeInfo, cpu: int, memory: int) -> int:
    total = weights = 0
    has = node.has_cpu
    if has:
        taken = node.scored_cpu + cpu
        if taken <= has:
            total = (has - taken) * MOST // has
        weights = 1
    has = node.has_memory
    if has:
        taken = node.scored_memory + memory
        if taken <= has:
            total += (has - taken) * MOST // has
        weights += 1
    return total // weights if weights else 0


def scored(pod: PodInfo, node: NodeInfo, name: str) -> tuple[int, int]:
    """Return how much of a resource would be taken, as scores count it, and how much there is."""
    wants = pod.requests
    if name == CPU:
        return node.scored_cpu + wants.scored_cpu, node.has_cpu
    if name == MEMORY:
        return node.scored_memory + wants.scored_memory, node.has_memory
    if name == STORAGE:
        return node.storage + wants.storage, node.has_storage
    if is_counted(name) and not wants.others.get(name):
        return 0, 0
    return node.others.get(name, 0) + wants.others.get(name, 0), node.has_others.get(name, 0)


def round_half_up(number: float) -> int:
    """Return the nearest whole number, half away from zero, as Go's ``math.Round``."""
    return math.floor(number + 0.5)


_CURVES: Final[dict[str, Callable[[int, int], int]]] = {
    "LeastAllocated": lambda taken, has: 0 if taken > has else (has - taken) * MOST // has,
    "MostAllocated": lambda taken, has: min(taken, has) * MOST // has,
}


def _curve(shape: Shape) -> Callable[[int, int], int]:
    def at(taken: int, has: int) -> int:
        used = 100 if taken > has else taken * 100 // has
        for index, (point, score) in enumerate(shape):
            if used <= point:
                if index == 0:
                    return score
                before, low = shape[index - 1]
                return low + int((score - low) * (used - before) / (point - before))
        return shape[-1][1]

    return at


class Fits(Check):
    """Whether what a pod asks for is free on a node."""

    def __init__(
        self, pod: PodInfo, ignored: frozenset[str] = frozenset(),
        groups: frozenset[str] = frozenset(),
    ) -> None:  # fmt: skip
        wants = pod.requests
        self._cpu, self._memory, self._storage = wants.cpu, wants.memory, wants.storage
        self._others = [
            (name, value) for name, value in wants.others.items()
            if not (is_extended(name) and (name in ignored or name.partition("/")[0] in groups))
        ]  # fmt: skip

    def at(self, node: NodeInfo) -> Status | None:
        """Return what does not suffice."""
        cpu, memory, storage = self._cpu, self._memory, self._storage
        if (
            len(node.pods) < node.has_pods
            and (not cpu or cpu <= node.has_cpu - node.cpu)
            and (not memory or memory <= node.has_memory - node.memory)
            and (not storage or storage <= node.has_storage - node.storage)
            and not self._others
        ):
            return None
        return self._why(node)

    def _why(self, node: NodeInfo) -> Status | None:
        reasons: list[str] = []
        resolvable = True
        if len(node.pods) >= node.has_pods:
            reasons.append("Too many pods")
        wants = [
            (CPU, self._cpu, node.cpu, node.has_cpu),
            (MEMORY, self._memory, node.memory, node.has_memory),
            (STORAGE, self._storage, node.storage, node.has_storage),
            *((name, value, node.others.get(name, 0), node.has_others.get(name, 0))
              for name, value in self._others),
        ]  # fmt: skip
        for name, wanted, taken, has in wants:
            if wanted and wanted > has - taken:
                reasons.append(f"Insufficient {name}")
                resolvable = resolvable and wanted <= has
        return Status(NodeResourcesFit.name, tuple(reasons), resolvable) if reasons else None


class NodeResourcesBalancedAllocation(Plugin):
    """Resources of a node are best taken in equal parts.

    Args:
        weights: the resources that count.
    """

    name: ClassVar[str] = "NodeResourcesBalancedAllocation"

    def __init__(self, weights: Weights = DEFAULT_WEIGHTS) -> None:
        self._names = tuple(weights)
        self._plain = self._names == (CPU, MEMORY)

    def score(self, attempt: Attempt, nodes: Sequence[NodeInfo]) -> list[int] | None:
        """Prefer nodes that the pod makes more even."""
        wants = attempt.pod.requests
        if not any(_wanted(attempt.pod, name) for name in self._names):
            return None
        if self._plain:
            cpu, memory = wants.cpu, wants.memory
            return [_evens(node, cpu, memory) for node in nodes]
        return [self._score(attempt.pod, node) for node in nodes]

    def _score(self, pod: PodInfo, node: NodeInfo) -> int:
        before: list[float] = []
        after: list[float] = []
        for name in self._names:
            taken, has = _taken(node, name)
            wanted = _wanted(pod, name)
            if has and (wanted or not is_counted(name)):
                before.append(min(taken / has, 1.0))
                after.append(min((taken + wanted) / has, 1.0))
        return _balance(_evenness(after), _evenness(before))


def _evens(node: NodeInfo, cpu: int, memory: int) -> int:
    has_cpu, has_memory = node.has_cpu, node.has_memory
    if not has_cpu or not has_memory:
        return _balance(MOST, MOST)
    before_cpu, before_memory = node.cpu / has_cpu, node.memory / has_memory
    after_cpu, after_memory = (node.cpu + cpu) / has_cpu, (node.memory + memory) / has_memory
    before = abs(min(before_cpu, 1.0) - min(before_memory, 1.0)) / 2
    after = abs(min(after_cpu, 1.0) - min(after_memory, 1.0)) / 2
    return _balance(int((1 - after) * MOST), int((1 - before) * MOST))


def _balance(after: int, before: int) -> int:
    # Go divides towards zero.
    return MOST // 2 + int((MOST // 2 + after - before) / 2)


def _evenness(parts: list[float]) -> int:
    if len(parts) == 2:
        spread = abs((parts[0] - parts[1]) / 2)
    elif len(parts) > 2:
        mean = sum(parts) / len(parts)
        spread = math.sqrt(sum((part - mean) ** 2 for part in parts) / len(parts))
    else:
        spread = 0.0
    return int((1 - spread) * MOST)


def _wanted(pod: PodInfo, name: str) -> int:
    wants = pod.requests
    if name == CPU:
        return wants.cpu
    if name == MEMORY:
        return wants.memory
    return wants.storage if name == STORAGE else wants.others.get(name, 0)


def _taken(node: NodeInfo, name: str) -> tuple[int, int]:
    if name == CPU:
        return node.cpu, node.has_cpu
    if name == MEMORY:
        return node.memory, node.has_memory
    if name == STORAGE:
        return node.storage, node.has_storage
    return node.others.get(name, 0), node.has_others.get(name, 0)
