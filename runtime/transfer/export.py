"""Export: images as an archive."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

from kubeletpy_proto import images_pb2 as pb
from runtime.cri.errors import InvalidRequestError
from runtime.cri.runtime import Runtime
from runtime.images.archive.exporting import ExportOptions
from runtime.images.archive.exporting import export as export_images
from runtime.images.archive.plan import Chosen, Format
from runtime.transfer.messages import image_message, parse_platform

_FORMATS: Final[dict[pb.ArchiveFormat.ValueType, Format]] = {
    pb.OCI_ARCHIVE: "oci-archive",
    pb.DOCKER_ARCHIVE: "docker-archive",
}


async def export(
    runtime: Runtime, request: pb.ExportRequest
) -> AsyncGenerator[pb.ExportResponse, None]:
    """Send an archive, the plan of it first.

    Raises:
        InvalidRequestError: the request makes no sense.
        ImageError: an image is not here, or damaged.
    """
    async with export_images(runtime.images, _options(request)) as archive:
        images = [_message(each) for each in archive.images]
        yield pb.ExportResponse(plan=pb.ExportPlan(bytes=archive.size, images=images))
        async for chunk in archive.chunks:
            yield pb.ExportResponse(chunk=chunk)


def _options(request: pb.ExportRequest) -> ExportOptions:
    form = _FORMATS.get(request.format)
    if not request.images or not all(request.images):
        raise InvalidRequestError("images is empty: name what to export")
    if form is None:
        raise InvalidRequestError("format is neither OCI_ARCHIVE nor DOCKER_ARCHIVE")
    if request.all_platforms and (form != "oci-archive" or request.platform):
        raise InvalidRequestError("all_platforms goes with OCI_ARCHIVE, and without a platform")
    return ExportOptions(
        tuple(request.images), form, parse_platform(request.platform), request.all_platforms
    )


def _message(each: Chosen) -> pb.Image:
    message = image_message(each.image)
    del message.tags[:]
    message.tags.extend(each.tags)
    return message
