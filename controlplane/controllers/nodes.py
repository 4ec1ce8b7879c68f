"""What controllers ask of nodes, and of the pods on them (pure)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from controlplane.controllers.pods import condition_of
from controlplane.engine.controller import timestamp
from controlplane.engine.resources import Object

BY_NODE: Final = "node"
"""Index of pods by the name of their node; its function is `node_of`."""
LABELS_OF_ZONE: Final = (
    ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"),
    ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"),
)


def node_of(pod: Object) -> list[str]:
    """Return the name of a pod's node, for the index `BY_NODE`."""
    name = pod["spec"].get("nodeName")
    return [name] if name else []


def ready_status(node: Object) -> str:
    """Return the status of the condition Ready: ``True``, ``False``, ``Unknown``; "": none."""
    found = condition_of(node, "Ready")
    return str(found["status"]) if found is not None else ""


def zone_of(node: Object) -> str:
    """Return what tells a node's zone, and its region, from others; "": it is in none."""
    labels = node["metadata"].get("labels") or {}
    region, zone = (labels.get(stable) or labels.get(beta) or "" for stable, beta in LABELS_OF_ZONE)
    return f"{region}:{zone}" if region or zone else ""


def taints_of(node: Object, effect: str) -> list[dict[str, Any]]:
    """Return the taints of a node that have an effect."""
    return [one for one in node["spec"].get("taints") or () if one["effect"] == effect]


def disruption(pod: Object, reason: str, message: str, now: datetime) -> dict[str, Any]:
    """Return the condition that says that a pod is to go through no fault of its own."""
    made = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message,
            "lastTransitionTime": timestamp(now)}  # fmt: skip
    generation = pod["metadata"].get("generation")
    return made if generation is None else {**made, "observedGeneration": generation}
