"""The metrics of pods and containers: names, meanings and labels as cAdvisor's (pure data).

The set is the one that a kubelet with PodAndContainerStatsFromCRI expects of a runtime (KEP-2371,
"cAdvisor-less, CRI-full Container and Pod Stats"). The protocol carries whole numbers: a metric in
seconds is cut to whole seconds, as with its other runtimes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kubeletpy_proto import cri_pb2 as cri

BASE_LABELS: Final = ("pod", "namespace", "container", "id", "image", "name")


@dataclass(frozen=True)
class MetricKind:
    """One metric.

    Attributes:
        name: as Prometheus shows it.
        help: its meaning.
        gauge: it can go down; else it is a counter.
        labels: beyond the base labels.
    """

    name: str
    help: str
    gauge: bool = False
    labels: tuple[str, ...] = ()

    def descriptor(self) -> cri.MetricDescriptor:
        """Return the protocol's description of it."""
        return cri.MetricDescriptor(
            name=self.name, help=self.help, label_keys=(*BASE_LABELS, *self.labels)
        )


def _counter(name: str, text: str, *labels: str) -> MetricKind:
    return MetricKind(f"container_{name}", text, labels=labels)


def _gauge(name: str, text: str, *labels: str) -> MetricKind:
    return MetricKind(f"container_{name}", text, gauge=True, labels=labels)


_CPU: Final = (
    _counter("cpu_usage_seconds_total", "CPU time used, in seconds.", "cpu"),
    _counter("cpu_user_seconds_total", "CPU time used in user mode, in seconds."),
    _counter("cpu_system_seconds_total", "CPU time used in the kernel, in seconds."),
    _counter("cpu_cfs_periods_total", "Elapsed periods in which a CPU quota was in force."),
    _counter("cpu_cfs_throttled_periods_total", "Periods in which the CPU quota was used up."),
    _counter("cpu_cfs_throttled_seconds_total", "Time that tasks were held back, in seconds."),
)
_MEMORY: Final = (
    _gauge("memory_cache", "Page cache, in bytes."),
    _gauge("memory_rss", "Anonymous memory, in bytes."),
    _gauge("memory_kernel_usage", "Memory of the kernel's own objects, in bytes."),
    _gauge("memory_mapped_file", "Mapped files, in bytes."),
    _gauge("memory_swap", "Swap in use, in bytes."),
    _counter("memory_failcnt", "How often the memory limit was reached."),
    _gauge("memory_usage_bytes", "Memory in use, page cache included, in bytes."),
    _gauge("memory_max_usage_bytes", "The highest memory use so far, in bytes."),
    _gauge("memory_working_set_bytes", "Memory in use without inactive page cache, in bytes."),
    _counter("memory_failures_total", "Page faults.", "failure_type", "scope"),
    _counter("oom_events_total", "Processes that the OOM killer has killed."),
    _gauge("hugetlb_usage_bytes", "Huge pages in use, in bytes.", "pagesize"),
    _gauge("hugetlb_max_usage_bytes", "The highest use of huge pages, in bytes.", "pagesize"),
)
_NETWORK: Final = tuple(
    _counter(f"network_{way}_{what}_total", f"{text} {done}.", "interface")
    for way, done in (("receive", "received"), ("transmit", "transmitted"))
    for what, text in (
        ("bytes", "Bytes"),
        ("packets", "Packets"),
        ("packets_dropped", "Packets dropped that should have been"),
        ("errors", "Errors while packets were"),
    )
)
_DISK: Final = (
    _gauge("fs_usage_bytes", "Disk use of the writable layer, in bytes.", "device"),
    _gauge("fs_limit_bytes", "Size of the file system of the writable layer, in bytes.", "device"),
    _gauge("fs_inodes_total", "Inodes of the file system of the writable layer.", "device"),
    _gauge("fs_inodes_free", "Free inodes of that file system.", "device"),
    _counter("fs_reads_bytes_total", "Bytes read from the device.", "device"),
    _counter("fs_reads_total", "Reads from the device.", "device"),
    _counter("fs_writes_bytes_total", "Bytes written to the device.", "device"),
    _counter("fs_writes_total", "Writes to the device.", "device"),
    _counter(
        "blkio_device_usage_total",
        "Bytes to and from the device, by operation.",
        "device",
        "major",
        "minor",
        "operation",
    ),
)
_PRESSURE: Final = tuple(
    _counter(f"pressure_{resource}_{kind}_seconds_total", f"Time that {who}, in seconds.")
    for resource in ("cpu", "memory", "io")
    for kind, who in (
        ("waiting", f"some task waited for {resource}"),
        ("stalled", f"all tasks waited for {resource} at once"),
    )
)
_PROCESSES: Final = (
    _gauge("processes", "Processes."),
    _gauge("threads", "Threads."),
    _gauge("threads_max", "How many threads there may be; 0 for no limit."),
    _gauge("file_descriptors", "Open file descriptors."),
    _gauge("sockets", "Open sockets."),
    _gauge("ulimits_soft", "Soft resource limits of the first process.", "ulimit"),
)
_SPEC: Final = (
    _gauge("last_seen", "When the container was last seen, in seconds since 1970."),
    _gauge("start_time_seconds", "When the container was started, in seconds since 1970."),
    _gauge("spec_cpu_period", "Length of a CPU period, in microseconds."),
    _gauge("spec_cpu_quota", "CPU time in a period, in microseconds; 0 for no limit."),
    _gauge("spec_cpu_shares", "Relative weight of CPU time."),
    _gauge("spec_memory_limit_bytes", "Memory limit, in bytes; 0 for none."),
    _gauge("spec_memory_reservation_limit_bytes", "Reserved memory, in bytes."),
    _gauge("spec_memory_swap_limit_bytes", "Limit of memory and swap, in bytes; 0 for none."),
)

METRICS: Final = {
    kind.name: kind
    for kind in (*_CPU, *_MEMORY, *_NETWORK, *_DISK, *_PRESSURE, *_PROCESSES, *_SPEC)
}
"""All metrics by name."""
