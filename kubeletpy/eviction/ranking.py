"""Which pod goes first, and what it is told (pure); order and words as the Go kubelet's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kubeletpy.api.pod import Pod
from kubeletpy.api.quantity import Family, Quantity
from kubeletpy.resources.totals import pod_requests

from .signals import Observation, Signal, Threshold, describe, resource_of
from .usage import Disks, PodUsage, counted

REASON = "Evicted"


def rank(
    pods: Sequence[Pod], usages: Mapping[str, PodUsage], signal: Signal, disks: Disks
) -> list[Pod]:
    """Return pods in the order of their eviction.

    Those that use more than they request go first, then those of low priority, then those that use
    the most beyond their request; process ids are not requested. What is not known counts as over.

    Args:
        pods: that are active.
        usages: by uid.
        signal: what is short.
        disks: which file systems there are.
    """
    resource = resource_of(signal)

    def key(pod: Pod) -> tuple[bool, bool, int, int]:
        usage = usages.get(pod.metadata.uid)
        priority = pod.spec.priority or 0
        used = _used(pod, usage, signal, disks)
        if used is None:
            return False, False, priority, 0
        if resource == "pids":
            return True, False, priority, -used
        requested = int(pod_requests(pod).get(resource) or 0)
        return True, used <= requested, priority, requested - used

    return sorted(pods, key=key)


def _used(pod: Pod, usage: PodUsage | None, signal: Signal, disks: Disks) -> int | None:
    if usage is None:
        return None
    resource = resource_of(signal)
    if resource == "memory":
        return usage.memory
    if resource == "pids":
        return usage.processes
    disk = counted(pod, usage, signal, disks)
    return disk.inodes if resource == "inodes" else disk.bytes


def eviction_message(
    pod: Pod,
    usage: PodUsage | None,
    threshold: Threshold,
    met: Sequence[Threshold],
    observations: Mapping[Signal, Observation],
) -> str:
    """Return why a pod is evicted: what was short, and who used more than it requested.

    Args:
        pod: to be evicted.
        usage: of it.
        threshold: acted upon.
        met: all thresholds that are met.
        observations: by signal.
    """
    resource = resource_of(threshold.signal)
    text = f"The node was low on resource: {resource}. "
    for one in met:
        seen = observations.get(one.signal)
        if resource_of(one.signal) == resource and seen is not None:
            quantity = one.value.quantity
            needed = (
                str(quantity)
                if quantity is not None
                else (describe(resource, one.value.of(seen.capacity)))
            )
            text += f"Threshold quantity: {needed}, available: {_kibi(resource, seen.available)}. "
            break
    if usage is None:
        return text
    return text + _pod_excess(pod, usage, resource) + _container_excess(pod, usage, resource)


def _pod_excess(pod: Pod, usage: PodUsage, resource: str) -> str:
    of_pod = pod.spec.resources
    if resource != "memory" or of_pod is None or usage.memory is None:
        return ""
    requested = of_pod.requests.get("memory")
    if requested is None:
        return ""
    return (
        f"Pod {pod.metadata.name} was using {_kibi(resource, usage.memory)}, request is "
        f"{requested}, has larger consumption of {resource}. "
    )


def _container_excess(pod: Pod, usage: PodUsage, resource: str) -> str:
    text = ""
    for container in (*pod.spec.containers, *pod.spec.init_containers):
        one = usage.containers.get(container.name)
        if one is None:
            continue
        used: int | None = None
        if resource == "memory":
            used = one.memory
        elif resource == "ephemeral-storage":
            used = one.rootfs.bytes + one.logs.bytes
        requested = container.resources.requests.get(resource, Quantity(0))
        if used is not None and used > int(requested):
            text += (
                f"Container {container.name} was using {_kibi(resource, used)}, request is "
                f"{requested}, has larger consumption of {resource}. "
            )
    return text


def _kibi(resource: str, units: int) -> str:
    binary = resource in ("memory", "ephemeral-storage")
    return str(Quantity(units, Family.BINARY if binary else Family.DECIMAL))
