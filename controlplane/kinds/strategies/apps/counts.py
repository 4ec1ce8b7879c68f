"""Counts in the status of what makes pods."""

from __future__ import annotations

from controlplane.api.errors import Cause
from controlplane.api.metadata import wrong
from controlplane.api.resource import Object
from controlplane.kinds.checks import check_not_negative


def check_counts(
    value: Object, old: Object, *, numbers: tuple[str, ...], bounded: tuple[str, ...] = ()
) -> list[Cause]:
    """Return what is wrong with the counts of a status.

    Args:
        value: the object.
        old: before.
        numbers: fields of the status that are never negative.
        bounded: fields that count some of ``replicas``.
    """
    status = value.get("status", {})
    causes = check_not_negative(status, "status", *numbers)
    total = status.get("replicas", 0)
    causes += [
        wrong(f"status.{key}", status.get(key, 0), "cannot be greater than status.replicas")
        for key in bounded
        if status.get(key, 0) > total
    ]
    if "availableReplicas" in bounded:
        available = status.get("availableReplicas", 0)
        if available > status.get("readyReplicas", 0):
            text = "cannot be greater than readyReplicas"
            causes.append(wrong("status.availableReplicas", available, text))
    if "collisionCount" in numbers:
        collisions = status.get("collisionCount", 0)
        if collisions < old.get("status", {}).get("collisionCount", 0):
            causes.append(wrong("status.collisionCount", collisions, "cannot be decremented"))
    return causes
