"""When what caused a change of endpoints happened.

The annotation ``endpoints.kubernetes.io/last-change-trigger-time`` lets proxies measure how long
a change takes until it is programmed. Source: Kubernetes 1.36, ``TriggerTimeTracker``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from controlplane.engine.resources import Object

from .pods import ready_condition


@dataclass(frozen=True, slots=True)
class Seen:
    """Times that were told of a Service and its pods, as the API writes them (they sort).

    Attributes:
        service: when it was made.
        pods: when each became ready or not ready the last time, by name.
    """

    service: str
    pods: dict[str, str]


def trigger_time(
    before: Seen | None, service: Object, pods: Iterable[Object]
) -> tuple[str, Seen]:  # fmt: skip
    """Return the time of the first change since ``before``, and what to remember (pure).

    Args:
        before: what was remembered of this Service; None: nothing yet, the time is that of its
            making.

    Returns:
        The time; "": nothing that has one changed.
    """
    created = str(service["metadata"].get("creationTimestamp") or "")
    times: dict[str, str] = {}
    for pod in pods:
        moment = (ready_condition(pod) or {}).get("lastTransitionTime")
        if moment:
            times[pod["metadata"]["name"]] = moment
    now = Seen(created, times)
    if before is None:
        return created, now
    changed = [moment for name, moment in times.items() if moment > before.pods.get(name, "")]
    if created > before.service:
        changed.append(created)
    return min(changed, default=""), now
