"""When a node was last heard of: its kubelet renews a Lease, and writes its status.

What counts is when a change was seen here, by a clock that nobody sets: the clocks of nodes need
not agree with ours, and one that is put forward must not make all nodes look silent.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from controlplane.controllers.pods import condition_of
from controlplane.engine.controller import timestamp
from controlplane.engine.resources import Object

_REPORTED: Final = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
"""Conditions that the kubelet writes; NetworkUnavailable is another's."""


@dataclass(slots=True)
class Health:
    """Of a node.

    Attributes:
        heard: when, in seconds.
        beat: heartbeat of the condition Ready.
        renewed: time at which its Lease says that it was renewed.
        ready: status of the condition Ready as it was last looked at; "": never.
    """

    heard: float
    beat: str = ""
    renewed: str = ""
    ready: str = ""

    def note_node(self, node: Object, now: float) -> None:
        """Take note of the status of the node."""
        found = condition_of(node, "Ready") or {}
        beat = str(found.get("lastHeartbeatTime") or "")
        if beat and beat != self.beat:
            self.beat, self.heard = beat, now

    def note_lease(self, lease: Object, now: float) -> None:
        """Take note of its Lease."""
        renewed = str((lease.get("spec") or {}).get("renewTime") or "")
        if renewed and renewed != self.renewed:
            self.renewed, self.heard = renewed, now


def silent_conditions(node: Object, now: datetime) -> list[dict[str, Any]] | None:
    """Return the conditions of a node that is not heard of; None: they say so already (pure)."""
    found = condition_of(node, "Ready")
    if found is not None and found["status"] == "Unknown":
        return None
    stamp = timestamp(now)
    made = [
        {**one, "status": "Unknown", "reason": "NodeStatusUnknown",
         "message": "Kubelet stopped posting node status.", "lastTransitionTime": stamp}
        if one["type"] in _REPORTED and one["status"] != "Unknown" else one
        for one in (node.get("status") or {}).get("conditions") or ()
    ]  # fmt: skip
    there = {one["type"] for one in made}
    return made + [
        {"type": kind, "status": "Unknown", "reason": "NodeStatusNeverUpdated",
         "message": "Kubelet never posted node status.",
         "lastHeartbeatTime": node["metadata"]["creationTimestamp"], "lastTransitionTime": stamp}
        for kind in _REPORTED if kind not in there
    ]  # fmt: skip
