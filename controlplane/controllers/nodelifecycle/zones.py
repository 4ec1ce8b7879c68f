"""How fast nodes of a zone may be emptied.

One node that is silent is broken; many at once are more likely a network that is. So the more
nodes of a zone are lost, the slower their pods are taken elsewhere, and if all nodes of all zones
are lost, it is this process that is cut off, and no pod is.

Source: Kubernetes documentation, "Nodes", "Rate limits on eviction".
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from controlplane.controllers.nodes import ready_status, zone_of
from controlplane.engine.resources import Object

_EXCLUDED: Final = "node.kubernetes.io/exclude-disruption"
_FEW: Final = 2
"""Nodes that may be lost before a zone counts as disrupted."""


class State(enum.Enum):
    """Of a zone."""

    NORMAL = "Normal"
    PARTIAL = "PartialDisruption"
    FULL = "FullDisruption"


@dataclass(frozen=True, slots=True)
class Rates:
    """Nodes a second.

    Attributes:
        normal: as long as most nodes of a zone are ready.
        reduced: in a zone of which many are not.
        large: nodes that a zone has more of, for ``reduced`` to count; smaller ones stop then.
        unhealthy: share of nodes that are not ready from which on it is so.
    """

    normal: float = 0.1
    reduced: float = 0.01
    large: int = 50
    unhealthy: float = 0.55


def state_of(ready: int, lost: int, rates: Rates) -> State:
    """Return the state of a zone (pure)."""
    if lost and not ready:
        return State.FULL
    if lost > _FEW and lost / (lost + ready) >= rates.unhealthy:
        return State.PARTIAL
    return State.NORMAL


def rate_of(state: State, size: int, rates: Rates) -> float:
    """Return how many nodes of a zone may be emptied a second (pure)."""
    if state is State.PARTIAL:
        return rates.reduced if size > rates.large else 0.0
    return rates.normal


@dataclass(slots=True)
class _Zone:
    ready: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    last: float = float("-inf")


class Zones:
    """The zones of a cluster.

    Args:
        rates: of emptying nodes.
    """

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._zones: dict[str, _Zone] = {}
        self._places: dict[str, str] = {}

    def set(self, name: str, node: Object | None) -> None:
        """Take note of a node; None: it is gone."""
        before = self._zones.get(self._places.pop(name, ""))
        if before is not None:
            before.ready.discard(name)
            before.lost.discard(name)
        if node is None or _EXCLUDED in (node["metadata"].get("labels") or {}):
            return
        place = self._places[name] = zone_of(node)
        zone = self._zones.setdefault(place, _Zone())
        (zone.ready if ready_status(node) == "True" else zone.lost).add(name)

    @property
    def all_lost(self) -> bool:
        """Whether no node at all is ready."""
        zones = [zone for zone in self._zones.values() if zone.ready or zone.lost]
        return bool(zones) and not any(zone.ready for zone in zones)

    def states(self) -> Mapping[str, State]:
        """Return the state of each zone."""
        return {
            name: state_of(len(zone.ready), len(zone.lost), self._rates)
            for name, zone in self._zones.items()
            if zone.ready or zone.lost
        }

    def lost_beside(self, node: Object) -> list[str]:
        """Return the names of the nodes of a node's zone that are not ready."""
        zone = self._zones.get(zone_of(node))
        return sorted(zone.lost) if zone is not None else []

    def wait(self, node: Object, now: float) -> float | None:
        """Return the seconds until a node may be emptied; None: not as things are.

        Args:
            node: that is lost.
            now: seconds of a clock that nobody sets.
        """
        zone = self._zones.setdefault(zone_of(node), _Zone())
        size = len(zone.ready) + len(zone.lost)
        state = state_of(len(zone.ready), len(zone.lost), self._rates)
        rate = rate_of(state, size, self._rates)
        return max(zone.last + 1 / rate - now, 0.0) if rate > 0 else None

    def emptied(self, node: Object, now: float) -> None:
        """Take note that a node is emptied: the next one waits."""
        self._zones.setdefault(zone_of(node), _Zone()).last = now
