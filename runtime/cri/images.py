"""Images as CRI shows them (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.errors import InvalidRequestError

if TYPE_CHECKING:
    from runtime.cri.runtime import Runtime
    from runtime.images.image import Image


def named_image(runtime: Runtime, spec: cri.ImageSpec) -> str:
    """Return the name or id of the image that a request is about.

    All runtime handlers share one store, so the handler of an image matters only in that it has to
    exist (CRI ``ImageSpec.runtime_handler``).

    Raises:
        InvalidRequestError: no image is named.
        UnknownHandlerError: its runtime handler is not configured.
    """
    if not spec.image:
        raise InvalidRequestError("image.image is empty")
    runtime.handlers.resolve(spec.runtime_handler)
    return spec.image


def image_message(image: Image) -> cri.Image:
    """Return an image with the user that its config names: a number, or else a name."""
    message = cri.Image(
        id=image.id,
        repo_tags=image.repo_tags,
        repo_digests=image.repo_digests,
        size=image.size,
        pinned=image.pinned,
        spec=cri.ImageSpec(image=image.id),
    )
    user = image.config.user.partition(":")[0]
    if user.isascii() and user.isdigit() and int(user[:20]) < 1 << 63:
        message.uid.value = int(user)
    elif user:
        message.username = user
    return message
