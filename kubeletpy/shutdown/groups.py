"""Which pods end when, and how long each group gets (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kubeletpy.api.pod import Pod
from kubeletpy.settings.configuration import KubeletConfiguration

CRITICAL = 2_000_000_000
"""Priority of pods that are critical for the system."""


@dataclass(frozen=True, slots=True)
class Group:
    """Pods of at least some priority.

    Attributes:
        priority: the lowest one in it.
        seconds: that it gets.
    """

    priority: int
    seconds: int


def groups(one: KubeletConfiguration) -> tuple[Group, ...]:
    """Return the groups by rising priority; none: there is no graceful shutdown."""
    if one.shutdown_grace_period_by_pod_priority:
        return tuple(
            sorted(
                (Group(each.priority, each.shutdown_grace_period_seconds)
                 for each in one.shutdown_grace_period_by_pod_priority),
                key=lambda group: group.priority,
            )
        )  # fmt: skip
    total, critical = one.shutdown_grace_period, one.shutdown_grace_period_critical_pods
    if not 0 <= critical <= total or not total:
        return ()
    return Group(0, int(total - critical)), Group(CRITICAL, int(critical))


def requested(found: Sequence[Group]) -> int:
    """Return the seconds that all groups take at most."""
    return sum(group.seconds for group in found)


def members(found: Sequence[Group], pods: Sequence[Pod]) -> list[tuple[Group, list[Pod]]]:
    """Return the pods of each group; those below the lowest are in the lowest."""
    result: list[tuple[Group, list[Pod]]] = [(group, []) for group in found]
    for pod in pods:
        priority = pod.spec.priority or 0
        fitting = [pods for group, pods in result if group.priority <= priority]
        (fitting[-1] if fitting else result[0][1]).append(pod)
    return result


def grace(group: Group, pod: Pod) -> int:
    """Return the seconds that a pod gets: its own, but not more than its group."""
    own = pod.spec.termination_grace_period_seconds
    return group.seconds if own is None else min(own, group.seconds)
