"""What of the node pods may use, and how it is enforced (pure).

https://kubernetes.io/docs/tasks/administer-cluster/reserve-compute-resources/ : allocatable is
capacity less what is reserved for the kubelet, for the system, and for eviction to begin in time.
The cgroup of all pods is limited to capacity less the two reservations; the last bit is eviction's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kubeletpy.api.quantity import Quantity
from kubeletpy_common.cgroups import LinuxResources

from .hugepages import by_size, size_name
from .limits import cpu_shares
from .totals import Resources

PODS, SYSTEM, KUBE = "pods", "system-reserved", "kube-reserved"
COMPRESSIBLE = "-compressible"
PIDS = "pid"
"""Name of process ids in kubeReserved and systemReserved."""
_NOTHING = Quantity(0)


@dataclass(frozen=True, kw_only=True)
class Reservations:
    """What is reserved on the node.

    Attributes:
        kube, system: ``kubeReserved`` and ``systemReserved`` by resource name.
        kube_cgroup, system_cgroup: ``kubeReservedCgroup`` and ``systemReservedCgroup``.
        enforce: ``enforceNodeAllocatable``.
    """

    kube: Mapping[str, Quantity] = field(default_factory=dict)
    system: Mapping[str, Quantity] = field(default_factory=dict)
    kube_cgroup: str = ""
    system_cgroup: str = ""
    enforce: tuple[str, ...] = (PODS,)


def usable(capacity: Mapping[str, Quantity], reservations: Reservations) -> Resources:
    """Return capacity less kube and system reserved, never below 0; what pods are limited to."""
    return less(capacity, reservations.kube, reservations.system)


def less(capacity: Mapping[str, Quantity], *reserved: Mapping[str, Quantity]) -> Resources:
    """Return ``capacity`` less each of ``reserved``, never below 0."""
    result = dict(capacity)
    for amounts in reserved:
        for name, amount in amounts.items():
            if name in result:
                rest = result[name] - amount
                result[name] = rest if rest > _NOTHING else _NOTHING
    return result


def overcommitted(capacity: Mapping[str, Quantity], *reserved: Mapping[str, Quantity]) -> list[str]:
    """Return what is wrong with reservations that exceed the capacity; nothing if all fits."""
    faults = []
    for name in sorted(set().union(*reserved)):
        first, *others = (amounts[name] for amounts in reserved if name in amounts)
        total = sum(others, start=first)
        if name in capacity and total > capacity[name]:
            faults.append(
                f'Resource "{name}" has a reservation of {total} but capacity of '
                f"{capacity[name]}. Expected capacity >= reservation."
            )
    return faults


def cgroup_limits(
    amounts: Mapping[str, Quantity], *, compressible: bool = False, hugepages: bool = True
) -> LinuxResources:
    """Return limits of a cgroup that may use ``amounts``; CPU is a weight, never a quota.

    Args:
        amounts: by resource name; what is not named is not limited.
        compressible: limit CPU alone.
        hugepages: whether the kernel limits them.
    """
    cpu, memory, pids = amounts.get("cpu"), amounts.get("memory"), amounts.get(PIDS)
    if compressible:
        return LinuxResources(cpu_shares=cpu_shares(cpu.milli) if cpu is not None else None)
    pages = {size_name(size): amount for size, amount in by_size(amounts).items()}
    return LinuxResources(
        cpu_shares=cpu_shares(cpu.milli) if cpu is not None else None,
        memory_limit=int(memory) if memory is not None else None,
        pids_limit=int(pids) if pids is not None else None,
        hugepages=pages if hugepages else {},
    )


def enforced(capacity: Mapping[str, Quantity], reservations: Reservations) -> Resources:
    """Return what the cgroup of all pods is limited to; all of the node if it is not enforced."""
    return usable(capacity, reservations) if PODS in reservations.enforce else dict(capacity)


def reserved_cgroups(reservations: Reservations) -> list[tuple[str, str, LinuxResources]]:
    """Return name, cgroup and limits of the reservations that are to be enforced.

    The cgroups have to exist: a kubelet never makes those of the system.
    """
    found = []
    parts = (
        (SYSTEM, reservations.system_cgroup, reservations.system),
        (KUBE, reservations.kube_cgroup, reservations.kube),
    )
    for name, cgroup, amounts in parts:
        for key, compressible in ((name, False), (name + COMPRESSIBLE, True)):
            if key in reservations.enforce:
                limits = cgroup_limits(amounts, compressible=compressible)
                found.append((name.replace("-", " "), cgroup, limits))
    return found
