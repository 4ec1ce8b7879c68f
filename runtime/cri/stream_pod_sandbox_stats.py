"""StreamPodSandboxStats: as ListPodSandboxStats, in parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.chunks import by_count, by_size
from runtime.cri.filters import matches_pod_stats
from runtime.cri.runtime import Runtime
from runtime.cri.stats_reading import is_measured, read_pods


async def stream_pod_sandbox_stats(
    runtime: Runtime,
    request: cri.StreamPodSandboxStatsRequest,
    accept: Callable[[], Awaitable[None]],
) -> AsyncIterator[cri.StreamPodSandboxStatsResponse]:
    """Yield the statistics of the ready pods that pass the filter, read part by part.

    Raises:
        OSError: the kernel refused to list network links.
    """
    pods = [pod for pod in runtime.store.pods()
            if is_measured(pod) and matches_pod_stats(request.filter, pod)]  # fmt: skip
    for group in by_count(pods):
        ready = [pod for pod in group if is_measured(pod)]
        for part in by_size(await read_pods(runtime, ready)):
            yield cri.StreamPodSandboxStatsResponse(pod_sandbox_stats=part)
