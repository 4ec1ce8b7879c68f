"""What a StatefulSet tells of itself (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from controlplane.controllers.pods import is_available, is_ready, phase_of
from controlplane.engine.resources import Object, is_deleting

from .identity import ordinal_of, revision_of
from .plan import Revisions

_NOT_WHEN_ZERO = ("readyReplicas", "currentReplicas", "updatedReplicas")


def status_of(
    owner: Object, pods: Iterable[Object], revisions: Revisions, collisions: int, now: datetime
) -> Object:
    """Return the status of a set.

    Args:
        owner: the set.
        pods: that it controls.
        revisions: of it.
        collisions: of names of revisions.
        now: what time it is.
    """
    min_ready = owner["spec"].get("minReadySeconds") or 0
    counts = dict.fromkeys(
        ("replicas", "readyReplicas", "availableReplicas", "currentReplicas", "updatedReplicas"), 0
    )
    for pod in pods:
        if ordinal_of(pod) < 0:
            continue
        counts["replicas"] += 1
        if phase_of(pod) == "Running" and is_ready(pod):
            counts["readyReplicas"] += 1
            counts["availableReplicas"] += is_available(pod, min_ready, now)
        if not is_deleting(pod):
            counts["currentReplicas"] += revision_of(pod) == revisions.current
            counts["updatedReplicas"] += revision_of(pod) == revisions.update
    current = revisions.current
    rolls = owner["spec"]["updateStrategy"].get("type", "RollingUpdate") == "RollingUpdate"
    everything = ("replicas", "readyReplicas", "updatedReplicas")
    if rolls and all(counts[one] == owner["spec"].get("replicas", 1) for one in everything):
        current, counts["currentReplicas"] = revisions.update, counts["updatedReplicas"]
    shown = {key: count for key, count in counts.items() if count or key not in _NOT_WHEN_ZERO}
    return {
        **shown,
        "observedGeneration": owner["metadata"].get("generation", 0),
        "currentRevision": current,
        "updateRevision": revisions.update,
        "collisionCount": collisions,
    }
