"""ListPodSandboxStats: what ready pods use."""

from __future__ import annotations

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.filters import matches_pod_stats
from runtime.cri.runtime import Runtime
from runtime.cri.stats_reading import is_measured, read_pods


async def list_pod_sandbox_stats(
    runtime: Runtime, request: cri.ListPodSandboxStatsRequest
) -> cri.ListPodSandboxStatsResponse:
    """Return the statistics of the ready pods that pass the filter.

    Raises:
        OSError: the kernel refused to list network links.
    """
    pods = [pod for pod in runtime.store.pods()
            if is_measured(pod) and matches_pod_stats(request.filter, pod)]  # fmt: skip
    return cri.ListPodSandboxStatsResponse(stats=await read_pods(runtime, pods))
