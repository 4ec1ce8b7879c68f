"""Images and platforms as the messages have them (pure)."""

from __future__ import annotations

from kubeletpy_proto import images_pb2 as pb
from runtime.cri.errors import InvalidRequestError
from runtime.images.image import Image
from runtime.images.platforms import Platform, normalise


def image_message(image: Image) -> pb.Image:
    """Return an image as a message."""
    platform = image.config.platform
    return pb.Image(
        id=image.id,
        tags=image.repo_tags,
        digests=image.repo_digests,
        size=image.size,
        platform=str(normalise(platform)) if platform.architecture else "",
    )


def parse_platform(text: str) -> Platform | None:
    """Parse ``os/architecture[/variant]``; None for an empty text.

    Raises:
        InvalidRequestError: it has another form.
    """
    if not text:
        return None
    parts = text.split("/")
    if not 2 <= len(parts) <= 3 or not all(part.isascii() and part for part in parts):
        raise InvalidRequestError(
            f"platform {text[:100]!r} is not os/architecture[/variant], as in linux/arm64"
        )
    return normalise(Platform(*parts))
