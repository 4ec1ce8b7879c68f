"""``/metrics/resource`` of kubelets: two points of each container, and the usage between (pure).

Source: KEP-727 for the text; metrics-server for which points make a usage.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

_FRESH: Final = 10.0
"""Seconds that a container must run before its start counts as a point."""
_NANO: Final = 10**9
_MOST_POINTS: Final = 20_000
_WANTED: Final = {
    "node_cpu_usage_seconds_total": "cpu", "node_memory_working_set_bytes": "memory",
    "container_cpu_usage_seconds_total": "cpu", "container_memory_working_set_bytes": "memory",
    "container_start_time_seconds": "start",
}  # fmt: skip


class TextError(Exception):
    """A text is not in Prometheus' format."""


@dataclass(slots=True)
class Point:
    """What was measured of a node or container.

    Attributes:
        at: seconds since the epoch.
        cpu: seconds that it used so far.
        memory: bytes of its working set.
        start: when it started; 0: unknown.
    """

    at: float = 0.0
    cpu: float | None = None
    memory: float | None = None
    start: float = 0.0

    @property
    def whole(self) -> bool:
        """Whether all was measured."""
        return self.at > 0 and self.cpu is not None and self.memory is not None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a node or container uses.

    Attributes:
        at: seconds since the epoch, of the end of the window.
        window: seconds.
        cpu: billionths of a core.
        memory: bytes.
    """

    at: float
    window: float
    cpu: int
    memory: int


Containers = dict[str, Point]
"""By name."""


@dataclass(slots=True)
class Scrape:
    """What one kubelet told: of its node, and of containers by (namespace, pod)."""

    node: Point = field(default_factory=Point)
    pods: dict[tuple[str, str], Containers] = field(default_factory=dict)


def read_scrape(text: str, now: float) -> Scrape:
    """Return what a kubelet's text tells.

    Args:
        text: of ``/metrics/resource``.
        now: the time, for samples that do not say theirs.

    Raises:
        TextError: it is none.
    """
    scrape, count = Scrape(), 0
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                what = _WANTED.get(sample.name)
                count += 1
                if what is None or count > _MOST_POINTS or not math.isfinite(sample.value):
                    continue
                point = _point_of(scrape, sample.name, sample.labels)
                if what != "start":
                    point.at = max(point.at, _seconds(sample.timestamp, now))
                setattr(point, what, max(float(sample.value), 0.0))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise TextError(f"this is no text of metrics: {error}") from error
    return scrape


def _point_of(scrape: Scrape, name: str, labels: dict[str, str]) -> Point:
    if name.startswith("node_"):
        return scrape.node
    key = (labels.get("namespace", ""), labels.get("pod", ""))
    return scrape.pods.setdefault(key, {}).setdefault(labels.get("container", ""), Point())


def _seconds(timestamp: object, now: float) -> float:
    return float(timestamp) if isinstance(timestamp, int | float) else now


def usage_between(before: Point | None, after: Point, resolution: float) -> Usage | None:
    """Return the usage between two points; None: that cannot be said.

    Args:
        before: the earlier point; None: there is none.
        after: the later one.
        resolution: seconds between scrapes.
    """
    if not after.whole:
        return None
    assert after.cpu is not None
    assert after.memory is not None
    restarted = before is not None and after.start > before.at
    if before is None or not before.whole or restarted or after.cpu < (before.cpu or 0.0):
        before = _birth(after, resolution)
    if before is None or before.cpu is None or after.at <= before.at:
        return None
    window = after.at - before.at
    cpu = math.ceil((after.cpu - before.cpu) / window * _NANO)
    return Usage(after.at, window, cpu, int(after.memory))


def _birth(point: Point, resolution: float) -> Point | None:
    """Return the start of a young container as a point: it had used nothing yet."""
    age = point.at - point.start
    if not point.start or not min(_FRESH, resolution * 2 / 3) <= age < resolution * 2:
        return None
    return Point(point.start, 0.0, 0.0, point.start)


class UsageStore:
    """Keeps two points of everything.

    Args:
        resolution: seconds between scrapes.
    """

    def __init__(self, resolution: float) -> None:
        self._resolution = resolution
        self._nodes: dict[str, tuple[Point | None, Point]] = {}
        self._pods: dict[tuple[str, str], dict[str, tuple[Point | None, Point]]] = {}
        self._of_node: dict[str, set[tuple[str, str]]] = {}

    def take(self, node: str, scrape: Scrape) -> None:
        """Take what a kubelet told; what it does not tell of any more is forgotten."""
        self._nodes[node] = _shifted(self._nodes.get(node), scrape.node)
        for key in self._of_node.get(node, set()) - set(scrape.pods):
            self._pods.pop(key, None)
        self._of_node[node] = set(scrape.pods)
        for key, containers in scrape.pods.items():
            known = self._pods.get(key, {})
            self._pods[key] = {
                name: _shifted(known.get(name), point) for name, point in containers.items()
            }

    def keep(self, nodes: Iterable[str]) -> None:
        """Forget all nodes but these, and what ran on them."""
        for node in set(self._of_node) - set(nodes):
            self.forget(node)

    def forget(self, node: str) -> None:
        """Forget a node, and what ran on it: it does not answer."""
        self._nodes.pop(node, None)
        for key in self._of_node.pop(node, set()):
            self._pods.pop(key, None)

    def node(self, name: str) -> Usage | None:
        """Return what a node uses; None: nobody knows."""
        found = self._nodes.get(name)
        return usage_between(*found, self._resolution) if found is not None else None

    def pod(self, namespace: str, name: str) -> dict[str, Usage] | None:
        """Return what each container of a pod uses; None: that is not known of all."""
        found = self._pods.get((namespace, name))
        if not found:
            return None
        usages = {
            one: usage_between(before, after, self._resolution)
            for one, (before, after) in found.items()
        }
        whole = {one: usage for one, usage in usages.items() if usage is not None}
        return whole if len(whole) == len(usages) else None


def _shifted(known: tuple[Point | None, Point] | None, point: Point) -> tuple[Point | None, Point]:
    if known is None:
        return None, point
    # The kubelet measures when it likes: the same point again is no new one.
    if point.at <= known[1].at and point.start <= known[1].start:
        return known
    return known[1], point
