"""``/metrics/cadvisor``: metrics of containers and of the machine under cAdvisor's names.

What the runtime keeps comes from it (CRI ListPodSandboxMetrics); CRI carries whole numbers only, so
CPU time, of which dashboards take the rate, is put in with its fractions. For runtimes without that
call the most used metrics are made of their statistics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kubeletpy.core import Core
from kubeletpy.cri.client import CriError
from kubeletpy.registration.machine import Machine
from kubeletpy_proto import cri_pb2 as cri

from .collector import Collector, Measured
from .exposition import Families, written
from .node import Interface
from .pods import PodUsage
from .usage import Usage

_CPU = "container_cpu_usage_seconds_total"
_OWN = {
    _CPU: ("counter", "Cumulative cpu time consumed in seconds."),
    "container_memory_usage_bytes": ("gauge", "Current memory usage in bytes."),
    "container_memory_working_set_bytes": ("gauge", "Current working set in bytes."),
    "container_memory_rss": ("gauge", "Size of RSS in bytes."),
    "container_memory_swap": ("gauge", "Container swap usage in bytes."),
    "container_network_receive_bytes_total": ("counter", "Cumulative count of bytes received"),
    "container_network_receive_errors_total": ("counter", "Errors while bytes were received"),
    "container_network_transmit_bytes_total": ("counter", "Cumulative count of bytes sent"),
    "container_network_transmit_errors_total": ("counter", "Errors while bytes were sent"),
    "container_fs_usage_bytes": ("gauge", "Number of bytes consumed on this filesystem."),
    "container_scrape_error": ("gauge", "1 if there was an error getting container metrics"),
    "machine_cpu_cores": ("gauge", "Number of logical CPU cores."),
    "machine_memory_bytes": ("gauge", "Amount of memory installed on the machine."),
    "machine_swap_bytes": ("gauge", "Amount of swap memory available on the machine."),
}


class CadvisorMetrics:
    """Makes the text.

    Args:
        core: the kubelet's parts.
        collector: measures.
        machine: what does not change.
    """

    def __init__(self, core: Core, collector: Collector, machine: Machine) -> None:
        self._core = core
        self._collector = collector
        self._machine = machine
        self._descriptors: dict[str, cri.MetricDescriptor] | None = None

    async def text(self) -> str:
        """Return the metrics of now; those of containers may be missing, and that is told."""
        found = Families()
        for name, (kind, text) in _OWN.items():
            found.describe(name, kind, text)
        failed = 0
        try:
            measured = await self._collector.measured()
            self._add_node(found, measured)
            if not await self._add_kept(found, measured):
                add_measured(found, measured)
        except (CriError, OSError):
            failed = 1
        found.add("container_scrape_error", "", failed)
        self._add_machine(found)
        return found.text()

    async def _add_kept(self, found: Families, measured: Measured) -> bool:
        """Add the runtime's own metrics; False if it keeps none."""
        if self._descriptors is None:
            try:
                listed = await self._core.cri.list_metric_descriptors()
            except CriError as error:
                if not error.unimplemented:
                    raise
                listed = []
            self._descriptors = {one.name: one for one in listed}
        if not self._descriptors:
            return False
        add_kept(
            found, self._descriptors, await self._core.cri.list_pod_sandbox_metrics(), measured
        )
        return True

    def _add_node(self, found: Families, measured: Measured) -> None:
        node = measured.node
        add_usage(found, {**_NOBODY, "id": "/"}, node.usage)
        _add_network(found, {**_NOBODY, "id": "/"}, node.usage.time_ns, node.interfaces)
        layout = self._core.cgroups.layout
        for path in (layout.class_path(qos) for qos in ("Guaranteed", "Burstable", "BestEffort")):
            usage = self._collector.cgroup(path)
            if usage is not None:
                add_usage(found, {**_NOBODY, "id": path}, usage)

    def _add_machine(self, found: Families) -> None:
        machine = self._machine
        labels = written(
            {
                "boot_id": machine.boot_id,
                "machine_id": machine.machine_id,
                "system_uuid": machine.system_uuid,
            }
        )
        found.add("machine_cpu_cores", labels, machine.cpus)
        found.add("machine_memory_bytes", labels, machine.memory)
        found.add("machine_swap_bytes", labels, machine.swap)


_NOBODY = {"container": "", "image": "", "name": "", "namespace": "", "pod": ""}


def add_kept(
    found: Families,
    descriptors: Mapping[str, cri.MetricDescriptor],
    listed: Iterable[cri.PodSandboxMetrics],
    measured: Measured,
) -> None:
    """Add metrics that the runtime keeps (pure).

    Args:
        found: added to.
        descriptors: by the name of the metric.
        listed: the metrics.
        measured: CPU times with fractions.
    """
    exact: dict[str, Usage] = {}
    for pod in measured.pods:
        exact[pod.sandbox] = pod.usage
        exact.update({one.id: one.usage for one in pod.containers})
    pods = {pod.sandbox: pod for pod in measured.pods}
    for sandbox in listed:
        _add_all(found, descriptors, sandbox.metrics, exact.get(sandbox.pod_sandbox_id))
        whole = pods.get(sandbox.pod_sandbox_id)
        if whole is not None and not any(one.name == _CPU for one in sandbox.metrics):
            add_usage(found, _whole(whole), whole.usage)
        for one in sandbox.container_metrics:
            _add_all(found, descriptors, one.metrics, exact.get(one.container_id))


def _add_all(
    found: Families,
    descriptors: Mapping[str, cri.MetricDescriptor],
    metrics: Iterable[cri.Metric],
    usage: Usage | None,
) -> None:
    before: tuple[object, str] = ((), "")
    for metric in metrics:
        described = descriptors.get(metric.name)
        if described is None or len(described.label_keys) != len(metric.label_values):
            continue
        kind = "counter" if metric.metric_type == cri.COUNTER else "gauge"
        found.describe(metric.name, kind, described.help)
        key = (*described.label_keys, *metric.label_values)
        if before[0] != key:
            pairs = zip(described.label_keys, metric.label_values, strict=True)
            before = (key, written(pairs))
        value: float = metric.value.value
        if metric.name == _CPU and usage is not None and usage.cpu_ns is not None:
            value = usage.cpu_ns / 1e9
        found.add(metric.name, before[1], value, metric.timestamp // 1_000_000)


def add_measured(found: Families, measured: Measured) -> None:
    """Add the most used metrics of a runtime that keeps none (pure)."""
    for pod in measured.pods:
        whole = _whole(pod)
        add_usage(found, whole, pod.usage)
        _add_network(found, whole, pod.usage.time_ns, pod.interfaces)
        for one in pod.containers:
            labels = {**whole, "container": one.name, "id": one.id, "name": one.id}
            add_usage(found, labels, one.usage)
            if one.layer is not None:
                text = written({**labels, "device": ""})
                at = one.usage.time_ns // 1_000_000
                found.add("container_fs_usage_bytes", text, one.layer, at)


def _whole(pod: PodUsage) -> dict[str, str]:
    return {**_NOBODY, "id": pod.cgroup or pod.sandbox, "namespace": pod.namespace, "pod": pod.name}


def add_usage(found: Families, labels: Mapping[str, str], usage: Usage) -> None:
    """Add CPU and memory (pure)."""
    at, text = usage.time_ns // 1_000_000, written(labels)
    if usage.cpu_ns is not None:
        found.add(_CPU, written({**labels, "cpu": "total"}), usage.cpu_ns / 1e9, at)
    for name, value in (
        ("container_memory_usage_bytes", usage.usage),
        ("container_memory_working_set_bytes", usage.working_set),
        ("container_memory_rss", usage.rss),
        ("container_memory_swap", usage.swap),
    ):
        if value is not None:
            found.add(name, text, value, at)


def _add_network(
    found: Families, labels: Mapping[str, str], time_ns: int, interfaces: Iterable[Interface]
) -> None:
    at = time_ns // 1_000_000
    for one in interfaces:
        text = written({**labels, "interface": one.name})
        found.add("container_network_receive_bytes_total", text, one.rx_bytes, at)
        found.add("container_network_receive_errors_total", text, one.rx_errors, at)
        found.add("container_network_transmit_bytes_total", text, one.tx_bytes, at)
        found.add("container_network_transmit_errors_total", text, one.tx_errors, at)
