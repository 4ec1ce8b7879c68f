"""PullImage: from a registry into the store, verified and unpacked."""

from __future__ import annotations

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.images import named_image
from runtime.cri.runtime import Runtime
from runtime.images.settings import Credentials


async def pull_image(runtime: Runtime, request: cri.PullImageRequest) -> cri.PullImageResponse:
    """Pull an image and return its id.

    The credentials are for this pull alone and are kept nowhere.

    Raises:
        InvalidRequestError, UnknownHandlerError: no image is named, or an unknown handler.
        ImageError: the subclasses say what went wrong; the store is as before.
    """
    name = named_image(runtime, request.image)
    image = await runtime.images.pull(name, _credentials(request))
    return cri.PullImageResponse(image_ref=image.id)


def _credentials(request: cri.PullImageRequest) -> Credentials | None:
    if not request.HasField("auth"):
        return None
    given = request.auth
    return Credentials(
        username=given.username,
        password=given.password,
        auth=given.auth,
        server_address=given.server_address,
        identity_token=given.identity_token,
        registry_token=given.registry_token,
    )
