"""Whose what of a pod's status is; pure.

The kubelet writes the statuses of its pods, but not all of them: conditions of other types belong
to whoever set them (readiness gates, controllers), and so do claims of dynamic resources.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubeletpy.api.status import PodCondition

DISRUPTION_TARGET = "DisruptionTarget"
RESIZE_PENDING, RESIZE_IN_PROGRESS = "PodResizePending", "PodResizeInProgress"

OWN_CONDITIONS = frozenset(
    {
        "PodScheduled",
        "Ready",
        "Initialized",
        "ContainersReady",
        "PodReadyToStartContainers",
        RESIZE_PENDING,
        RESIZE_IN_PROGRESS,
        "AllContainersRestarting",
    }
)
"""Types of conditions that only the kubelet writes."""

SHARED_CONDITIONS = frozenset({DISRUPTION_TARGET})
"""Types that the kubelet may write, and keeps as others wrote them where it has no word."""

OWN_FIELDS = frozenset(
    {
        "observedGeneration",
        "phase",
        "conditions",
        "message",
        "reason",
        "hostIP",
        "hostIPs",
        "podIP",
        "podIPs",
        "startTime",
        "initContainerStatuses",
        "containerStatuses",
        "ephemeralContainerStatuses",
        "qosClass",
        "allocatedResources",
        "resources",
    }
)
"""Fields of PodStatus that the kubelet writes."""


def own(conditions: Iterable[PodCondition]) -> list[PodCondition]:
    """Return the conditions that only the kubelet writes."""
    return [one for one in conditions if one.type in OWN_CONDITIONS]


def foreign(conditions: Iterable[PodCondition]) -> list[PodCondition]:
    """Return the conditions that somebody else wrote."""
    return [one for one in conditions if one.type not in OWN_CONDITIONS]
