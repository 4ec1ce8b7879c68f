"""Import: the images of an archive that the client sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

from kubeletpy_proto import images_pb2 as pb
from runtime.cri.errors import InvalidRequestError
from runtime.cri.runtime import Runtime
from runtime.images.archive.importing import ImageImport, Imported, Wanted
from runtime.images.errors import InvalidReference
from runtime.transfer.feed import Feed
from runtime.transfer.messages import image_message, parse_platform

_PARALLEL: Final = 2
_slots = asyncio.Semaphore(_PARALLEL)
"""Imports at a time: each has a thread and a stream of a client; more wait for their turn."""


async def import_(
    runtime: Runtime, requests: AsyncIterator[pb.ImportRequest]
) -> AsyncGenerator[pb.ImportResponse, None]:
    """Take an archive and record what is in it; it ends with the call, and then leaves nothing.

    Raises:
        InvalidRequestError: the first request holds no options, or senseless ones.
        ImageError: the subclasses say what went wrong; no image was recorded.
    """
    first = await anext(aiter(requests), None)
    if first is None or first.WhichOneof("part") != "options":
        raise InvalidRequestError("the first request of an import holds its options")
    wanted = _wanted(runtime, first.options)
    feed: Feed[Imported] = Feed(receiving=True)
    result: list[Imported] = []
    async with _slots:
        work = ImageImport(runtime.images, wanted, feed.report).run(_chunks(requests))
        async with aclosing(feed.run(work, result)) as reports:
            async for progress in reports:
                yield pb.ImportResponse(progress=progress)
    images = [image_message(image) for image in result[0].images]
    yield pb.ImportResponse(result=pb.ImportResult(images=images, skipped=result[0].skipped))


def _wanted(runtime: Runtime, options: pb.ImportOptions) -> Wanted:
    wanted = Wanted(
        host=runtime.images.config.platform,
        platform=parse_platform(options.platform),
        all_platforms=options.all_platforms,
        name=options.name,
        tag=options.tag,
    )
    try:
        wanted.named("")
    except InvalidReference as error:
        raise InvalidRequestError(str(error)) from None
    return wanted


async def _chunks(requests: AsyncIterator[pb.ImportRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise InvalidRequestError("only the first request of an import holds options")
        yield request.chunk
