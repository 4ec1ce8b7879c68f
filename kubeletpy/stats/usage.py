"""CPU and memory in use, from whichever source (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kubeletpy_common.cgroups import CgroupStats, Pressure, PressureStats
from kubeletpy_proto import cri_pb2 as cri


@dataclass(frozen=True, slots=True)
class Usage:
    """What something uses; None where it is not known.

    Attributes:
        time_ns: when it was measured, nanoseconds since 1970.
        cpu_ns: CPU time since it was started, in nanoseconds.
        rate: billionths of a core, since the measurement before.
        usage, working_set, rss, available: memory in bytes.
        faults, major_faults: page faults since it was started.
        swap, swap_available: in bytes.
        pressure: by ``cpu``, ``memory``, ``io``.
    """

    time_ns: int = 0
    cpu_ns: int | None = None
    rate: int | None = None
    usage: int | None = None
    working_set: int | None = None
    rss: int | None = None
    available: int | None = None
    faults: int | None = None
    major_faults: int | None = None
    swap: int | None = None
    swap_available: int | None = None
    pressure: Mapping[str, PressureStats] = field(default_factory=dict)


def of_cgroup(stats: CgroupStats) -> Usage:
    """Return what a cgroup uses."""
    found = Usage(stats.time_ns, pressure=stats.pressure)
    if stats.cpu is not None:
        found = replace(found, cpu_ns=stats.cpu.usage_ns)
    memory = stats.memory
    if memory is None:
        return found
    room = None
    if memory.swap is not None and memory.swap_limit is not None:
        room = max(0, memory.swap_limit - memory.swap)
    return replace(
        found,
        usage=memory.usage,
        working_set=memory.working_set,
        rss=memory.rss,
        available=memory.available,
        faults=memory.page_faults,
        major_faults=memory.major_page_faults,
        swap=memory.swap,
        swap_available=room,
    )


def of_container(stats: cri.ContainerStats) -> Usage:
    """Return what a container uses, as its runtime tells."""
    found = _of_cri(stats.cpu, stats.memory, stats.io)
    if not stats.HasField("swap"):
        return found
    return replace(
        found,
        swap=_value(stats.swap, "swap_usage_bytes"),
        swap_available=_value(stats.swap, "swap_available_bytes"),
    )


def of_pod(stats: cri.LinuxPodSandboxStats) -> Usage:
    """Return what a pod uses, as its runtime tells."""
    return _of_cri(stats.cpu, stats.memory, stats.io)


def _of_cri(cpu: cri.CpuUsage, memory: cri.MemoryUsage, io: cri.IoUsage) -> Usage:
    pressure = {
        name: _pressure(one.psi)
        for name, one in (("cpu", cpu), ("memory", memory), ("io", io))
        if one.HasField("psi")
    }
    return Usage(
        time_ns=cpu.timestamp or memory.timestamp,
        cpu_ns=_value(cpu, "usage_core_nano_seconds"),
        rate=_value(cpu, "usage_nano_cores"),
        usage=_value(memory, "usage_bytes"),
        working_set=_value(memory, "working_set_bytes"),
        rss=_value(memory, "rss_bytes"),
        available=_value(memory, "available_bytes"),
        faults=_value(memory, "page_faults"),
        major_faults=_value(memory, "major_page_faults"),
        pressure=pressure,
    )


def _value(message: cri.CpuUsage | cri.MemoryUsage | cri.SwapUsage, name: str) -> int | None:
    # Each field is optional; protobuf's own types do not say that a name is one of them.
    return int(getattr(message, name).value) if message.HasField(name) else None  # type: ignore[arg-type]


def _pressure(psi: cri.PsiStats) -> PressureStats:
    def data(one: cri.PsiData) -> Pressure:
        return Pressure(one.Avg10, one.Avg60, one.Avg300, one.Total)

    return PressureStats(data(psi.Some), data(psi.Full))


class Rates:
    """Billionths of a core from one measurement to the next.

    Args:
        capacity: how many things are remembered; those not asked about for longest go.
    """

    SHORTEST_NS = 50_000_000
    """Measurements nearer to each other say nothing: the answer before holds."""

    def __init__(self, capacity: int = 20_000) -> None:
        self._capacity = capacity
        self._before: dict[str, tuple[int, int, int | None]] = {}

    def add(self, key: str, usage: Usage) -> Usage:
        """Return a usage with its rate, if it had none and is not the first."""
        if usage.cpu_ns is None or usage.rate is not None:
            return usage
        before = self._before.pop(key, None)
        rate: int | None = None
        kept: tuple[int, int, int | None] = (usage.time_ns, usage.cpu_ns, None)
        if before is not None:
            elapsed, used = usage.time_ns - before[0], usage.cpu_ns - before[1]
            if 0 <= elapsed < self.SHORTEST_NS:
                rate, kept = before[2], before
            elif elapsed > 0 and used >= 0:
                rate = used * 1_000_000_000 // elapsed
                kept = (usage.time_ns, usage.cpu_ns, rate)
        self._before[key] = kept
        while len(self._before) > self._capacity:
            self._before.pop(next(iter(self._before)))
        return replace(usage, rate=rate)
