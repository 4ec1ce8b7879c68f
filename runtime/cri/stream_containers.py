"""StreamContainers: as ListContainers, in parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.chunks import by_size
from runtime.cri.list_containers import list_containers
from runtime.cri.runtime import Runtime


async def stream_containers(
    runtime: Runtime, request: cri.StreamContainersRequest, accept: Callable[[], Awaitable[None]]
) -> AsyncIterator[cri.StreamContainersResponse]:
    """Yield the containers that pass the filter, as they are now, and end."""
    everything = await list_containers(runtime, cri.ListContainersRequest(filter=request.filter))
    for part in by_size(everything.containers):
        yield cri.StreamContainersResponse(containers=part)
