"""Measurements in the shape of the Summary API (pure).

Source: Kubernetes, ``k8s.io/kubelet/pkg/apis/stats/v1alpha1``; what is not known is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from kubeletpy_common.cgroups import Pressure, PressureStats

from .node import Filesystem, Interface
from .usage import Usage

Json = dict[str, Any]


def moment(seconds: float) -> str:
    """Return a time of RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def known(**values: object) -> Json:
    """Return an object without what is None."""
    return {name: value for name, value in values.items() if value is not None}


def cpu(usage: Usage) -> Json | None:
    """Return CPUStats."""
    if usage.cpu_ns is None:
        return None
    return known(
        time=moment(usage.time_ns / 1e9),
        usageNanoCores=usage.rate,
        usageCoreNanoSeconds=usage.cpu_ns,
        psi=pressure(usage.pressure.get("cpu")),
    )


def memory(usage: Usage) -> Json | None:
    """Return MemoryStats."""
    if usage.usage is None and usage.working_set is None:
        return None
    return known(
        time=moment(usage.time_ns / 1e9),
        availableBytes=usage.available,
        usageBytes=usage.usage,
        workingSetBytes=usage.working_set,
        rssBytes=usage.rss,
        pageFaults=usage.faults,
        majorPageFaults=usage.major_faults,
        psi=pressure(usage.pressure.get("memory")),
    )


def io(usage: Usage) -> Json | None:
    """Return IOStats."""
    found = pressure(usage.pressure.get("io"))
    return known(time=moment(usage.time_ns / 1e9), psi=found) if found is not None else None


def swap(usage: Usage) -> Json | None:
    """Return SwapStats."""
    if usage.swap is None:
        return None
    return known(
        time=moment(usage.time_ns / 1e9),
        swapAvailableBytes=usage.swap_available,
        swapUsageBytes=usage.swap,
    )


def pressure(stats: PressureStats | None) -> Json | None:
    """Return PSIStats."""
    if stats is None:
        return None

    def data(one: Pressure) -> Json:
        return {
            "total": one.total_ns,
            "avg10": one.avg10,
            "avg60": one.avg60,
            "avg300": one.avg300,
        }

    full = stats.full if stats.full is not None else Pressure(0.0, 0.0, 0.0, 0)
    return {"full": data(full), "some": data(stats.some)}


def network(time_ns: int, interfaces: Iterable[Interface], default: str) -> Json | None:
    """Return NetworkStats.

    Args:
        time_ns: when they were read.
        interfaces: all.
        default: name of the one that stands for all; "" for the first.
    """
    listed = [
        {
            "name": one.name,
            "rxBytes": one.rx_bytes,
            "rxErrors": one.rx_errors,
            "txBytes": one.tx_bytes,
            "txErrors": one.tx_errors,
        }
        for one in interfaces
    ]
    if not listed:
        return None
    first = next((one for one in listed if one["name"] == default), listed[0])
    return {"time": moment(time_ns / 1e9), **first, "interfaces": listed}


def disk(found: Filesystem | None, seconds: float, **names: object) -> Json | None:
    """Return FsStats of a file system; of what uses it, ``used`` and ``inodes_used``."""
    if found is None:
        return None
    return known(
        time=moment(seconds),
        availableBytes=found.available,
        capacityBytes=found.capacity,
        usedBytes=found.used,
        inodesFree=found.inodes_free,
        inodes=found.inodes,
        inodesUsed=found.inodes_used,
        **names,
    )


def whole(usage: Usage) -> Mapping[str, Any]:
    """Return CPU, memory, I/O and swap, where known."""
    return known(cpu=cpu(usage), memory=memory(usage), io=io(usage), swap=swap(usage))


def sum_of(first: int | None, second: int | None) -> int | None:
    """Return a sum; None counts for nothing."""
    if first is None or second is None:
        return first if second is None else second
    return first + second
