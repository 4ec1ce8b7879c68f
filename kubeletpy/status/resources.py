"""Resources in the status of a pod: what it was allocated, and what it really has; pure.

What the kernel and the runtime say is translated back; where that cannot be exact (a CPU weight or
a quota of the smallest size stands for less as well) the allocated amount is shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from kubeletpy.api.container import Container, ResourceRequirements
from kubeletpy.api.quantity import Family, Quantity
from kubeletpy.api.status import ContainerStatus, PodStatus
from kubeletpy.pods.plan import Desired
from kubeletpy.pods.state import ContainerRecord, Observed, RuntimeLimits
from kubeletpy.resize.coordinator import IN_PROGRESS, PENDING
from kubeletpy.resources.limits import (
    MIN_LIMIT_MILLI,
    MIN_SHARES,
    Limits,
    milli_of_quota,
    milli_of_shares,
)
from kubeletpy.resources.totals import Resources, pod_limits, pod_requests

_NOTHING = Quantity(0)


@dataclass(frozen=True, slots=True)
class _Measured:
    """What is really set; 0 where nothing is, or nothing is known."""

    cpu_request: int = 0
    cpu_limit: int = 0
    memory_limit: int = 0


def add_resources(
    status: PodStatus, desired: Desired, observed: Observed, previous: PodStatus | None
) -> None:
    """Add to a status allocated resources, actual resources, and conditions of a resize."""
    spec = desired.pod.spec
    before = previous or PodStatus()
    for containers, statuses, old in (
        (spec.init_containers, status.init_container_statuses, before.init_container_statuses),
        (spec.containers, status.container_statuses, before.container_statuses),
    ):
        earlier = {one.name: one for one in old}
        for container, one in zip(containers, statuses, strict=True):
            _container(one, container, observed.latest(container.name), earlier.get(one.name))
    status.allocated_resources = pod_requests(desired.pod)
    status.resources = _of_pod(status, desired, observed)
    kinds = (PENDING, IN_PROGRESS)
    status.conditions = [one for one in status.conditions if one.type not in kinds]
    status.conditions += observed.actual.conditions


def _container(
    status: ContainerStatus,
    container: Container,
    record: ContainerRecord | None,
    before: ContainerStatus | None,
) -> None:
    if record is None:
        return
    status.allocated_resources = dict(container.resources.requests)
    given = container.resources
    if not record.running:
        status.resources = msgspec.structs.replace(given)
        return
    measured = _from_runtime(record.limits)
    same = before is not None and before.container_id == status.container_id
    old = before.resources if before is not None and same else None
    status.resources = ResourceRequirements(
        limits=_limits(given.limits, measured, old) if given.limits else {},
        requests=_requests(given.requests, measured, old) if given.requests else {},
        claims=given.claims,
    )


def _from_runtime(limits: RuntimeLimits | None) -> _Measured:
    if limits is None:
        return _Measured()
    return _Measured(
        milli_of_shares(limits.cpu_shares),
        milli_of_quota(limits.cpu_quota_us, limits.cpu_period_us),
        max(limits.memory_bytes, 0),
    )


def _limits(given: Resources, measured: _Measured, old: ResourceRequirements | None) -> Resources:
    found = dict(given)
    _put(found, "cpu", measured.cpu_limit, MIN_LIMIT_MILLI, old.limits if old else {})
    if measured.memory_limit:
        found["memory"] = Quantity(measured.memory_limit, Family.BINARY)
    elif old is not None and "memory" in old.limits:
        found["memory"] = old.limits["memory"]
    return found


def _requests(given: Resources, measured: _Measured, old: ResourceRequirements | None) -> Resources:
    found = dict(given)
    _put(found, "cpu", measured.cpu_request, MIN_SHARES, old.requests if old else {})
    # A request of memory is written nowhere: it counts from the moment it is allocated.
    return found


def _put(found: Resources, name: str, milli: int, least: int, old: Resources) -> None:
    """Show what is set, unless that and what was allocated are both below what can be set."""
    if not milli:
        if name in old:
            found[name] = old[name]
        return
    if milli > least or found.get(name, _NOTHING).milli > least:
        found[name] = Quantity(f"{milli}m")


def _of_pod(status: PodStatus, desired: Desired, observed: Observed) -> ResourceRequirements:
    pod = desired.pod
    limits: Limits | None = observed.actual.pod
    if status.phase != "Running" or limits is None:
        return ResourceRequirements(requests=pod_requests(pod), limits=pod_limits(pod))
    given = pod.spec.resources or ResourceRequirements()
    measured = _Measured(
        milli_of_shares(limits.cpu_shares),
        milli_of_quota(limits.cpu_quota_us or 0, limits.cpu_period_us or 0),
        limits.memory_bytes or 0,
    )
    requests = _requests(given.requests, measured, None)
    memory = pod_requests(pod).get("memory")
    if memory is not None:
        requests.setdefault("memory", memory)
    return ResourceRequirements(requests=requests, limits=_limits(given.limits, measured, None))
