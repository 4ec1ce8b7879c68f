"""The QoS class of a pod (pure)."""

from __future__ import annotations

from itertools import chain

from kubeletpy.api.container import ResourceRequirements
from kubeletpy.api.pod import Pod

GUARANTEED = "Guaranteed"
BURSTABLE = "Burstable"
BEST_EFFORT = "BestEffort"

_COMPUTE = ("cpu", "memory")


def qos_class(pod: Pod) -> str:
    """Return Guaranteed, Burstable or BestEffort.

    Guaranteed: every container (init containers too) has limits for CPU and memory, and what it
    requests equals them. BestEffort: no container asks for or limits any of the two. Requests
    and limits of the pod itself, where given, decide alone.
    """
    if pod.spec.resources is not None and _named(pod.spec.resources):
        parts = [pod.spec.resources]
    else:
        containers = chain(pod.spec.init_containers, pod.spec.containers)
        parts = [container.resources for container in containers]
    if not any(_named(part) for part in parts):
        return BEST_EFFORT
    return GUARANTEED if all(_is_guaranteed(part) for part in parts) else BURSTABLE


def _named(part: ResourceRequirements) -> bool:
    return any(part.limits.get(name) or part.requests.get(name) for name in _COMPUTE)


def _is_guaranteed(part: ResourceRequirements) -> bool:
    for name in _COMPUTE:
        limit = part.limits.get(name)
        if not limit or part.requests.get(name, limit) != limit:
            return False
    return True
