"""StreamPodSandboxMetrics: as ListPodSandboxMetrics, in parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.chunks import by_count, by_size
from runtime.cri.metric_reading import read_metrics
from runtime.cri.runtime import Runtime
from runtime.cri.stats_reading import is_measured


async def stream_pod_sandbox_metrics(
    runtime: Runtime,
    request: cri.StreamPodSandboxMetricsRequest,
    accept: Callable[[], Awaitable[None]],
) -> AsyncIterator[cri.StreamPodSandboxMetricsResponse]:
    """Yield the metrics of the ready pods, read part by part.

    Raises:
        OSError: the kernel refused to list network links, or the disk to tell its size.
    """
    pods = [pod for pod in runtime.store.pods() if is_measured(pod)]
    for group in by_count(pods):
        ready = [pod for pod in group if is_measured(pod)]
        for part in by_size(await read_metrics(runtime, ready)):
            yield cri.StreamPodSandboxMetricsResponse(pod_sandbox_metrics=part)
