"""The metrics that change with what happens.

Source: Kubernetes documentation, "Kubernetes Metrics Reference"; names that dashboards rely on.
"""

from __future__ import annotations

import re
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from .buckets import DEFAULT, OPERATIONS, STARTS
from .node_instruments import NodeInstruments

# As Go names the operations; what is not here is its CRI name in snake case.
_NAMES: Final = {
    "UpdateRuntimeConfig": "update_runtime_config",
    "RuntimeConfig": "runtime_config",
    "ListPodSandbox": "list_podsandbox",
    "ListPodSandboxStats": "list_podsandbox_stats",
    "ImageFsInfo": "image_fs_info",
}
_WORDS: Final = re.compile(r"(?<!^)(?=[A-Z])")


def operation_type(call: str) -> str:
    """Return Go's name of a CRI call: ``RunPodSandbox`` is ``run_podsandbox`` (pure)."""
    named = _NAMES.get(call)
    if named is not None:
        return named
    return _WORDS.sub("_", call).lower().replace("pod_sandbox", "podsandbox")


class Instruments:
    """The metrics.

    Attributes:
        registry: of ``/metrics``.
        probes: of ``/metrics/probes``.
        node: those of what is done for the node.
    """

    def __init__(self) -> None:
        # Series of their own that tell when a counter was made: Go has none.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(auto_describe=False)
        self.probes = CollectorRegistry(auto_describe=False)
        self._of_runtime(self.registry)
        self._of_starts(self.registry)
        self._of_pods(self.registry)
        self._of_server(self.registry)
        self._of_probes(self.probes)
        self.node = NodeInstruments(self.registry)

    def _of_runtime(self, one: CollectorRegistry) -> None:
        self.operations = Counter(
            "kubelet_runtime_operations_total",
            "Cumulative number of runtime operations by operation type.",
            ["operation_type"], registry=one,
        )  # fmt: skip
        self.operation_errors = Counter(
            "kubelet_runtime_operations_errors_total",
            "Cumulative number of runtime operation errors by operation type.",
            ["operation_type"], registry=one,
        )  # fmt: skip
        self.operation_seconds = Histogram(
            "kubelet_runtime_operations_duration_seconds",
            "Duration in seconds of runtime operations. Broken down by operation type.",
            ["operation_type"], buckets=OPERATIONS, registry=one,
        )  # fmt: skip
        self.worker_seconds = Histogram(
            "kubelet_pod_worker_duration_seconds",
            "Duration in seconds to sync a single pod. Broken down by operation type: create, "
            "update, or sync",
            ["operation_type"], buckets=DEFAULT, registry=one,
        )  # fmt: skip

    def _of_starts(self, one: CollectorRegistry) -> None:
        self.start_seconds = Histogram(
            "kubelet_pod_start_duration_seconds",
            "Duration in seconds from kubelet seeing a pod for the first time to the pod starting "
            "to run",
            buckets=STARTS, registry=one,
        )  # fmt: skip
        self.start_sli_seconds = Histogram(
            "kubelet_pod_start_sli_duration_seconds",
            "Duration in seconds to start a pod, excluding time to pull images, measured from pod "
            "creation timestamp to when all its containers are reported as started",
            buckets=STARTS, registry=one,
        )  # fmt: skip
        self.start_total_seconds = Histogram(
            "kubelet_pod_start_total_duration_seconds",
            "Duration in seconds to start a pod since creation, including time to pull images",
            buckets=STARTS, registry=one,
        )  # fmt: skip

    def _of_pods(self, one: CollectorRegistry) -> None:
        self.started_pods = Counter(
            "kubelet_started_pods_total", "Cumulative number of pods started", registry=one
        )
        self.started_pods_errors = Counter(
            "kubelet_started_pods_errors_total",
            "Cumulative number of errors when starting pods", ["message"], registry=one,
        )  # fmt: skip
        self.started_user_namespaced_pods = Counter(
            "kubelet_started_user_namespaced_pods_total",
            "Cumulative number of pods with user namespaces started", registry=one,
        )  # fmt: skip
        self.started_user_namespaced_pods_errors = Counter(
            "kubelet_started_user_namespaced_pods_errors_total",
            "Cumulative number of errors when starting pods with user namespaces", registry=one,
        )  # fmt: skip
        self.terminated_containers = Counter(
            "kubelet_terminated_containers_total",
            "Cumulative number of container terminations.",
            ["container_type", "exit_code", "reason"], registry=one,
        )  # fmt: skip
        self.started_containers = Counter(
            "kubelet_started_containers_total",
            "Cumulative number of containers started", ["container_type"], registry=one,
        )  # fmt: skip
        self.started_containers_errors = Counter(
            "kubelet_started_containers_errors_total",
            "Cumulative number of errors when starting containers",
            ["code", "container_type"], registry=one,
        )  # fmt: skip

    def _of_server(self, one: CollectorRegistry) -> None:
        labels = ["method", "path", "server_type", "long_running"]
        self.http_seconds = Histogram(
            "kubelet_http_requests_duration_seconds", "Duration in seconds to serve http requests",
            labels, buckets=DEFAULT, registry=one,
        )  # fmt: skip
        self.http_inflight = Gauge(
            "kubelet_http_inflight_requests", "Number of the inflight http requests", labels,
            registry=one,
        )  # fmt: skip
        self.http_requests = Counter(
            "kubelet_http_requests_total",
            "Number of the http requests received since the server started",
            labels, registry=one,
        )  # fmt: skip
        self.client_requests = Counter(
            "rest_client_requests_total",
            "Number of HTTP requests, partitioned by status code, method, and host.",
            ["code", "method", "host"], registry=one,
        )  # fmt: skip
        self.node_name = Gauge(
            "kubelet_node_name", "The node's name. The count is always 1.", ["node"], registry=one
        )
        self.build = Gauge(
            "kubernetes_build_info",
            "A metric with a constant '1' value labeled by the version that is compatible with.",
            ["git_version", "platform"], registry=one,
        )  # fmt: skip

    def _of_probes(self, one: CollectorRegistry) -> None:
        self.probe_runs = Counter(
            "prober_probe_total",
            "Cumulative number of a liveness, readiness or startup probe for a container by "
            "result.",
            ["probe_type", "result", "container", "pod", "namespace", "pod_uid"],
            registry=one,
        )  # fmt: skip
        self.probe_seconds = Histogram(
            "prober_probe_duration_seconds", "Duration in seconds for a probe response.",
            ["probe_type", "container", "pod", "namespace"], buckets=DEFAULT,
            registry=one,
        )  # fmt: skip
