"""Requests and limits in the kernel's units (pure), as the Go kubelet computes them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from kubeletpy.api.container import Container
from kubeletpy.api.pod import Pod
from kubeletpy.api.quantity import Quantity

from .qos import BEST_EFFORT, GUARANTEED, qos_class
from .totals import is_sidecar, pod_limits, pod_requests

MIN_SHARES = 2
"""The kernel's minimum of cpu.shares."""
MAX_SHARES = 262144
SHARES_PER_CPU = 1024
QUOTA_PERIOD_US = 100_000
MIN_QUOTA_US = 1000
"""The kernel refuses quotas under a millisecond."""

GUARANTEED_OOM_SCORE = -997
BEST_EFFORT_OOM_SCORE = 1000
NODE_CRITICAL = "system-node-critical"


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one cgroup; None leaves the kernel's default.

    Attributes:
        cpu_shares: relative weight, 1024 for a CPU.
        cpu_quota_us: CPU time in a period.
        cpu_period_us: the period.
        memory_bytes: limit of memory.
    """

    cpu_shares: int
    cpu_quota_us: int | None = None
    cpu_period_us: int | None = None
    memory_bytes: int | None = None


def cpu_shares(milli: int) -> int:
    """Return cpu.shares for thousandths of a CPU; nothing requested is the minimum."""
    return min(max(milli * SHARES_PER_CPU // 1000, MIN_SHARES), MAX_SHARES)


def cpu_quota(milli: int, period_us: int = QUOTA_PERIOD_US) -> int:
    """Return the quota in microseconds for thousandths of a CPU; 0 (no limit) for 0."""
    return max(milli * period_us // 1000, MIN_QUOTA_US) if milli else 0


def container_limits(container: Container) -> Limits:
    """Return the limits of one container."""
    requests, limits = container.resources.requests, container.resources.limits
    cpu_limit = _milli(limits.get("cpu"))
    # A request of zero beside a limit counts as that limit, as the API server would have it.
    shares = cpu_shares(_milli(requests.get("cpu")) or cpu_limit)
    memory = limits.get("memory")
    quota = cpu_quota(cpu_limit)
    return Limits(
        cpu_shares=shares,
        cpu_quota_us=quota or None,
        cpu_period_us=QUOTA_PERIOD_US if quota else None,
        memory_bytes=int(memory) if memory else None,
    )


def pod_cgroup_limits(pod: Pod) -> Limits:
    """Return the limits of a pod's cgroup.

    CPU and memory are limited only if all containers are limited, or the pod itself is.
    """
    qos = qos_class(pod)
    if qos == BEST_EFFORT:
        return Limits(cpu_shares=MIN_SHARES)
    shares = cpu_shares(_milli(pod_requests(pod).get("cpu")))
    limits = pod_limits(pod)
    quota = cpu_quota(_milli(limits.get("cpu"))) if _declared(pod, "cpu") else 0
    memory = limits.get("memory") if _declared(pod, "memory") else None
    return Limits(
        cpu_shares=shares,
        cpu_quota_us=quota or None,
        cpu_period_us=QUOTA_PERIOD_US if quota else None,
        memory_bytes=int(memory) if memory else None,
    )


def oom_score_adj(pod: Pod, container: Container, memory_capacity: int) -> int:
    """Return how likely the kernel is to pick the container when memory runs out, -1000..1000.

    Guaranteed and node-critical pods come last, BestEffort first; in between, a container that
    requests more of the node's memory comes later. A sidecar comes no earlier than the
    containers it serves.
    """
    if pod.spec.priority_class_name == NODE_CRITICAL:
        return GUARANTEED_OOM_SCORE
    qos = qos_class(pod)
    if qos == GUARANTEED:
        return GUARANTEED_OOM_SCORE
    if qos == BEST_EFFORT:
        return BEST_EFFORT_OOM_SCORE
    score = _burstable_score(container, memory_capacity)
    if any(container is each for each in pod.spec.init_containers) and is_sidecar(container):
        others = [_burstable_score(each, memory_capacity) for each in pod.spec.containers]
        score = min([score, *others])
    return score


def _burstable_score(container: Container, memory_capacity: int) -> int:
    requested = container.resources.requests.get("memory")
    if memory_capacity <= 0:
        return BEST_EFFORT_OOM_SCORE - 1
    score = 1000 - 1000 * int(requested or Quantity(0)) // memory_capacity
    # Above a guaranteed pod that uses all memory, below any BestEffort one.
    return min(max(score, 1000 + GUARANTEED_OOM_SCORE), BEST_EFFORT_OOM_SCORE - 1)


def _declared(pod: Pod, resource: str) -> bool:
    if pod.spec.resources is not None and pod.spec.resources.limits.get(resource):
        return True
    containers = chain(pod.spec.init_containers, pod.spec.containers)
    return all(container.resources.limits.get(resource) for container in containers)


def _milli(amount: Quantity | None) -> int:
    return amount.milli if amount is not None else 0
