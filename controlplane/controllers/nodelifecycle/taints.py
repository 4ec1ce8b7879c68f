"""The taints and labels that a node has for its state (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from controlplane.controllers.nodes import ready_status
from controlplane.engine.controller import timestamp
from controlplane.engine.resources import Object

Taint = dict[str, Any]
NOT_READY: Final = "node.kubernetes.io/not-ready"
UNREACHABLE: Final = "node.kubernetes.io/unreachable"
UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"
_BY_CONDITION: Final = {
    ("Ready", "False"): NOT_READY,
    ("Ready", "Unknown"): UNREACHABLE,
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
}
_OURS: Final = frozenset({*_BY_CONDITION.values(), UNSCHEDULABLE})
_NO_SCHEDULE: Final = "NoSchedule"
_NO_EXECUTE: Final = "NoExecute"
_BETA_LABELS: Final = (
    ("kubernetes.io/os", "beta.kubernetes.io/os"),
    ("kubernetes.io/arch", "beta.kubernetes.io/arch"),
)


def execute_key(node: Object) -> str:
    """Return the key of the taint that empties a node; "": it is ready, or nobody said."""
    return {"False": NOT_READY, "Unknown": UNREACHABLE}.get(ready_status(node), "")


def executing(node: Object) -> list[str]:
    """Return the keys of such taints that it has."""
    return [
        one["key"]
        for one in node["spec"].get("taints") or ()
        if one["effect"] == _NO_EXECUTE and one["key"] in (NOT_READY, UNREACHABLE)
    ]


def no_schedule_keys(node: Object) -> list[str]:
    """Return the keys of the taints that keep pods away for the state that a node is in."""
    found = [
        key
        for one in (node.get("status") or {}).get("conditions") or ()
        if (key := _BY_CONDITION.get((one["type"], one["status"])))
    ]
    return found + ([UNSCHEDULABLE] if node["spec"].get("unschedulable") else [])


def wanted_taints(node: Object, execute: Sequence[str], now: datetime) -> list[Taint]:
    """Return all taints that a node shall have; those of others stay as they are.

    Args:
        node: as it is.
        execute: keys of those that empty it.
        now: when new ones were added.
    """
    wanted = [(key, _NO_SCHEDULE) for key in no_schedule_keys(node)]
    wanted += [(key, _NO_EXECUTE) for key in execute]
    kept = [
        one for one in node["spec"].get("taints") or ()
        if not _is_ours(one) or (one["key"], one["effect"]) in wanted
    ]  # fmt: skip
    there = {(one["key"], one["effect"]) for one in kept}
    added = [
        {"key": key, "effect": effect, "timeAdded": timestamp(now)}
        for key, effect in wanted
        if (key, effect) not in there
    ]
    return kept + added


def _is_ours(taint: Taint) -> bool:
    if taint["effect"] == _NO_SCHEDULE:
        return taint["key"] in _OURS
    return taint["effect"] == _NO_EXECUTE and taint["key"] in (NOT_READY, UNREACHABLE)


def wanted_labels(node: Object) -> dict[str, str]:
    """Return the labels under old names that a node lacks, or that say something else."""
    labels = node["metadata"].get("labels") or {}
    return {
        beta: labels[stable]
        for stable, beta in _BETA_LABELS
        if stable in labels and labels.get(beta) != labels[stable]
    }
