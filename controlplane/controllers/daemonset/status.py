"""What a DaemonSet tells of itself (pure)."""

from __future__ import annotations

from controlplane.controllers.pods import is_ready
from controlplane.engine.resources import Object

from .fitting import fits
from .plan import Facts, oldest_first

_NOT_WHEN_ZERO = ("updatedNumberScheduled", "numberAvailable", "numberUnavailable")


def status_of(facts: Facts) -> Object:
    """Return the status of a set; conditions and collisions stay as they are."""
    counts = dict.fromkeys(
        ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady",
         "updatedNumberScheduled", "numberAvailable"), 0,
    )  # fmt: skip
    for name, node in facts.nodes.items():
        there = facts.pods.get(name)
        if not fits(facts.owner, node)[0]:
            counts["numberMisscheduled"] += bool(there)
            continue
        counts["desiredNumberScheduled"] += 1
        if not there:
            continue
        pod = oldest_first(there)[0]
        counts["currentNumberScheduled"] += 1
        counts["numberReady"] += is_ready(pod)
        counts["numberAvailable"] += facts.available(pod)
        counts["updatedNumberScheduled"] += facts.is_new(pod)
    counts["numberUnavailable"] = counts["desiredNumberScheduled"] - counts["numberAvailable"]
    shown = {key: count for key, count in counts.items() if count or key not in _NOT_WHEN_ZERO}
    before = facts.owner.get("status") or {}
    kept = {key: before[key] for key in ("collisionCount", "conditions") if key in before}
    return {**shown, "observedGeneration": facts.owner["metadata"].get("generation", 0), **kept}
