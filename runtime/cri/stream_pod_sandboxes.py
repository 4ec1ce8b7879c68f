"""StreamPodSandboxes: as ListPodSandbox, in parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.chunks import by_size
from runtime.cri.list_pod_sandbox import list_pod_sandbox
from runtime.cri.runtime import Runtime


async def stream_pod_sandboxes(
    runtime: Runtime, request: cri.StreamPodSandboxesRequest, accept: Callable[[], Awaitable[None]]
) -> AsyncIterator[cri.StreamPodSandboxesResponse]:
    """Yield the pods that pass the filter, as they are now, and end."""
    everything = await list_pod_sandbox(runtime, cri.ListPodSandboxRequest(filter=request.filter))
    for part in by_size(everything.items):
        yield cri.StreamPodSandboxesResponse(pod_sandboxes=part)
