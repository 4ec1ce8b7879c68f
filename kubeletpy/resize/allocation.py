"""What a pod was allocated, which may be less than it wants now (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from kubeletpy.api.container import Container, ResourceRequirements
from kubeletpy.api.pod import Pod
from kubeletpy.api.quantity import Quantity
from kubeletpy.resources.qos import GUARANTEED, qos_class
from kubeletpy.resources.totals import Resources, pod_requests

RESIZABLE = ("cpu", "memory")
_NOTHING = Quantity(0)


@dataclass(frozen=True)
class Allocation:
    """Resources of the containers by name, and of the pod as a whole."""

    containers: dict[str, ResourceRequirements] = field(default_factory=dict)
    pod: ResourceRequirements | None = None


def allocation_of(pod: Pod) -> Allocation:
    """Return what a pod as it stands asks for."""
    containers = (*pod.spec.init_containers, *pod.spec.containers)
    return Allocation({one.name: one.resources for one in containers}, pod.spec.resources)


def allocated(pod: Pod, allocation: Allocation) -> Pod:
    """Return ``pod`` with the resources that it was allocated, everything else as it is now."""

    def given(containers: list[Container]) -> list[Container]:
        return [
            msgspec.structs.replace(
                one, resources=allocation.containers.get(one.name, one.resources)
            )
            for one in containers
        ]

    if allocation_of(pod) == allocation:
        return pod
    spec = msgspec.structs.replace(
        pod.spec,
        containers=given(pod.spec.containers),
        init_containers=given(pod.spec.init_containers),
        resources=allocation.pod,
    )
    return msgspec.structs.replace(pod, spec=spec)


def asks_for_more(before: Pod, after: Pod) -> bool:
    """Whether a pod requests more CPU or memory than before."""
    old, new = pod_requests(before), pod_requests(after)
    return any(new.get(name, _NOTHING) > old.get(name, _NOTHING) for name in RESIZABLE)


def shortage(pod: Pod, others: Iterable[Pod], allocatable: Resources) -> str:
    """Return why a pod does not fit on the node beside ``others``, "" if it does.

    Args:
        pod: with the resources that it wants.
        others: all other pods of the node, with what they were allocated.
        allocatable: what pods may use together.
    """
    wanted = pod_requests(pod)
    beside = [pod_requests(one) for one in others]
    for name in RESIZABLE:
        requested = _units(name, wanted.get(name))
        used = sum(_units(name, one.get(name)) for one in beside)
        capacity = _units(name, allocatable.get(name))
        if name in allocatable and requested and requested > capacity - used:
            return (
                f"Node didn't have enough resource: {name}, requested: {requested}, "
                f"used: {used}, capacity: {capacity}"
            )
    return ""


def _units(name: str, amount: Quantity | None) -> int:
    if amount is None:
        return 0
    return amount.milli if name == "cpu" else int(amount)


def exclusive_fault(before: Pod, after: Pod, *, static_cpus: bool, static_memory: bool) -> str:
    """Return why a Guaranteed pod cannot be resized beside static policies, "" if it can."""
    if qos_class(after) != GUARANTEED:
        return ""
    for name, static, manager in (
        ("cpu", static_cpus, 'CPU Manager policy "static"'),
        ("memory", static_memory, 'Memory Manager policy "Static"'),
    ):
        old, new = allocation_of(before).containers, allocation_of(after).containers
        changed = any(
            one.requests.get(name) != old[key].requests.get(name) for key, one in new.items()
        )
        if static and changed:
            return f"Resize is infeasible for Guaranteed Pods alongside {manager}"
    return ""


def urgency(before: Pod, after: Pod, pending_since: float) -> tuple[bool, int, bool, float]:
    """Return the key by which pending resizes are tried, the first ones first.

    First those that ask for no more, then by priority, then Guaranteed pods, then the eldest.
    """
    return (
        asks_for_more(before, after),
        -(after.spec.priority or 0),
        qos_class(after) != GUARANTEED,
        pending_since,
    )
