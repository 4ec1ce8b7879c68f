"""Limits as properties of systemd's units (pure; systemd.resource-control(5)).

A property is a name and a D-Bus variant: a type signature and a value.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from kubeletpy_common.cgroups.block_io import io_weight
from kubeletpy_common.cgroups.interfaces import Bandwidth
from kubeletpy_common.cgroups.resources import (
    UNLIMITED,
    LinuxResources,
    shares_to_weight,
    swap_max,
)

Property = tuple[str, tuple[str, object]]

_INFINITY: Final = (1 << 64) - 1
_SECOND_US: Final = 1_000_000
# systemd keeps a quota as a whole percentage of a CPU when it writes the unit down, and reads
# that back at a daemon-reload: 1 % is 10 ms a second.
_PERCENT_US: Final = 10_000
_ACCOUNTING: Final = ("CPUAccounting", "MemoryAccounting", "IOAccounting", "TasksAccounting")
_UNIFIED_BYTES: Final = {
    "memory.min": "MemoryMin",
    "memory.low": "MemoryLow",
    "memory.high": "MemoryHigh",
    "memory.max": "MemoryMax",
    "memory.swap.max": "MemorySwapMax",
    "pids.max": "TasksMax",
}
_UNIFIED_LISTS: Final = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}


def slice_properties(description: str) -> list[Property]:
    """Return what a new slice gets."""
    return [
        ("Description", ("s", description)),
        ("DefaultDependencies", ("b", False)),
        *((name, ("b", True)) for name in _ACCOUNTING),
    ]


def scope_properties(description: str, slice_name: str, process: int) -> list[Property]:
    """Return what a new scope gets.

    Delegate: the tree below it is ours. CollectMode: a scope that failed (an OOM kill is one of
    the reasons) is forgotten like one that ended well. No default dependencies: the scope is not
    to be stopped before the runtime's own service at a shutdown.
    """
    return [
        ("Slice", ("s", slice_name)),
        ("PIDs", ("au", [process])),
        ("Delegate", ("b", True)),
        ("CollectMode", ("s", "inactive-or-failed")),
        *slice_properties(description),
    ]


def limit_properties(resources: LinuxResources, now: Bandwidth) -> list[Property]:
    """Return the limits that systemd has properties for; those that are None are not among them.

    Args:
        resources: what to set.
        now: the CPU bandwidth at present, for a quota without a period and a period without one.
    """
    found: dict[str, tuple[str, object]] = {}
    if resources.cpu_shares is not None:
        found["CPUWeight"] = ("t", shares_to_weight(resources.cpu_shares))
    if resources.cpu_quota_us is not None or resources.cpu_period_us is not None:
        found |= _bandwidth(_merged(resources, now))
    numbers = {
        "MemoryLow": resources.memory_low,
        "MemoryHigh": resources.memory_high,
        "MemoryMax": resources.memory_limit,
        "MemorySwapMax": swap_max(resources.memory_limit, resources.memory_swap),
        "TasksMax": resources.pids_limit,
    }
    for name, value in numbers.items():
        if value is not None:
            found[name] = ("t", _INFINITY if value == UNLIMITED else value)
    if resources.block_io is not None and resources.block_io.weight is not None:
        # Of io.weight alone; that of BFQ is derived from it, in systemd's own way.
        found["IOWeight"] = ("t", io_weight(resources.block_io.weight))
    if resources.cpuset_cpus is not None:
        found["AllowedCPUs"] = ("ay", mask(resources.cpuset_cpus))
    if resources.cpuset_mems is not None:
        found["AllowedMemoryNodes"] = ("ay", mask(resources.cpuset_mems))
    found |= _unified(resources.unified.items())
    if found.get("TasksMax") == ("t", 0):
        # systemd refuses 0, and who is the only task has none beside it.
        found["TasksMax"] = ("t", 1)
    return list(found.items())


def in_whole_percents(resources: LinuxResources, now: Bandwidth) -> LinuxResources:
    """Return the limits with a CPU quota that systemd can keep: whole percents of a CPU (pure).

    It is rounded up, so that a limit never gets tighter than asked, as the Go kubelet and runc do
    with this driver. systemd writes what it keeps at a daemon-reload, which so changes nothing.

    Args:
        resources: what to set.
        now: the CPU bandwidth at present, for a quota without a period and a period without one.
    """
    unified = dict(resources.unified)
    asked = _cpu_max(unified["cpu.max"]) if "cpu.max" in unified else None
    if asked is not None:
        kept = rounded(asked)
        unified["cpu.max"] = f"{_or_max(kept.quota_us)} {kept.period_us}"
        resources = replace(resources, unified=unified)
    if resources.cpu_quota_us is None and resources.cpu_period_us is None:
        return resources
    kept = rounded(_merged(resources, now))
    quota = UNLIMITED if kept.quota_us is None else kept.quota_us
    return replace(resources, cpu_quota_us=quota, cpu_period_us=kept.period_us)


def rounded(wanted: Bandwidth) -> Bandwidth:
    """Return a quota rounded up to whole percents of a CPU, as systemd keeps it (pure)."""
    if wanted.quota_us is None:
        return wanted
    quota = _per_second(wanted) * wanted.period_us // _SECOND_US
    return replace(wanted, quota_us=max(quota, wanted.quota_us))


def _per_second(wanted: Bandwidth) -> int:
    """Return the quota in microseconds a second, rounded up to whole percents."""
    assert wanted.quota_us is not None
    exact = -(-wanted.quota_us * _SECOND_US // wanted.period_us)
    return -(-exact // _PERCENT_US) * _PERCENT_US


def _or_max(value: int | None) -> str:
    return "max" if value is None else str(value)


def _merged(resources: LinuxResources, now: Bandwidth) -> Bandwidth:
    quota, period = resources.cpu_quota_us, resources.cpu_period_us
    if quota is not None:
        now = replace(now, quota_us=None if quota == UNLIMITED else quota)
    return now if period is None else replace(now, period_us=period)


def _bandwidth(wanted: Bandwidth) -> dict[str, tuple[str, object]]:
    return {
        "CPUQuotaPeriodUSec": ("t", wanted.period_us),
        "CPUQuotaPerSecUSec": ("t", _INFINITY if wanted.quota_us is None else _per_second(wanted)),
    }


def _cpu_max(text: str) -> Bandwidth | None:
    """Read what is written to ``cpu.max``; None if it is nothing that the kernel takes."""
    quota, _, period = text.strip().partition(" ")
    if quota != "max" and not quota.isdigit():
        return None
    if period and not (period.isdigit() and int(period)):
        return None
    return Bandwidth(None if quota == "max" else int(quota), int(period or 100_000))


def _unified(entries: Iterable[tuple[str, str]]) -> dict[str, tuple[str, object]]:
    """Return the properties of those files that have one; odd values are left to the kernel."""
    found: dict[str, tuple[str, object]] = {}
    for key, text in entries:
        value = text.strip()
        if key in _UNIFIED_LISTS:
            found[_UNIFIED_LISTS[key]] = ("ay", mask(value))
        elif key in _UNIFIED_BYTES and (value == "max" or value.isdigit()):
            found[_UNIFIED_BYTES[key]] = ("t", _INFINITY if value == "max" else int(value))
        elif key == "cpu.weight" and value.isdigit():
            found.setdefault("CPUWeight", ("t", int(value)))
        elif key == "cpu.idle" and value == "1":
            # A weight of 0 stands for it, and goes before a weight (systemd 252).
            found["CPUWeight"] = ("t", 0)
        elif key == "io.weight" and value.removeprefix("default ").isdigit():
            found["IOWeight"] = ("t", int(value.removeprefix("default ")))
        elif key == "cpu.max" and (bandwidth := _cpu_max(value)) is not None:
            found |= _bandwidth(bandwidth)
    return found


def mask(numbers: str) -> bytes:
    """Return a list like ``0-3,8`` as a bit mask, lowest byte first; odd lists give no bit."""
    bits = 0
    for part in filter(None, numbers.split(",")):
        first, _, last = part.partition("-")
        if not first.isdigit() or (last and not last.isdigit()):
            return b""
        for number in range(int(first), min(int(last or first), 8191) + 1):
            bits |= 1 << number
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")
