"""Brings the images of an archive in: received, found, unpacked, then recorded all together.

What arrives becomes blobs of the content store by digest, held from garbage collection by this
import alone: whatever ends it early, nothing is recorded and the blobs are garbage.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from kubeletpy_common.logs import event
from runtime.images.archive import docker, layout
from runtime.images.archive.contents import DOCUMENTS, INDEX, LAYOUT, Blob, Contents, FoundImage
from runtime.images.archive.contents import Wanted as Wanted
from runtime.images.archive.reader import (
    CHUNK,
    ArchiveLimits,
    ArchiveReader,
    Entry,
    layer_compression,
)
from runtime.images.errors import ImageError, MalformedImage
from runtime.images.image import Image
from runtime.images.incoming import Incoming
from runtime.images.manifest import MAX_DOCUMENT
from runtime.images.progress import ProgressCallback, PullProgress
from runtime.images.pull import Pull
from runtime.images.reference import is_digest
from runtime.images.service import ImageStore
from runtime.images.threads import Stopped, in_thread

log = logging.getLogger(__name__)

STALL_SECONDS: Final = 300.0
"""How long a client may take for the next chunk; it may read from a slow pipe."""

_BLOB = re.compile(r"blobs/(sha256|sha512)/([0-9a-f]{64,128})", re.ASCII)
_LEGACY = ("json", "VERSION")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Imported:
    """What an import brought in.

    Attributes:
        images: as they are recorded now.
        skipped: what of the archive was left out, and why.
    """

    images: tuple[Image, ...]
    skipped: tuple[str, ...]


class ClientStalled(ImageError):
    """The client sends nothing more, and does not end the archive either."""

    reason = "client-stalled"
    transient = True


class _Inbox:
    """Chunks that a client sends, read by a thread: one is asked for when the last is used up."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._loop = asyncio.get_running_loop()
        self._left = memoryview(b"")
        self._ended = self._stopped = False
        self._pending: Future[bytes] | None = None

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes, none at the end; blocks.

        Raises:
            Stopped: :meth:`stop` was called.
            ClientStalled: nothing came for too long.
        """
        while not self._left and not self._ended:
            self._pending = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
            if self._stopped:
                self._pending.cancel()
            try:
                chunk = self._pending.result()
            except CancelledError:
                raise Stopped from None
            self._left, self._ended = memoryview(chunk), not chunk
        data, self._left = bytes(self._left[:size]), self._left[size:]
        return data

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(STALL_SECONDS):
                async for chunk in self._chunks:
                    if chunk:
                        return chunk
        except TimeoutError:
            raise ClientStalled(f"nothing came from the client for {STALL_SECONDS:g} s") from None
        return b""

    def stop(self) -> None:
        """Make a waiting reader give up; called on the event loop."""
        self._stopped = True
        if self._pending is not None:
            self._pending.cancel()


class ImageImport:
    """One import; :meth:`run` it."""

    def __init__(
        self,
        store: ImageStore,
        wanted: Wanted,
        progress: ProgressCallback,
        limits: ArchiveLimits | None = None,
    ) -> None:
        """Prepare.

        Args:
            store: gets the images.
            wanted: what to take.
            progress: called on the event loop; the stage ``downloading`` means received.
            limits: bounds.
        """
        self._store = store
        self._wanted = wanted
        self._progress = progress
        self._limits = limits or ArchiveLimits()
        self._contents = Contents()

    async def run(self, chunks: AsyncIterator[bytes]) -> Imported:
        """Take the archive and return what is in it; cancellable at any time.

        Raises:
            ImageError: one of its subclasses; the store has no image more than before.
        """
        started = time.monotonic()
        try:
            with self._store.holding() as hold:
                await self._receive(chunks, hold)
                found, skipped = await self._in_thread(self._find)
                for image in found:
                    await self._store_documents(image, hold)
                recorded = await self._record(found, hold)
        except ImageError as error:
            event(log, logging.WARNING, "image import failed", reason=error.reason, why=str(error))
            raise
        finally:
            # What the archive held beside its images, or all of it after a failure.
            await asyncio.shield(self._store.collect_garbage())
        event(log, logging.INFO, "images imported", images=[image.id for image in recorded],
              seconds=round(time.monotonic() - started, 3))  # fmt: skip
        return Imported(tuple(recorded), tuple(skipped))

    async def _in_thread(self, function: Callable[..., _T], *arguments: Any) -> _T:
        return await in_thread(self._store.executor, function, *arguments)

    # Receiving.

    async def _receive(self, chunks: AsyncIterator[bytes], hold: Callable[[str], None]) -> None:
        # A thread of its own: it waits for the client, which must not keep a pull waiting.
        inbox = _Inbox(chunks)
        reader = ArchiveReader(inbox, self._limits)
        with ThreadPoolExecutor(1, thread_name_prefix="import") as thread:
            while entry := await in_thread(thread, reader.next, stop=inbox.stop):
                await self._take(entry, reader, hold, inbox, thread)
            await in_thread(thread, reader.finish, stop=inbox.stop)

    async def _take(
        self, entry: Entry, reader: ArchiveReader, hold: Callable[[str], None], inbox: _Inbox,
        thread: ThreadPoolExecutor,
    ) -> None:  # fmt: skip
        if entry.link:
            self._contents.links[entry.name] = entry.link
            return
        if entry.name in DOCUMENTS:
            self._contents.documents[entry.name] = await in_thread(
                thread, reader.document, entry, MAX_DOCUMENT, stop=inbox.stop
            )
            return
        if entry.name.rpartition("/")[2] in _LEGACY:
            # What Docker of before 1.10 wanted to know of a layer.
            return
        claim = _claimed(entry.name)
        if claim is not None and await self._here(claim, hold):
            head = await self._in_thread(self._store.content.head, claim)
            self._contents.files[entry.name] = Blob(claim, entry.size, layer_compression(head))
            self._tell(entry, entry.size)
            return
        incoming = Incoming(
            self._store.content.arriving(), (claim or "sha256:").partition(":")[0], entry.name
        )
        try:
            loop = asyncio.get_running_loop()

            def copy() -> None:
                while data := reader.read(CHUNK):
                    incoming.write(data)
                    loop.call_soon_threadsafe(self._tell, entry, incoming.size)

            await in_thread(thread, copy, stop=inbox.stop)
            if claim is not None and incoming.digest != claim:
                raise MalformedImage(
                    f"file {entry.name} of the archive has the digest {incoming.digest}"
                )
            await self._keep(incoming, hold)
        finally:
            incoming.close()
        self._contents.files[entry.name] = Blob(
            incoming.digest, incoming.size, layer_compression(incoming.head)
        )

    async def _here(self, digest: str, hold: Callable[[str], None]) -> bool:
        """Hold on to a blob, and tell whether it is here."""
        hold(digest)
        # The lock: a collection that began before the hold may be about to remove it.
        async with self._store.content.lock(digest):
            return self._store.content.has(digest)

    async def _keep(self, incoming: Incoming, hold: Callable[[str], None]) -> None:
        content, digest = self._store.content, incoming.digest
        hold(digest)
        async with content.lock(digest):
            if not content.has(digest):
                await self._in_thread(content.adopt, digest, incoming.size, incoming.move)

    def _tell(self, entry: Entry, done: int) -> None:
        self._progress(PullProgress("archive", "downloading", entry.name, done, entry.size))

    # Finding and recording.

    def _find(self) -> tuple[list[FoundImage], list[str]]:
        contents, content = self._contents, self._store.content
        if INDEX in contents.documents and LAYOUT in contents.documents:
            layout.check_layout(contents.documents[LAYOUT])
            found, skipped = layout.find(contents.documents[INDEX], content, self._wanted)
            found = _with_docker_names(found, docker.tags_by_config(contents))
        else:
            found, skipped = docker.find(contents, content, self._wanted)
        if not found:
            if skipped:
                raise skipped[0][1]
            raise MalformedImage("the archive holds no image")
        tags = [tag for image in found for tag in image.tags]
        if self._wanted.name and len(tags) != len(set(tags)):
            raise MalformedImage(
                f"the archive holds several images without a full name, {self._wanted.name} can "
                "name only one of them; import it without a name"
            )
        return found, [f"{name}: {error}" for name, error in skipped]

    async def _store_documents(self, image: FoundImage, hold: Callable[[str], None]) -> None:
        content = self._store.content
        for digest, data in image.made:
            hold(digest)
            async with content.lock(digest):
                await self._in_thread(content.put, digest, data, image.label)
        for digest in image.resolved.blobs:
            if not await self._here(digest, hold):
                raise MalformedImage(f"{image.label}: blob {digest} is not in the archive")

    async def _record(self, found: list[FoundImage], hold: Callable[[str], None]) -> list[Image]:
        chains = []
        for image in found:
            pull = Pull(image.label, (), self._store.tools(hold), self._progress)
            chains.append(await pull.fetch_layers(image.resolved))
        recorded = [
            await self._in_thread(
                self._store.record_named, image.resolved, chain, image.tags, image.digests
            )
            for image, chain in zip(found, chains, strict=True)
        ]
        # Several entries of an archive may be names of one image.
        return list({image.id: image for image in recorded}.values())


def _claimed(name: str) -> str | None:
    """Return the digest that the file's name says it has."""
    match = _BLOB.fullmatch(name)
    digest = f"{match[1]}:{match[2]}" if match else ""
    return digest if is_digest(digest) else None


def _with_docker_names(
    found: list[FoundImage], names: dict[str, tuple[str, ...]]
) -> list[FoundImage]:
    """Give images that the index does not name the names that ``manifest.json`` has for them."""
    return [
        image
        if image.tags
        else FoundImage(
            image.resolved, names.get(image.resolved.manifest.config.digest, ()), image.digests
        )
        for image in found
    ]
