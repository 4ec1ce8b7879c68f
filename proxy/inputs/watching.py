"""Being told when files change, by inotify; nothing is looked at again and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from asyncinotify import Inotify, Mask

_WATCHED = (
    Mask.CLOSE_WRITE | Mask.MOVED_TO | Mask.MOVED_FROM | Mask.DELETE | Mask.CREATE
)  # fmt: skip
_BATCH = 0.02
"""Seconds within which events count as one: an editor renames, a ConfigMap swaps links."""


async def changes(path: Path) -> AsyncIterator[None]:
    """Yield whenever something in a directory, or beside and in a file, may have changed.

    It yields once at the begin, when the watch is in place: what is read after that is not missed.

    Raises:
        OSError: the directory does not exist or cannot be watched.
    """
    directory = path if path.is_dir() else path.absolute().parent
    with Inotify() as inotify:
        inotify.add_watch(directory, _WATCHED)
        yield
        while True:
            await inotify.get()
            try:
                async with asyncio.timeout(_BATCH):
                    while True:
                        await inotify.get()
            except TimeoutError:
                pass
            yield
