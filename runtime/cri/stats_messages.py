"""From readings to the protocol's statistics (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from kubeletpy_common.cgroups import CgroupStats, Pressure, PressureStats
from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.network_usage import InterfaceUsage
from runtime.cri.stats_sampling import LayerSize


def cpu_usage(stats: CgroupStats, rate: int | None) -> cri.CpuUsage | None:
    """Return CPU use; None without a controller that counts it.

    Args:
        stats: the reading.
        rate: billionths of a core, None if there was no reading before.
    """
    if stats.cpu is None:
        return None
    usage = cri.CpuUsage(
        timestamp=stats.time_ns,
        usage_core_nano_seconds=cri.UInt64Value(value=stats.cpu.usage_ns),
        psi=_psi(stats.pressure.get("cpu")),
    )
    if rate is not None:
        usage.usage_nano_cores.value = rate
    return usage


def memory_usage(stats: CgroupStats) -> cri.MemoryUsage | None:
    """Return memory use; what is available only where there is a limit."""
    memory = stats.memory
    if memory is None:
        return None
    usage = cri.MemoryUsage(
        timestamp=stats.time_ns,
        working_set_bytes=cri.UInt64Value(value=memory.working_set),
        usage_bytes=cri.UInt64Value(value=memory.usage),
        rss_bytes=cri.UInt64Value(value=memory.rss),
        page_faults=cri.UInt64Value(value=memory.page_faults),
        major_page_faults=cri.UInt64Value(value=memory.major_page_faults),
        psi=_psi(stats.pressure.get("memory")),
    )
    if memory.available is not None:
        usage.available_bytes.value = memory.available
    return usage


def swap_usage(stats: CgroupStats) -> cri.SwapUsage | None:
    """Return swap use; None where the kernel does not account it."""
    memory = stats.memory
    if memory is None or memory.swap is None:
        return None
    usage = cri.SwapUsage(
        timestamp=stats.time_ns, swap_usage_bytes=cri.UInt64Value(value=memory.swap)
    )
    if memory.swap_limit is not None:
        usage.swap_available_bytes.value = max(0, memory.swap_limit - memory.swap)
    return usage


def io_usage(stats: CgroupStats) -> cri.IoUsage | None:
    """Return pressure of I/O; None where the kernel keeps none."""
    pressure = stats.pressure.get("io")
    if pressure is None:
        return None
    return cri.IoUsage(timestamp=stats.time_ns, psi=_psi(pressure))


def layer_usage(size: LayerSize | None, mountpoint: str) -> cri.FilesystemUsage | None:
    """Return what the writable layer takes; its timestamp is when it was measured."""
    if size is None:
        return None
    return cri.FilesystemUsage(
        timestamp=size.time_ns,
        fs_id=cri.FilesystemIdentifier(mountpoint=mountpoint),
        used_bytes=cri.UInt64Value(value=size.bytes),
        inodes_used=cri.UInt64Value(value=size.inodes),
    )


def network_message(time_ns: int, interfaces: Sequence[InterfaceUsage]) -> cri.NetworkUsage | None:
    """Return the interfaces; the first is the default one."""
    if not interfaces:
        return None
    messages = [
        cri.NetworkInterfaceUsage(
            name=interface.name,
            rx_bytes=cri.UInt64Value(value=interface.rx_bytes),
            rx_errors=cri.UInt64Value(value=interface.rx_errors),
            tx_bytes=cri.UInt64Value(value=interface.tx_bytes),
            tx_errors=cri.UInt64Value(value=interface.tx_errors),
        )
        for interface in interfaces
    ]
    return cri.NetworkUsage(
        timestamp=time_ns, default_interface=messages[0], interfaces=messages[1:]
    )


def _psi(pressure: PressureStats | None) -> cri.PsiStats | None:
    if pressure is None:
        return None
    full = pressure.full or Pressure(0.0, 0.0, 0.0, 0)
    return cri.PsiStats(Some=_psi_data(pressure.some), Full=_psi_data(full))


def _psi_data(pressure: Pressure) -> cri.PsiData:
    return cri.PsiData(
        Total=pressure.total_ns,
        Avg10=pressure.avg10,
        Avg60=pressure.avg60,
        Avg300=pressure.avg300,
    )
