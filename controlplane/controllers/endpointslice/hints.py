"""Hints of endpoints: which zone, or which node, is to use them (pure).

Source: Kubernetes 1.36, Service ``spec.trafficDistribution``; KEP-4444, KEP-3015.
"""

from __future__ import annotations

from typing import Any, Final

from controlplane.engine.resources import Object

from .endpoints import Endpoint

_CLOSE: Final = ("PreferClose", "PreferSameZone", "PreferSameNode")
_SAME_NODE: Final = "PreferSameNode"
_MODES: Final = (
    "service.kubernetes.io/topology-aware-hints",
    "service.kubernetes.io/topology-mode",
)
"""Annotations that ask for hints by the CPUs of zones; the first that is there counts."""


def is_topology_aware(service: Object) -> bool:
    """Whether a Service asks for hints by the CPUs of zones, whatever its distribution is."""
    annotations = service["metadata"].get("annotations") or {}
    for name in _MODES:
        if name in annotations:
            return annotations[name] in ("Auto", "auto")
    return False


def distribution(service: Object) -> str:
    """Return how a Service's traffic is distributed, as far as hints tell; "": to all alike."""
    wanted = service["spec"].get("trafficDistribution")
    if wanted not in _CLOSE or is_topology_aware(service):
        return ""
    return str(wanted)


def needs_hints(existing: Object, wanted: str) -> bool:
    """Whether a slice that is otherwise as it shall be has other hints than ``wanted`` says."""
    endpoints = existing.get("endpoints") or ()
    if not wanted:
        return any(one.get("hints") is not None for one in endpoints)
    return any(
        (one.get("hints") or {}) != (_hints(one, wanted) or {}) for one in endpoints if _ready(one)
    )


def set_hints(slice_: Object, wanted: str) -> None:
    """Give a slice (our own copy) the hints that ``wanted`` says."""
    for one in slice_["endpoints"]:
        if wanted and not _ready(one):
            continue
        found = _hints(one, wanted) if wanted else None
        if found is None:
            one.pop("hints", None)
        else:
            one["hints"] = found


def _ready(endpoint: Endpoint) -> bool:
    return bool((endpoint.get("conditions") or {}).get("ready"))


def _hints(endpoint: Endpoint, wanted: str) -> dict[str, Any] | None:
    made: dict[str, Any] = {}
    if endpoint.get("zone"):
        made["forZones"] = [{"name": endpoint["zone"]}]
    if wanted == _SAME_NODE and endpoint.get("nodeName"):
        made["forNodes"] = [{"name": endpoint["nodeName"]}]
    return made or None
