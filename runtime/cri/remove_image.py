"""RemoveImage: an image with all its names."""

from __future__ import annotations

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.images import named_image
from runtime.cri.runtime import Runtime
from runtime.images.errors import ImageNotFound


async def remove_image(
    runtime: Runtime, request: cri.RemoveImageRequest
) -> cri.RemoveImageResponse:
    """Remove an image; one that is gone is fine.

    Containers made of it go on: the layers that they use stay until the last of them is removed.

    Raises:
        InvalidRequestError, UnknownHandlerError: no image is named, or an unknown handler.
        ImageError: the store could not be changed.
    """
    name = named_image(runtime, request.image)
    try:
        await runtime.images.remove(name)
    except ImageNotFound:
        # The protocol asks for idempotence.
        pass
    return cri.RemoveImageResponse()
