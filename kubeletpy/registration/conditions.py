"""Conditions of the node, with the reasons and messages of the Go kubelet (pure)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

READY = "Ready"
TRUE, FALSE = "True", "False"


@dataclass(frozen=True, slots=True)
class Pressure:
    """How a condition of pressure reads, and the events that tell of it."""

    condition: str
    short: tuple[str, str, str]
    enough: tuple[str, str, str]


PRESSURES = (
    Pressure(
        "MemoryPressure",
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available",
         "NodeHasInsufficientMemory"),
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available",
         "NodeHasSufficientMemory"),
    ),
    Pressure(
        "DiskPressure",
        ("KubeletHasDiskPressure", "kubelet has disk pressure", "NodeHasDiskPressure"),
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure", "NodeHasNoDiskPressure"),
    ),
    Pressure(
        "PIDPressure",
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available",
         "NodeHasInsufficientPID"),
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available",
         "NodeHasSufficientPID"),
    ),
)  # fmt: skip

Conditions = list[dict[str, Any]]


def timestamp(at: datetime) -> str:
    """Return an instant as Kubernetes writes it: UTC, whole seconds."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def conditions(
    before: Sequence[Mapping[str, Any]],
    pressure: Collection[str],
    faults: Sequence[str],
    at: datetime,
) -> tuple[Conditions, list[str]]:
    """Return the node's conditions, and reasons of the events that tell of changes.

    Args:
        before: conditions that the node has; those of others stay as they are.
        pressure: conditions of pressure that hold.
        faults: why the node is not ready; none: it is.
        at: now.
    """
    now = timestamp(at)
    found = {str(one.get("type")): dict(one) for one in before}
    events: list[str] = []
    for each in PRESSURES:
        short = each.condition in pressure
        reason, message, event = each.short if short else each.enough
        if _put(found, each.condition, TRUE if short else FALSE, reason, message, now):
            events.append(event)
    known = READY in found
    reason, message = "KubeletReady", "kubelet is posting ready status"
    if faults:
        reason, message = "KubeletNotReady", aggregate(faults)
    changed = _put(found, READY, FALSE if faults else TRUE, reason, message, now)
    if changed and known:
        events.append("NodeNotReady" if faults else "NodeReady")
    return list(found.values()), events


def aggregate(faults: Sequence[str]) -> str:
    """Return several reasons as Go joins errors: alone as it is, else in brackets."""
    distinct = list(dict.fromkeys(faults))
    return distinct[0] if len(distinct) == 1 else f"[{', '.join(distinct)}]"


def _put(
    found: dict[str, dict[str, Any]], name: str, status: str, reason: str, message: str, now: str
) -> bool:
    """Set a condition; return whether its status changed."""
    before = found.get(name, {})
    changed = before.get("status") != status
    found[name] = {
        "type": name,
        "status": status,
        "lastHeartbeatTime": now,
        "lastTransitionTime": now if changed else before.get("lastTransitionTime", now),
        "reason": reason,
        "message": message,
    }
    return changed


def differ(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether conditions differ in more than their heart-beats."""

    def plain(conditions: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        return {
            str(each.get("type")): {
                key: value for key, value in each.items() if key != "lastHeartbeatTime"
            }
            for each in conditions
        }

    return plain(one) != plain(other)
