"""StreamImages: as ListImages, in parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.chunks import by_size
from runtime.cri.list_images import list_images
from runtime.cri.runtime import Runtime


async def stream_images(
    runtime: Runtime, request: cri.StreamImagesRequest, accept: Callable[[], Awaitable[None]]
) -> AsyncIterator[cri.StreamImagesResponse]:
    """Yield the images that pass the filter, as they are now, and end."""
    everything = await list_images(runtime, cri.ListImagesRequest(filter=request.filter))
    for part in by_size(everything.images):
        yield cri.StreamImagesResponse(images=part)
