"""ListImages: all images, or the one of a filter."""

from __future__ import annotations

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.images import image_message
from runtime.cri.runtime import Runtime
from runtime.images.errors import InvalidReference


async def list_images(runtime: Runtime, request: cri.ListImagesRequest) -> cri.ListImagesResponse:
    """Return the images; with a filter that names one, that one or none."""
    wanted = request.filter.image.image
    if not wanted:
        return cri.ListImagesResponse(images=[image_message(i) for i in runtime.images.list()])
    try:
        image = runtime.images.get(wanted)
    except InvalidReference:
        image = None
    return cri.ListImagesResponse(images=[image_message(image)] if image else [])
