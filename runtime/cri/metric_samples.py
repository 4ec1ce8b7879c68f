"""From readings to samples of metrics (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from kubeletpy_common.cgroups import CgroupStats
from kubeletpy_common.cgroups.details import BlockIo, CgroupDetails
from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.metric_table import METRICS
from runtime.cri.network_usage import InterfaceUsage
from runtime.cri.process_facts import ProcessFacts

_SECOND: Final = 1_000_000_000
_DEFAULT_PERIOD_US: Final = 100_000
_DEFAULT_SHARES: Final = 1024


@dataclass(frozen=True)
class Sample:
    """A value of a metric, ``labels`` are the values beyond the base labels."""

    name: str
    value: int
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """What the files told of a container or of a pod as a whole."""

    stats: CgroupStats
    details: CgroupDetails
    oom_kills: int


@dataclass(frozen=True)
class Disk:
    """The file system of the writable layers.

    Attributes:
        device: like ``/dev/sda1``; empty if it is none that has a name.
        bytes, inodes, free_inodes: of the whole file system.
    """

    device: str
    bytes: int
    inodes: int
    free_inodes: int


@dataclass(frozen=True)
class DeviceNames:
    """Names of block devices by their numbers."""

    names: Mapping[tuple[int, int], str] = field(default_factory=dict)

    def of(self, device: tuple[int, int]) -> str:
        """Return the name, empty if it is not known."""
        return self.names.get(device, "")


def messages(samples: Iterable[Sample], base: Sequence[str], time_ns: int) -> list[cri.Metric]:
    """Return the protocol's metrics.

    Args:
        samples: the values.
        base: values of the base labels.
        time_ns: when they were read, nanoseconds since 1970.
    """
    return [
        cri.Metric(
            name=sample.name,
            timestamp=time_ns,
            metric_type=cri.GAUGE if METRICS[sample.name].gauge else cri.COUNTER,
            label_values=(*base, *sample.labels),
            value=cri.UInt64Value(value=max(0, sample.value)),
        )
        for sample in samples
    ]


def of_cgroup(reading: Reading) -> Iterator[Sample]:
    """Yield CPU, memory and pressure of a container or pod."""
    yield from _cpu(reading.stats)
    yield from _memory(reading)
    for resource in ("cpu", "memory", "io"):
        pressure = reading.stats.pressure.get(resource)
        if pressure is None:
            continue
        stalled = pressure.full.total_ns if pressure.full else 0
        prefix = f"container_pressure_{resource}"
        yield Sample(f"{prefix}_waiting_seconds_total", pressure.some.total_ns // _SECOND)
        yield Sample(f"{prefix}_stalled_seconds_total", stalled // _SECOND)


def _cpu(stats: CgroupStats) -> Iterator[Sample]:
    cpu = stats.cpu
    if cpu is None:
        return
    yield Sample("container_cpu_usage_seconds_total", cpu.usage_ns // _SECOND, ("total",))
    yield Sample("container_cpu_user_seconds_total", cpu.user_ns // _SECOND)
    yield Sample("container_cpu_system_seconds_total", cpu.system_ns // _SECOND)
    yield Sample("container_cpu_cfs_periods_total", cpu.periods)
    yield Sample("container_cpu_cfs_throttled_periods_total", cpu.throttled_periods)
    yield Sample("container_cpu_cfs_throttled_seconds_total", cpu.throttled_ns // _SECOND)


def _memory(reading: Reading) -> Iterator[Sample]:
    memory, more = reading.stats.memory, reading.details.memory
    if memory is None:
        return
    yield Sample("container_memory_cache", more.cache)
    yield Sample("container_memory_rss", memory.rss)
    yield Sample("container_memory_kernel_usage", more.kernel)
    yield Sample("container_memory_mapped_file", more.mapped_file)
    yield Sample("container_memory_swap", memory.swap or 0)
    yield Sample("container_memory_failcnt", more.limit_hits)
    yield Sample("container_memory_usage_bytes", memory.usage)
    yield Sample("container_memory_max_usage_bytes", more.peak)
    yield Sample("container_memory_working_set_bytes", memory.working_set)
    for failure, own, tree in (
        ("pgfault", more.faults, more.tree_faults),
        ("pgmajfault", more.major_faults, more.tree_major_faults),
    ):
        yield Sample("container_memory_failures_total", own, (failure, "container"))
        yield Sample("container_memory_failures_total", tree, (failure, "hierarchy"))
    yield Sample("container_oom_events_total", reading.oom_kills)
    for size, (used, peak) in reading.details.hugepages.items():
        yield Sample("container_hugetlb_usage_bytes", used, (size,))
        yield Sample("container_hugetlb_max_usage_bytes", peak, (size,))


def of_disk(
    disk: Disk, layer_bytes: int, block_io: Sequence[BlockIo], devices: DeviceNames
) -> Iterator[Sample]:
    """Yield the writable layer's size, its file system's, and what went to and from devices."""
    labels = (disk.device,)
    yield Sample("container_fs_usage_bytes", layer_bytes, labels)
    yield Sample("container_fs_limit_bytes", disk.bytes, labels)
    yield Sample("container_fs_inodes_total", disk.inodes, labels)
    yield Sample("container_fs_inodes_free", disk.free_inodes, labels)
    for word, operation in (("reads", "Read"), ("writes", "Write")):
        found = [entry for entry in block_io if entry.operation == operation]
        for entry in found:
            named = (devices.of(entry.device),)
            yield Sample(f"container_fs_{word}_bytes_total", entry.bytes, named)
            yield Sample(f"container_fs_{word}_total", entry.requests, named)
        if not found:
            # A series that begins at 0, so that the first bytes are an increase of it.
            yield Sample(f"container_fs_{word}_bytes_total", 0, labels)
            yield Sample(f"container_fs_{word}_total", 0, labels)
    for entry in block_io:
        major, minor = entry.device
        yield Sample(
            "container_blkio_device_usage_total",
            entry.bytes,
            (devices.of(entry.device), str(major), str(minor), entry.operation),
        )


def of_processes(facts: ProcessFacts, stats: CgroupStats) -> Iterator[Sample]:
    """Yield how many processes, threads, descriptors and sockets there are."""
    yield Sample("container_processes", facts.processes)
    yield Sample("container_threads", stats.pids.current if stats.pids else facts.processes)
    yield Sample("container_threads_max", (stats.pids.limit if stats.pids else None) or 0)
    yield Sample("container_file_descriptors", facts.descriptors)
    yield Sample("container_sockets", facts.sockets)
    if facts.open_files_limit is not None:
        yield Sample("container_ulimits_soft", facts.open_files_limit, ("max_open_files",))


def of_settings(
    resources: cri.LinuxContainerResources, started_ns: int, time_ns: int
) -> Iterator[Sample]:
    """Yield limits and times of a container."""
    limit = max(0, resources.memory_limit_in_bytes)
    swap = resources.memory_swap_limit_in_bytes or limit
    yield Sample("container_last_seen", time_ns // _SECOND)
    yield Sample("container_start_time_seconds", started_ns // _SECOND)
    yield Sample("container_spec_cpu_period", resources.cpu_period or _DEFAULT_PERIOD_US)
    yield Sample("container_spec_cpu_quota", resources.cpu_quota)
    yield Sample("container_spec_cpu_shares", resources.cpu_shares or _DEFAULT_SHARES)
    yield Sample("container_spec_memory_limit_bytes", limit)
    yield Sample("container_spec_memory_reservation_limit_bytes", 0)
    yield Sample("container_spec_memory_swap_limit_bytes", swap)


def of_network(interfaces: Iterable[InterfaceUsage]) -> Iterator[Sample]:
    """Yield the counters of a pod's interfaces."""
    for interface in interfaces:
        label = (interface.name,)
        for way, short in (("receive", "rx"), ("transmit", "tx")):
            prefix = f"container_network_{way}"
            yield Sample(f"{prefix}_bytes_total", getattr(interface, f"{short}_bytes"), label)
            yield Sample(f"{prefix}_packets_total", getattr(interface, f"{short}_packets"), label)
            yield Sample(
                f"{prefix}_packets_dropped_total", getattr(interface, f"{short}_dropped"), label
            )
            yield Sample(f"{prefix}_errors_total", getattr(interface, f"{short}_errors"), label)
