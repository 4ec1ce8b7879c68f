"""Pull: an image from its registry, with progress."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from kubeletpy_proto import images_pb2 as pb
from runtime.cri.errors import InvalidRequestError
from runtime.cri.runtime import Runtime
from runtime.images.image import Image
from runtime.images.settings import Credentials
from runtime.transfer.feed import Feed
from runtime.transfer.messages import image_message


async def pull(runtime: Runtime, request: pb.PullRequest) -> AsyncGenerator[pb.PullResponse, None]:
    """Bring an image here; it ends with the call.

    Raises:
        InvalidRequestError: no image is named.
        ImageError: the subclasses say what went wrong; the store is as before.
    """
    if not request.image:
        raise InvalidRequestError("image is empty")
    feed: Feed[Image] = Feed()
    result: list[Image] = []
    work = runtime.images.pull(request.image, _credentials(request), progress=feed.report)
    async with aclosing(feed.run(work, result)) as reports:
        async for progress in reports:
            yield pb.PullResponse(progress=progress)
    yield pb.PullResponse(image=image_message(result[0]))


def _credentials(request: pb.PullRequest) -> Credentials | None:
    if not request.HasField("credentials"):
        return None
    given = request.credentials
    return Credentials(
        username=given.username,
        password=given.password,
        auth=given.auth,
        server_address=given.server_address,
        identity_token=given.identity_token,
        registry_token=given.registry_token,
    )
