"""What a pod as a whole requests and is limited to (pure; KEP-753 for sidecars, KEP-2837)."""

from __future__ import annotations

from collections.abc import Callable

from kubeletpy.api.container import Container
from kubeletpy.api.pod import Pod
from kubeletpy.api.quantity import Quantity

Resources = dict[str, Quantity]


def pod_requests(pod: Pod) -> Resources:
    """Requests of the pod by resource name, overhead included.

    The larger of: all containers and sidecars together; any init container together with the
    sidecars started before it. Requests of the pod itself replace the sum for their resource.
    """
    total = container_requests(pod)
    if pod.spec.resources is not None:
        total.update(pod.spec.resources.requests)
    return _sum(total, pod.spec.overhead)


def container_requests(pod: Pod) -> Resources:
    """Requests of the containers together, without the pod's own and its overhead."""
    return _aggregate(pod, lambda container: container.resources.requests)


def pod_limits(pod: Pod) -> Resources:
    """Limits of the pod by resource name; overhead is added to resources that are limited."""
    total = _aggregate(pod, lambda container: container.resources.limits)
    if pod.spec.resources is not None:
        total.update(pod.spec.resources.limits)
    overhead = {name: amount for name, amount in pod.spec.overhead.items() if total.get(name)}
    return _sum(total, overhead)


def is_sidecar(container: Container) -> bool:
    """Whether an init container runs beside the others (KEP-753: restartPolicy Always)."""
    return container.restart_policy == "Always"


def _aggregate(pod: Pod, of: Callable[[Container], Resources]) -> Resources:
    running: Resources = {}
    for container in pod.spec.containers:
        running = _sum(running, of(container))
    sidecars: Resources = {}
    peak: Resources = {}
    for container in pod.spec.init_containers:
        if is_sidecar(container):
            running = _sum(running, of(container))
            sidecars = _sum(sidecars, of(container))
            peak = _max(peak, sidecars)
        else:
            peak = _max(peak, _sum(sidecars, of(container)))
    return _max(running, peak)


def _sum(one: Resources, other: Resources) -> Resources:
    result = dict(one)
    for name, amount in other.items():
        result[name] = result[name] + amount if name in result else amount
    return result


def _max(one: Resources, other: Resources) -> Resources:
    result = dict(one)
    for name, amount in other.items():
        result[name] = max(result[name], amount) if name in result else amount
    return result
