"""ListContainerStats: what running containers use."""

from __future__ import annotations

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.filters import matches_container_stats
from runtime.cri.runtime import Runtime
from runtime.cri.stats_reading import is_running, read_containers


async def list_container_stats(
    runtime: Runtime, request: cri.ListContainerStatsRequest
) -> cri.ListContainerStatsResponse:
    """Return the statistics of the running containers that pass the filter."""
    chosen = [c for c in runtime.store.containers()
              if is_running(c) and matches_container_stats(request.filter, c)]  # fmt: skip
    return cri.ListContainerStatsResponse(stats=await read_containers(runtime, chosen))
