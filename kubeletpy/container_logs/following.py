"""Sending a log, and what is added to it until the container ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from .options import LogOptions
from .reading import LogFile
from .rendering import Renderer
from .watching import Bell, DirectoryWatches

_DOUBT = 30.0
"""Seconds after which a silent container is looked at, should the news of its end be lost."""


async def read_log(
    file: LogFile,
    options: LogOptions,
    alive: Callable[[], Awaitable[bool]],
    watches: DirectoryWatches,
    bell: Bell,
) -> AsyncGenerator[bytes, None]:
    """Yield a log as it is to be sent.

    Args:
        file: of the container; closed by whoever opened it.
        options: what is asked for.
        alive: says whether the container may still write.
        watches: tell of changes.
        bell: rung also by whoever knows that the container may have ended.

    Raises:
        LogError: the file cannot be read.
        OSError: it cannot be watched.
    """
    renderer = Renderer(options)
    if not options.follow:
        async for data in _rest(file, renderer):
            yield data
        return
    with watches.watching(file.directory, bell):
        ended = False
        while not renderer.done:
            # In this order: what was written before the end is read after it was seen.
            bell.still()
            if bell.doubtful:
                bell.doubtful = False
                ended = not await alive()
            async for data in _rest(file, renderer):
                yield data
            if ended:
                break
            await bell.wait(_DOUBT)
        file.finish()
        async for data in _rest(file, renderer):
            yield data


async def _rest(file: LogFile, renderer: Renderer) -> AsyncIterator[bytes]:
    while not renderer.done:
        data = await asyncio.to_thread(file.next, renderer)
        if data is None:
            return
        if data:
            yield data
