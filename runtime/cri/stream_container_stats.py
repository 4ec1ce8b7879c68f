"""StreamContainerStats: as ListContainerStats, in parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.chunks import by_count, by_size
from runtime.cri.filters import matches_container_stats
from runtime.cri.runtime import Runtime
from runtime.cri.stats_reading import is_running, read_containers


async def stream_container_stats(
    runtime: Runtime,
    request: cri.StreamContainerStatsRequest,
    accept: Callable[[], Awaitable[None]],
) -> AsyncIterator[cri.StreamContainerStatsResponse]:
    """Yield the statistics of the running containers that pass the filter, read part by part."""
    chosen = [c for c in runtime.store.containers()
              if is_running(c) and matches_container_stats(request.filter, c)]  # fmt: skip
    for group in by_count(chosen):
        running = [container for container in group if is_running(container)]
        for part in by_size(await read_containers(runtime, running)):
            yield cri.StreamContainerStatsResponse(container_stats=part)
