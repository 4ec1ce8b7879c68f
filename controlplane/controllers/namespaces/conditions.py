"""The conditions that tell how far the deletion of a namespace is (pure).

Source: Kubernetes API reference, Namespace, NamespaceCondition; the words are those that clients of
Kubernetes know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_WELL: Final = {
    "NamespaceDeletionDiscoveryFailure": (
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    "NamespaceDeletionGroupVersionParsingFailure": (
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    "NamespaceDeletionContentFailure": (
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    "NamespaceContentRemaining": ("ContentRemoved", "All content successfully removed"),
    "NamespaceFinalizersRemaining": (
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
    ),
}


@dataclass(frozen=True, slots=True)
class Progress:
    """What one look at a namespace has found.

    Attributes:
        remaining: how many objects are left, by resource and group.
        finalizers: how many of them each finalizer holds.
        failures: of deletions.
    """

    remaining: Mapping[tuple[str, str], int] = field(default_factory=dict)
    finalizers: Mapping[str, int] = field(default_factory=dict)
    failures: tuple[str, ...] = ()


def with_progress(present: list[dict[str, Any]], found: Progress, now: str) -> list[dict[str, Any]]:
    """Return the conditions of a namespace after a look at it.

    Args:
        present: its conditions.
        found: by the look.
        now: time, RFC 3339.
    """
    bad = _failing(found)
    conditions = [dict(one) for one in present]
    known = {one["type"]: one for one in conditions}
    for kind, well in _WELL.items():
        reason, message = bad.get(kind, well)
        status = "True" if kind in bad else "False"
        one = known.get(kind)
        if one is None:
            conditions.append(
                {"type": kind, "status": status, "lastTransitionTime": now, "reason": reason,
                 "message": message}
            )  # fmt: skip
            continue
        if one["status"] != status:
            one["lastTransitionTime"] = now
        one.update(status=status, reason=reason, message=message)
    return conditions


def _failing(found: Progress) -> dict[str, tuple[str, str]]:
    bad: dict[str, tuple[str, str]] = {}
    if found.failures:
        listed = ", ".join(sorted(found.failures))
        message = f"Failed to delete all resource types, {len(found.failures)} remaining: {listed}"
        bad["NamespaceDeletionContentFailure"] = ("ContentDeletionFailed", message)
    if found.remaining:
        listed = ", ".join(
            sorted(
                f"{plural}.{group} has {count} resource instances"
                for (plural, group), count in found.remaining.items()
            )
        )
        message = f"Some resources are remaining: {listed}"
        bad["NamespaceContentRemaining"] = ("SomeResourcesRemain", message)
    if found.finalizers:
        listed = ", ".join(
            sorted(
                f"{name} in {count} resource instances" for name, count in found.finalizers.items()
            )
        )
        message = f"Some content in the namespace has finalizers remaining: {listed}"
        bad["NamespaceFinalizersRemaining"] = ("SomeFinalizersRemain", message)
    return bad
