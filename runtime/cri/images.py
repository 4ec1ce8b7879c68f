"""Images as CRI shows them (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubeletpy_proto import cri_pb2 as cri

if TYPE_CHECKING:
    from runtime.images.image import Image


def image_message(image: Image) -> cri.Image:
    """Return an image with the user that its config names: a number, or else a name."""
    message = cri.Image(
        id=image.id,
        repo_tags=image.repo_tags,
        repo_digests=image.repo_digests,
        size=image.size,
        pinned=image.pinned,
    )
    user = image.config.user.partition(":")[0]
    if user.isascii() and user.isdigit() and int(user[:20]) < 1 << 63:
        message.uid.value = int(user)
    elif user:
        message.username = user
    return message
