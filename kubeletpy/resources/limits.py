"""Requests and limits in the kernel's units (pure), as the Go kubelet computes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain

from kubeletpy.api.container import Container
from kubeletpy.api.pod import Pod
from kubeletpy.api.quantity import Quantity

from .hugepages import by_size, size_name
from .policy import QUOTA_PERIOD_US, TIERED, ResourcePolicy
from .qos import BEST_EFFORT, GUARANTEED, qos_class
from .totals import container_requests, is_sidecar, pod_limits, pod_requests

MIN_SHARES = 2
"""The kernel's minimum of cpu.shares."""
MAX_SHARES = 262144
SHARES_PER_CPU = 1024
MIN_QUOTA_US = 1000
"""The kernel refuses quotas under a millisecond."""
MIN_LIMIT_MILLI = 10
"""Thousandths of a CPU whose quota is that minimum: lower limits have the same effect."""
UNLIMITED = -1

GUARANTEED_OOM_SCORE = -997
BEST_EFFORT_OOM_SCORE = 1000
NODE_CRITICAL = "system-node-critical"


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one cgroup; None leaves the kernel's default.

    Attributes:
        cpu_shares: relative weight, 1024 for a CPU.
        cpu_quota_us: CPU time in a period; -1: without limit.
        cpu_period_us: the period.
        memory_bytes: limit of memory.
        hugepages: bytes by the kernel's name of the page size (``2MB``).
        unified: files of cgroup v2 with their content, such as ``memory.min``.
    """

    cpu_shares: int
    cpu_quota_us: int | None = None
    cpu_period_us: int | None = None
    memory_bytes: int | None = None
    hugepages: Mapping[str, int] = field(default_factory=dict)
    unified: Mapping[str, str] = field(default_factory=dict)


def cpu_shares(milli: int) -> int:
    """Return cpu.shares for thousandths of a CPU; nothing requested is the minimum."""
    return min(max(milli * SHARES_PER_CPU // 1000, MIN_SHARES), MAX_SHARES)


def cpu_quota(milli: int, period_us: int = QUOTA_PERIOD_US) -> int:
    """Return the quota in microseconds for thousandths of a CPU; 0 (no limit) for 0."""
    return max(milli * period_us // 1000, MIN_QUOTA_US) if milli else 0


def milli_of_shares(shares: int) -> int:
    """Return the thousandths of a CPU that a weight stands for, rounded up; 0 for none."""
    return -(-shares * 1000 // SHARES_PER_CPU) if shares >= MIN_SHARES else 0


def milli_of_quota(quota_us: int, period_us: int) -> int:
    """Return the thousandths of a CPU that a quota stands for, rounded down; 0 for no limit."""
    return quota_us * 1000 // period_us if quota_us > 0 and period_us > 0 else 0


def effective_limits(pod: Pod, container: Container) -> dict[str, Quantity]:
    """Return the limits of a container; where it has none of CPU or memory, those of its pod."""
    limits = dict(container.resources.limits)
    of_pod = pod.spec.resources.limits if pod.spec.resources is not None else {}
    for name in ("cpu", "memory"):
        if not limits.get(name) and of_pod.get(name):
            limits[name] = of_pod[name]
    return limits


def container_limits(
    pod: Pod,
    container: Container,
    policy: ResourcePolicy | None = None,
    *,
    exclusive_cpus: bool = False,
) -> Limits:
    """Return the limits of one container.

    Args:
        pod: whose limits count where the container has none of its own.
        container: with its requests and limits.
        policy: what the administrator set.
        exclusive_cpus: it has CPUs of its own (static CPU manager): no quota is needed.
    """
    policy = policy or ResourcePolicy()
    requests, limits = container.resources.requests, effective_limits(pod, container)
    cpu_limit = _milli(limits.get("cpu"))
    # Without a request the limit is one, as the API server would have it; a request of 0 is one.
    weight = _milli(requests["cpu"]) if "cpu" in requests else cpu_limit
    memory = limits.get("memory")
    quota = period = None
    if policy.enforce_cpu_quota:
        period = policy.quota_period_us
        quota = UNLIMITED if exclusive_cpus else cpu_quota(cpu_limit, period) or None
    return Limits(
        cpu_shares=cpu_shares(weight),
        cpu_quota_us=quota,
        cpu_period_us=period,
        memory_bytes=int(memory) if memory else None,
        hugepages=_container_hugepages(pod, container),
    )


def _container_hugepages(pod: Pod, container: Container) -> dict[str, int]:
    found: dict[str, int] = {}
    of_pod = pod.spec.resources.limits if pod.spec.resources is not None else {}
    for amounts in (of_pod, container.resources.limits):
        found |= {size_name(size): amount for size, amount in by_size(amounts).items()}
    return found


def pod_cgroup_limits(
    pod: Pod, policy: ResourcePolicy | None = None, *, exclusive_cpus: bool = False
) -> Limits:
    """Return the limits of a pod's cgroup.

    CPU and memory are limited only if all containers are limited, or the pod itself is.
    """
    policy = policy or ResourcePolicy()
    qos = qos_class(pod)
    requests, limits = pod_requests(pod), pod_limits(pod)
    hugepages = {size_name(size): amount for size, amount in by_size(requests).items()}
    if qos == BEST_EFFORT:
        return Limits(cpu_shares=MIN_SHARES, hugepages=hugepages)
    quota: int | None = None
    if not policy.enforce_cpu_quota or exclusive_cpus:
        quota = UNLIMITED
    elif _declared(pod, "cpu"):
        quota = cpu_quota(_milli(limits.get("cpu")), policy.quota_period_us) or None
    memory = limits.get("memory") if _declared(pod, "memory") else None
    return Limits(
        cpu_shares=cpu_shares(_milli(requests.get("cpu"))),
        cpu_quota_us=quota,
        cpu_period_us=policy.quota_period_us if quota is not None else None,
        memory_bytes=int(memory) if memory else None,
        hugepages=hugepages,
        unified=_reservation(qos, int(requests.get("memory") or 0), policy),
    )


def _reservation(qos: str, requested: int, policy: ResourcePolicy) -> dict[str, str]:
    """Return what keeps requested memory from being reclaimed (KEP-2570, tiers)."""
    if not policy.memory_qos or policy.memory_reservation != TIERED or requested <= 0:
        return {}
    return {"memory.min" if qos == GUARANTEED else "memory.low": str(requested)}


def memory_protection(pod: Pod, container: Container, policy: ResourcePolicy) -> dict[str, str]:
    """Return memory.min, memory.low and memory.high of a container (MemoryQoS, KEP-2570).

    memory.high lies at ``request + factor * (limit - request)``, rounded down to pages; without a
    limit the node's allocatable memory takes its place. Where request and limit are one there is
    nothing to slow down before the limit.
    """
    if not policy.memory_qos:
        return {}
    resources = container.resources
    requested = int(resources.requests.get("memory") or 0)
    limit = int(resources.limits.get("memory") or 0)
    files = _reservation(qos_class(pod), requested, policy)
    files = files or {"memory.min": "0", "memory.low": "0"}
    ceiling = limit or policy.allocatable_memory
    if requested != limit and ceiling:
        high = int(requested + (ceiling - requested) * policy.throttling_factor)
        high = high // policy.page_size * policy.page_size
        if high > requested:
            files["memory.high"] = str(high)
    return files


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
    share = _unclaimed_share(pod)
    score = _burstable_score(container, share, memory_capacity)
    if any(container is each for each in pod.spec.init_containers) and is_sidecar(container):
        others = [_burstable_score(each, share, memory_capacity) for each in pod.spec.containers]
        score = min([score, *others])
    return score


def _unclaimed_share(pod: Pod) -> int:
    """Return each container's part of the memory that only the pod as a whole requests."""
    of_pod = pod.spec.resources.requests.get("memory") if pod.spec.resources is not None else None
    if not of_pod:
        return 0
    left = int(of_pod) - int(container_requests(pod).get("memory") or 0)
    return left // (len(pod.spec.containers) + len(pod.spec.init_containers))


def _burstable_score(container: Container, share: int, memory_capacity: int) -> int:
    requested = int(container.resources.requests.get("memory") or 0) + share
    if memory_capacity <= 0:
        return BEST_EFFORT_OOM_SCORE - 1
    score = 1000 - 1000 * requested // memory_capacity
    # Above a guaranteed pod that uses all memory, below any BestEffort one.
    return min(max(score, 1000 + GUARANTEED_OOM_SCORE), BEST_EFFORT_OOM_SCORE - 1)


def _declared(pod: Pod, resource: str) -> bool:
    if pod.spec.resources is not None and pod.spec.resources.limits.get(resource):
        return True
    containers = chain(pod.spec.init_containers, pod.spec.containers)
    return all(container.resources.limits.get(resource) for container in containers)


def _milli(amount: Quantity | None) -> int:
    return amount.milli if amount is not None else 0
