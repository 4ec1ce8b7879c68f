"""ContainerStats: what one container uses."""

from __future__ import annotations

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.runtime import Runtime
from runtime.cri.stats_reading import read_containers
from runtime.cri.statuses import visible_container
from runtime.state.store import NotFoundError


async def container_stats(
    runtime: Runtime, request: cri.ContainerStatsRequest
) -> cri.ContainerStatsResponse:
    """Return the statistics of a container; of one that does not run, its disk use only.

    Raises:
        NotFoundError: there is no such container.
    """
    container = runtime.store.container(request.container_id)
    if not visible_container(container):
        raise NotFoundError(f"container {container.id} is still being made")
    [stats] = await read_containers(runtime, [container])
    return cri.ContainerStatsResponse(stats=stats)
