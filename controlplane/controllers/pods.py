"""What controllers ask of pods (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from controlplane.engine.controller import moment_of
from controlplane.engine.ownership import controller_of
from controlplane.engine.resources import Object, is_deleting

BY_OWNER: Final = "owner"
"""Index of objects by the uid of their controller; its function is `engine.informer.of_owner`."""
ORPHANS: Final = "orphans"
"""Index of objects without a controller, by namespace; its function is `orphan_of`."""
_ENDED: Final = ("Succeeded", "Failed")


def orphan_of(value: Object) -> list[str]:
    """Return the namespace of an object that has no controller, for the index `ORPHANS`."""
    return [] if controller_of(value) else [value["metadata"].get("namespace", "")]


def phase_of(pod: Object) -> str:
    """Return the phase; a pod that nobody said one of is Pending."""
    return (pod.get("status") or {}).get("phase") or "Pending"


def has_ended(pod: Object) -> bool:
    """Whether its containers ended for good."""
    return phase_of(pod) in _ENDED


def is_active(pod: Object) -> bool:
    """Whether it counts as a replica: it neither ended nor is being deleted."""
    return phase_of(pod) not in _ENDED and not is_deleting(pod)


def is_terminating(pod: Object) -> bool:
    """Whether it is being deleted and may still run."""
    return phase_of(pod) not in _ENDED and is_deleting(pod)


def condition_of(value: Object, kind: str) -> dict[str, Any] | None:
    """Return the condition of a type that an object's status has, None if it has none."""
    for one in (value.get("status") or {}).get("conditions") or ():
        if one["type"] == kind:
            found: dict[str, Any] = one
            return found
    return None


def is_ready(pod: Object) -> bool:
    """Whether the condition Ready is true."""
    found = condition_of(pod, "Ready")
    return found is not None and found["status"] == "True"


def ready_since(pod: Object) -> datetime | None:
    """Return since when a pod is ready; None: it is not, or nobody said since when."""
    found = condition_of(pod, "Ready")
    if found is None or found["status"] != "True" or not found.get("lastTransitionTime"):
        return None
    return moment_of(found["lastTransitionTime"])


def is_available(pod: Object, min_ready: int, now: datetime) -> bool:
    """Whether a pod has been ready for at least ``min_ready`` seconds."""
    if not is_ready(pod):
        return False
    return not min_ready or available_in(pod, min_ready, now) == 0.0


def available_in(pod: Object, min_ready: int, now: datetime) -> float | None:
    """Return the seconds until a ready pod is available; 0: it is; None: nobody can say."""
    since = ready_since(pod)
    if since is None:
        return None
    return max((since + timedelta(seconds=min_ready) - now).total_seconds(), 0.0)


def next_available(pods: Iterable[Object], min_ready: int, now: datetime) -> float | None:
    """Return the seconds until the first of the pods that are not available yet will be.

    Never more than ``min_ready``: a pod may be ready since a time to come, as the clock sees it
    after it was put back.
    """
    waits = (available_in(pod, min_ready, now) for pod in pods) if min_ready else ()
    return min((min(wait, float(min_ready)) for wait in waits if wait), default=None)
