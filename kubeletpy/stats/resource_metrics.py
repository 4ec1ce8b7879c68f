"""``/metrics/resource``: CPU and memory, for metrics-server (pure).

Source: Kubernetes documentation, "Node metrics data"; KEP-727.
"""

from __future__ import annotations

from collections.abc import Mapping

from kubeletpy.api.pod import Pod
from kubeletpy.server.finding import find_status

from .collector import Measured
from .exposition import Families, written
from .usage import Usage

_OF = {"node": "the node", "pod": "the pod", "container": "the container"}


def resource_metrics(measured: Measured | None, pods: Mapping[str, Pod]) -> str:
    """Return the text.

    Args:
        measured: None: it could not be measured.
        pods: by UID.
    """
    found = _described()
    failed = 0 if measured is not None else 1
    if measured is not None:
        _add(found, "node", "", measured.node.usage)
        for pod in measured.pods:
            labels = {"namespace": pod.namespace, "pod": pod.name}
            spec = pods.get(pod.uid)
            for one in pod.containers:
                named = written({**labels, "container": one.name})
                _add(found, "container", named, one.usage)
                status = find_status(spec, one.name) if spec is not None else None
                running = status.state.running if status is not None else None
                if running is not None and running.started_at is not None:
                    begun = running.started_at.timestamp()
                    found.add("container_start_time_seconds", named, begun)
            _add(found, "pod", written(labels), pod.usage)
    found.add("resource_scrape_error", "", failed)
    return found.text()


def _add(found: Families, kind: str, labels: str, usage: Usage) -> None:
    at = usage.time_ns // 1_000_000
    if usage.cpu_ns is not None:
        found.add(f"{kind}_cpu_usage_seconds_total", labels, usage.cpu_ns / 1e9, at)
    if usage.working_set is not None:
        found.add(f"{kind}_memory_working_set_bytes", labels, usage.working_set, at)
    if usage.swap is not None:
        found.add(f"{kind}_swap_usage_bytes", labels, usage.swap, at)
    if kind == "container" and usage.swap is not None and usage.swap_available is not None:
        limit = usage.swap + usage.swap_available
        found.add("container_swap_limit_bytes", labels, limit, at)


def _described() -> Families:
    found = Families()
    for kind in ("container", "node", "pod"):
        whose = _OF[kind]
        found.describe(
            f"{kind}_cpu_usage_seconds_total",
            "counter",
            f"[STABLE] Cumulative cpu time consumed by {whose} in core-seconds",
        )
        found.describe(
            f"{kind}_memory_working_set_bytes",
            "gauge",
            f"[STABLE] Current working set of {whose} in bytes",
        )
        found.describe(
            f"{kind}_swap_usage_bytes",
            "gauge",
            f"[ALPHA] Current swap usage of {whose} in bytes",
        )
    text = "[ALPHA] Current amount of the container swap limit in bytes"
    found.describe("container_swap_limit_bytes", "gauge", text)
    text = "[STABLE] Start time of the container since unix epoch in seconds"
    found.describe("container_start_time_seconds", "gauge", text)
    text = "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise"
    found.describe("resource_scrape_error", "gauge", text)
    return found
