"""ListPodSandboxMetrics: metrics of all ready pods, by cAdvisor's names."""

from __future__ import annotations

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.metric_reading import read_metrics
from runtime.cri.runtime import Runtime
from runtime.cri.stats_reading import is_measured


async def list_pod_sandbox_metrics(
    runtime: Runtime, request: cri.ListPodSandboxMetricsRequest
) -> cri.ListPodSandboxMetricsResponse:
    """Return the metrics of the ready pods and of their running containers.

    Raises:
        OSError: the kernel refused to list network links, or the disk to tell its size.
    """
    pods = [pod for pod in runtime.store.pods() if is_measured(pod)]
    return cri.ListPodSandboxMetricsResponse(pod_metrics=await read_metrics(runtime, pods))
