"""RemoveImage: an image with all its names."""

from __future__ import annotations

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.errors import InvalidRequestError
from runtime.cri.runtime import Runtime
from runtime.images.errors import ImageNotFound


async def remove_image(
    runtime: Runtime, request: cri.RemoveImageRequest
) -> cri.RemoveImageResponse:
    """Remove an image; one that is gone is fine.

    Containers made of it go on: the layers that they use stay until the last of them is removed.

    Raises:
        InvalidRequestError: no image is named.
        ImageError: the store could not be changed.
    """
    if not request.image.image:
        raise InvalidRequestError("image.image is empty")
    try:
        await runtime.images.remove(request.image.image)
    except ImageNotFound:
        # The protocol asks for idempotence.
        pass
    return cri.RemoveImageResponse()
