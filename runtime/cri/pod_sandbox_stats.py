"""PodSandboxStats: what one pod uses."""

from __future__ import annotations

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.runtime import Runtime
from runtime.cri.stats_reading import read_pods
from runtime.cri.statuses import visible
from runtime.state.store import NotFoundError


async def pod_sandbox_stats(
    runtime: Runtime, request: cri.PodSandboxStatsRequest
) -> cri.PodSandboxStatsResponse:
    """Return the statistics of a pod and of its running containers.

    Raises:
        NotFoundError: there is no such pod.
        OSError: the kernel refused to list network links.
    """
    pod = runtime.store.pod(request.pod_sandbox_id)
    if not visible(pod):
        raise NotFoundError(f"pod sandbox {pod.id} is still being made")
    [stats] = await read_pods(runtime, [pod])
    return cri.PodSandboxStatsResponse(stats=stats)
