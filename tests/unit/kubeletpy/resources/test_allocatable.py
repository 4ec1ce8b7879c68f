from __future__ import annotations

from kubeletpy.api.quantity import Quantity
from kubeletpy.resources.allocatable import (
    Reservations,
    cgroup_limits,
    enforced,
    overcommitted,
    reserved_cgroups,
    usable,
)
from kubeletpy_common.cgroups import LinuxResources


def amounts(**texts: str) -> dict[str, Quantity]:
    return {name: Quantity(text) for name, text in texts.items()}


CAPACITY = amounts(cpu="4", memory="8Gi", pid="32768")
RESERVED = Reservations(
    kube=amounts(cpu="500m", memory="1Gi"),
    system=amounts(cpu="500m", memory="1Gi", pid="1000"),
    system_cgroup="/system.slice",
    enforce=("pods", "system-reserved", "kube-reserved-compressible"),
    kube_cgroup="/kubelet",
)


def test_capacity_less_what_is_reserved() -> None:
    found = {name: str(amount) for name, amount in usable(CAPACITY, RESERVED).items()}
    assert found == {"cpu": "3", "memory": "6Gi", "pid": "31768"}
    greedy = Reservations(kube=amounts(cpu="5"))
    assert str(usable(CAPACITY, greedy)["cpu"]) == "0"


def test_what_pods_are_limited_to() -> None:
    assert enforced(CAPACITY, RESERVED) == usable(CAPACITY, RESERVED)
    assert enforced(CAPACITY, Reservations(kube=amounts(cpu="1"), enforce=())) == CAPACITY
    assert cgroup_limits(enforced(CAPACITY, RESERVED)) == LinuxResources(
        cpu_shares=3072, memory_limit=6 * 2**30, pids_limit=31768
    )


def test_cgroups_of_the_reservations() -> None:
    assert reserved_cgroups(RESERVED) == [
        ("system reserved", "/system.slice",
         LinuxResources(cpu_shares=512, memory_limit=2**30, pids_limit=1000)),
        ("kube reserved", "/kubelet", LinuxResources(cpu_shares=512)),
    ]  # fmt: skip


def test_reservations_beyond_the_capacity() -> None:
    assert overcommitted(CAPACITY, RESERVED.kube, RESERVED.system) == []
    assert overcommitted(CAPACITY, amounts(memory="5Gi"), amounts(memory="4Gi")) == [
        'Resource "memory" has a reservation of 9Gi but capacity of 8Gi. '
        "Expected capacity >= reservation."
    ]
