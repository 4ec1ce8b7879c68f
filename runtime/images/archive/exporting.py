"""Sends images as an archive: decided first, then read, verified and sent chunk by chunk."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from kubeletpy_common.logs import event
from runtime.images.archive.plan import Chosen, Format, Planner, choose_images
from runtime.images.archive.writer import Part, archive_bytes, write
from runtime.images.errors import ImageError
from runtime.images.platforms import Platform
from runtime.images.service import ImageStore
from runtime.images.threads import in_thread

log = logging.getLogger(__name__)

_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and how.

    Attributes:
        wanted: references or ids.
        form: of the archive.
        platform: the one to take, if not that which is unpacked.
        all_platforms: all that are here, with their index.
    """

    wanted: tuple[str, ...]
    form: Format
    platform: Platform | None = None
    all_platforms: bool = False


@dataclass(frozen=True)
class Archive:
    """An archive that is ready to be sent.

    Attributes:
        images: what is in it.
        size: its bytes.
        chunks: the bytes; to be read once.
    """

    images: tuple[Chosen, ...]
    size: int
    chunks: AsyncIterator[bytes]


@asynccontextmanager
async def export(store: ImageStore, options: ExportOptions) -> AsyncIterator[Archive]:
    """Prepare an export; until the block's end its blobs are kept from garbage collection.

    Raises:
        ImageError: an image, or a part of it, is not here or damaged; also while chunks are read.
    """
    started = time.monotonic()
    chosen = choose_images(store, options.wanted)
    with store.holding() as hold:
        loop = asyncio.get_running_loop()

        def hold_from_thread(digest: str) -> None:
            asyncio.run_coroutine_threadsafe(_hold(store, hold, digest), loop).result()

        planner = Planner(
            store, hold_from_thread, options.platform, all_platforms=options.all_platforms
        )
        parts = await in_thread(store.executor, _parts, planner, chosen, options.form)
        size = archive_bytes(parts)
        try:
            yield Archive(tuple(chosen), size, _chunks(store, parts))
        except ImageError as error:
            event(log, logging.WARNING, "image export failed", images=list(options.wanted),
                  reason=error.reason, why=str(error))  # fmt: skip
            raise
    event(log, logging.INFO, "images exported", images=[each.image.id for each in chosen],
          bytes=size, seconds=round(time.monotonic() - started, 3))  # fmt: skip


async def _hold(store: ImageStore, hold: Callable[[str], None], digest: str) -> None:
    hold(digest)
    # A collection that began before the hold may be about to remove it: let it finish.
    async with store.content.lock(digest):
        pass


def _parts(planner: Planner, chosen: Sequence[Chosen], form: Format) -> list[Part]:
    return planner.plan(chosen, form).parts()


async def _chunks(store: ImageStore, parts: Sequence[Part]) -> AsyncIterator[bytes]:
    pieces = write(parts)

    def gather() -> bytes:
        """Join what is small: headers, padding and documents are not worth a message each."""
        joined: list[bytes] = []
        size = 0
        for piece in pieces:
            joined.append(piece)
            size += len(piece)
            if size >= _CHUNK:
                break
        return b"".join(joined)

    try:
        while chunk := await in_thread(store.executor, gather):
            yield chunk
    finally:
        pieces.close()
