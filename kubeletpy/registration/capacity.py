"""What the node has, and what of it pods may use (pure).

https://kubernetes.io/docs/tasks/administer-cluster/reserve-compute-resources/ : allocatable is the
capacity less kubeReserved, systemReserved, and what evictionHard keeps free.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from kubeletpy.api.quantity import Family, Quantity
from kubeletpy.resources.allocatable import less
from kubeletpy.settings import Settings
from kubeletpy.settings.configuration import KubeletConfiguration

from .machine import Machine

CPU, MEMORY, STORAGE, PODS, HUGEPAGES = (
    "cpu", "memory", "ephemeral-storage", "pods", "hugepages-",
)  # fmt: skip
Amounts = dict[str, Quantity]


def capacity(machine: Machine, one: KubeletConfiguration) -> Amounts:
    """Return what the node has, by resource name."""
    pods = one.max_pods
    if one.pods_per_core > 0:
        pods = min(machine.cpus * one.pods_per_core, pods)
    found = {
        CPU: Quantity(machine.cpus),
        MEMORY: Quantity(machine.memory, Family.BINARY),
        PODS: Quantity(pods),
    }
    if one.local_storage_capacity_isolation:
        found[STORAGE] = Quantity(machine.storage, Family.BINARY)
    for size, amount in machine.hugepages.items():
        page = Quantity(size, Family.BINARY)
        found[f"{HUGEPAGES}{page}"] = Quantity(amount, Family.BINARY)
    return found


def allocatable(has: Mapping[str, Quantity], settings: Settings) -> Amounts:
    """Return what pods may use of ``has``, never less than nothing."""
    kube, system = reservations(settings.configuration)
    keep = {}
    if not settings.ignore_eviction_in_allocatable:
        keep = eviction_reservation(has, settings.configuration.eviction_hard)
    found = less(has, kube, system, keep)
    if MEMORY in found:
        # Preallocated pages are no memory for anything else.
        pages = (amount for name, amount in has.items() if name.startswith(HUGEPAGES))
        for amount in pages:
            found[MEMORY] = less({MEMORY: found[MEMORY]}, {MEMORY: amount})[MEMORY]
    return dict(found)


def reservations(one: KubeletConfiguration) -> tuple[Amounts, Amounts]:
    """Return kubeReserved and systemReserved; reservedSystemCPUs comes before their CPUs."""
    kube = {name: Quantity(text) for name, text in one.kube_reserved.items()}
    system = {name: Quantity(text) for name, text in one.system_reserved.items()}
    if one.reserved_system_cpus:
        kube.pop(CPU, None)
        system[CPU] = Quantity(len(cpu_set(one.reserved_system_cpus)))
    return kube, system


def cpu_set(text: str) -> set[int]:
    """Return the CPUs of a list such as ``0-1,4``."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def eviction_reservation(has: Mapping[str, Quantity], hard: Mapping[str, str]) -> Amounts:
    """Return what hard eviction keeps free of memory and of the node's storage."""
    found = {}
    for signal, resource in (("memory.available", MEMORY), ("nodefs.available", STORAGE)):
        text = hard.get(signal)
        if text is None or resource not in has:
            continue
        if text.endswith("%"):
            # The Go kubelet keeps percentages in 32 bits, and cuts the product.
            share = struct.unpack("f", struct.pack("f", float(text[:-1]) / 100))[0]
            found[resource] = Quantity(int(int(has[resource]) * share), Family.BINARY)
        else:
            found[resource] = Quantity(text)
    return found


def written(amounts: Mapping[str, Quantity]) -> dict[str, str]:
    """Return amounts as they are written in JSON."""
    return {name: str(amount) for name, amount in amounts.items()}


def missing(has: Iterable[str], one: KubeletConfiguration) -> list[str]:
    """Return resources that a node must have to be ready."""
    needed = [CPU, MEMORY, PODS]
    if one.local_storage_capacity_isolation:
        needed.append(STORAGE)
    there = set(has)
    return [name for name in needed if name not in there]
