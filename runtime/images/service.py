"""The image service: pull, get, list, remove; what the CRI image RPCs stand on.

Everything lives below one directory, which one process at a time may use::

    content/    blobs by digest        runtime.images.content
    snapshots/  layers and containers  runtime.snapshots.overlay
    images.db   what belongs together  runtime.images.metadata
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from kubeletpy_common.linux.disks import sync_filesystem
from kubeletpy_common.logs import event
from runtime.images import reference as references
from runtime.images.archive.documents import substitutes_of
from runtime.images.content import ContentStore
from runtime.images.disk import disk_errors
from runtime.images.endpoints import endpoints_of
from runtime.images.errors import ImageError, ImageInUse, StoreError
from runtime.images.image import FilesystemUsage, Image
from runtime.images.leftovers import Leftovers, is_worth_keeping
from runtime.images.metadata import Metadata
from runtime.images.pins import Pins
from runtime.images.progress import ProgressCallback, ProgressLog
from runtime.images.pull import Pull, Resolved, Tools
from runtime.images.reference import Reference
from runtime.images.registry import repositories
from runtime.images.settings import Credentials, RegistryConfig
from runtime.images.space import Reserve
from runtime.images.threads import in_thread
from runtime.images.transport import Transport
from runtime.snapshots.overlay import Snapshots
from runtime.unpacker.client import Unpacker

log = logging.getLogger(__name__)

_ID = re.compile(r"(?:sha256:)?[0-9a-f]{3,64}", re.ASCII)
_THREADS: Final = 6

T = TypeVar("T")


def _ignore(_: object) -> None:
    return None


def _unused(_: str) -> bool:
    return False


class ImageStore:
    """All images of a runtime.

    :attr:`snapshots` is there after :meth:`open`. The synchronous methods take well under a
    millisecond and may be called on the event loop.
    """

    def __init__(
        self,
        root: Path,
        registry: RegistryConfig | None = None,
        *,
        in_use: Callable[[str], bool] = _unused,
    ) -> None:
        """Use the directory ``root``; nothing is touched before :meth:`open`.

        Args:
            root: the runtime's persistent directory.
            registry: settings of pulls.
            in_use: tells whether a container uses the image of this id; such an image is not
                removed. Layers of existing snapshots are kept in any case.
        """
        self.root = root
        self.config = registry or RegistryConfig()
        self.in_use = in_use
        self.content = ContentStore(root / "content")
        self._metadata: Metadata | None = None
        self._snapshots: Snapshots | None = None
        self._held: Counter[str] = Counter()
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="images")
        self._transport = Transport(self.config)
        self._reserve = Reserve(root / "reserve")
        self._pins = Pins(self.config.pinned)
        self._leftovers = Leftovers(self.config.leftover_seconds, self.collect_garbage)
        self._downloads = asyncio.Semaphore(self.config.parallel_downloads)
        # A layer takes two processes, which seldom have equally much to do.
        self._unpacks = asyncio.Semaphore(len(os.sched_getaffinity(0)))
        self._unpacker = Unpacker(root / "snapshots")

    async def open(self) -> None:
        """Open the store and clean up after an earlier run that was killed; once per object.

        Raises:
            StoreError: the directory or the database cannot be used.
        """
        try:
            await self._in_thread(self._open)
            await self.collect_garbage()
        except BaseException:
            await self.close()
            raise

    def _open(self) -> None:
        with disk_errors(f"opening the image store {self.root}", self.root):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.chmod(self.root, 0o700)
        with self._reserve.given_free():
            self._open_parts()

    def _open_parts(self) -> None:
        self.content.open()
        self._metadata = Metadata(self.root / "images.db")
        self._snapshots = Snapshots(self.root / "snapshots", self._metadata)
        self._snapshots.open()
        self._drop_broken_images()

    def _drop_broken_images(self) -> None:
        for identifier in self.metadata.image_ids():
            try:
                image = self.metadata.image(identifier)
                if image is not None:
                    self.snapshots.layers_top_first(image.chain)
            except ImageError as error:
                event(log, logging.ERROR, "image is not whole and was dropped; pull it again",
                      image=identifier, why=str(error))  # fmt: skip
                self.metadata.remove_image(identifier)

    async def close(self) -> None:
        """Close connections, threads and the database; pulls must have ended or been cancelled."""
        await self._leftovers.close()
        await self._transport.close()
        await self._unpacker.close()
        await asyncio.to_thread(self._executor.shutdown, wait=True)
        if self._metadata is not None:
            self._metadata.close()
            self._metadata = None

    @property
    def metadata(self) -> Metadata:
        """The database.

        Raises:
            StoreError: the store is not open.
        """
        if self._metadata is None:
            raise StoreError(f"the image store {self.root} is not open")
        return self._metadata

    @property
    def snapshots(self) -> Snapshots:
        """The snapshots.

        Raises:
            StoreError: the store was never opened.
        """
        if self._snapshots is None:
            raise StoreError(f"the image store {self.root} is not open")
        return self._snapshots

    @property
    def executor(self) -> Executor:
        """Threads for blocking work of pulls and imports, which never wait for a client."""
        return self._executor

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await in_thread(self._executor, function, *arguments)

    # Pulling.

    async def pull(
        self,
        reference: str,
        auth: Credentials | None = None,
        *,
        progress: ProgressCallback = _ignore,
    ) -> Image:
        """Bring an image here and return it; cancellable at any time.

        The registry is always asked, so that it decides who may have the image. Blobs and layers
        that are here are not fetched again, and pulls at the same time share what they fetch.

        Args:
            reference: by tag or digest.
            auth: shown to the registry of the reference only.
            progress: called on the event loop, often.

        Raises:
            ImageError: one of its subclasses; the store is as it was.
        """
        parsed = references.parse(reference)
        started = time.monotonic()
        event(log, logging.INFO, "pulling image", image=str(parsed))
        told = ProgressLog(progress, self.config.progress_log_seconds)
        try:
            image = await self._pull(parsed, auth, told)
        except ImageError as error:
            event(log, logging.WARNING, "image pull failed", image=str(parsed),
                  reason=error.reason, why=str(error))  # fmt: skip
            await self._clear(error)
            raise
        except BaseException:
            self._leftovers.collect_later()
            raise
        event(log, logging.INFO, "image pulled", image=str(parsed), id=image.id,
              bytes=image.size, seconds=round(time.monotonic() - started, 3))  # fmt: skip
        return image

    async def _clear(self, error: ImageError) -> None:
        """Remove what a failed pull has left: at once, or after the time for a next try."""
        if is_worth_keeping(error):
            self._leftovers.collect_later()
            return
        try:
            await self.collect_garbage()
        except ImageError as failure:
            # The pull's own error is what its caller has to know.
            event(log, logging.ERROR, "cannot clear away a failed pull", why=str(failure))
            self._leftovers.collect_later()

    async def _pull(
        self, parsed: Reference, auth: Credentials | None, progress: ProgressCallback
    ) -> Image:
        with self.holding() as hold:
            places = await self._in_thread(endpoints_of, self.config, parsed.domain)
            sources = repositories(self._transport, places, parsed.domain, parsed.path, auth)
            pull = Pull(parsed, sources, self.tools(hold), progress)
            resolved = await pull.resolve()
            chain = await pull.fetch_layers(resolved)
            return await self._in_thread(self.record, parsed, resolved, chain)

    def tools(self, hold: Callable[[str], None]) -> Tools:
        """Return what pulls and imports share, with a ``hold`` of :meth:`holding`."""
        return Tools(
            config=self.config,
            content=self.content,
            snapshots=self.snapshots,
            executor=self._executor,
            downloads=self._downloads,
            unpacker=self._unpacker,
            unpacks=self._unpacks,
            hold=hold,
        )

    @contextmanager
    def holding(self) -> Iterator[Callable[[str], None]]:
        """Keep what a pull brings in from garbage collection until it is recorded.

        Yields a function that is told of every digest and chain id before it is brought in.
        """
        mine: list[str] = []

        def hold(key: str) -> None:
            mine.append(key)
            self._held[key] += 1

        try:
            yield hold
        finally:
            self._held.subtract(mine)
            self._held = +self._held

    def record(self, parsed: Reference, resolved: Resolved, chain: tuple[str, ...]) -> Image:
        """Record a pulled image, durably; blocking.

        Raises:
            StoreError: the database failed.
        """
        tags = [parsed.tagged] if parsed.tagged is not None else []
        return self.record_named(resolved, chain, tags, [parsed.with_digest(resolved.digest)])

    def record_named(
        self, resolved: Resolved, chain: tuple[str, ...], tags: Iterable[str],
        digests: Iterable[str],
    ) -> Image:  # fmt: skip
        """Record an image under normalised names, durably; blocking.

        Raises:
            StoreError: the database failed.
        """
        layers = [self.snapshots.layer(chain_id) for chain_id in chain]
        size = sum(layer.bytes for layer in layers if layer) + len(resolved.config_bytes)
        identifier = resolved.manifest.config.digest
        image = Image(id=identifier, size=size, config=resolved.config, chain=chain)
        blobs = [*resolved.blobs, *self._substitutes(image, resolved)]
        # The record outlives a power cut only together with what it speaks of.
        with disk_errors(f"flushing image {identifier}", self.root):
            for directory in {self.content.root, self.snapshots.base}:
                sync_filesystem(directory)
        self.metadata.save_image(image, resolved.config_bytes, blobs, tags=tags, digests=digests)
        self._reserve.fill()
        saved = self._image(identifier)
        if saved is None:
            raise StoreError(f"image {identifier} was removed while it was pulled; pull it again")
        return saved

    def _substitutes(self, image: Image, resolved: Resolved) -> list[str]:
        """Return blobs of other images that stand for layers that were here unpacked already.

        Such layers were not fetched; an export needs their bytes, also when the others are gone.
        """
        if all(self.content.has(layer.digest) for layer in resolved.manifest.layers):
            return []
        found = substitutes_of(image, self.metadata, self.content).values()
        return [
            digest for each in found for digest in (each.layer.digest, each.manifest, each.config)
        ]

    # Looking up.

    def get(self, ref_or_id: str) -> Image | None:
        """Return an image by tag, digest, id, or an unambiguous beginning of its id.

        A name goes before the beginning of an id. Returns None if there is no such image, or if
        several ids begin so.

        Raises:
            StoreError: the database failed.
        """
        identifier = self._identify(ref_or_id)
        return self._image(identifier) if identifier is not None else None

    def _image(self, identifier: str) -> Image | None:
        """Return an image, pinned if the settings or :meth:`pin` say so."""
        found = self.metadata.image(identifier)
        if found is None or found.pinned:
            return found
        return replace(found, pinned=self._pins.hold((*found.repo_tags, *found.repo_digests)))

    def _name(self, text: str) -> str | None:
        """Return the normalised name under which an image would be recorded."""
        try:
            parsed = references.parse(text)
        except ImageError:
            return None
        if parsed.digest is not None:
            return parsed.with_digest(parsed.digest)
        return parsed.tagged

    def is_id(self, text: str) -> bool:
        """Tell whether :meth:`get` takes ``text`` for an id, or the beginning of one."""
        name = self._name(text)
        named = name is not None and self.metadata.image_named(name) is not None
        return not named and self._identify(text) is not None

    def _identify(self, text: str) -> str | None:
        name = self._name(text)
        if name is not None and (found := self.metadata.image_named(name)) is not None:
            return found
        if _ID.fullmatch(text) is None:
            return None
        found_ids = self.metadata.images_with_prefix("sha256:" + text.removeprefix("sha256:"))
        return found_ids[0] if len(found_ids) == 1 else None

    def list(self) -> list[Image]:
        """Return all images, sorted by id.

        Raises:
            StoreError: the database failed.
        """
        found = (self._image(identifier) for identifier in self.metadata.image_ids())
        return [image for image in found if image is not None]

    # Removing.

    async def remove(self, ref_or_id: str) -> None:
        """Remove an image, or one name of it; idempotent.

        By id all its names go. By a name that name goes, and the image with its last tag or its
        last name. What nothing refers to any more is then removed from the disk.

        Raises:
            ImageInUse: a container uses it.
            StoreError: the disk or the database failed.
        """
        identifier = self._identify(ref_or_id)
        if identifier is None:
            return
        if self.in_use(identifier):
            raise ImageInUse(
                f"image {ref_or_id} ({identifier}) is used by a container; remove that first"
            )
        name = self._name(ref_or_id)
        with self._reserve.given_free():
            if name is not None and self.metadata.image_named(name) is not None:
                await self._in_thread(self.metadata.remove_name, name)
            else:
                await self._in_thread(self.metadata.remove_image, identifier)
            freed = await self.collect_garbage()
        event(log, logging.INFO, "image removed", image=ref_or_id, id=identifier, freed=freed)

    async def remove_all(self, identifiers: Collection[str]) -> int:
        """Remove images by id, used by containers or not; returns the bytes that were freed.

        Raises:
            StoreError: the disk or the database failed.
        """
        with self._reserve.given_free():
            for identifier in identifiers:
                await self._in_thread(self.metadata.remove_image, identifier)
            freed = await self.collect_garbage()
        event(log, logging.INFO, "images pruned", images=list(identifiers), freed=freed)
        return freed

    def held(self) -> set[str]:
        """Return the digests and chain ids that pulls, imports and exports hold on to now."""
        return set(self._held)

    async def collect_garbage(self) -> int:
        """Remove blobs and layers that neither images, containers nor pulls need.

        Returns:
            the bytes that were freed.

        Raises:
            StoreError: the disk or the database failed.
        """
        with self._reserve.given_free():
            return await self._collect_unfinished() + await self._collect_unreferenced()

    async def _collect_unfinished(self) -> int:
        """Remove parts of blobs and of layers that no pull is at work on."""
        freed = 0
        # What is held is looked at before the lock is taken, too: a pull has it for minutes.
        for digest in await self._in_thread(self.content.unfinished):
            if not self._held[digest]:
                async with self.content.lock(digest):
                    if not self._held[digest]:
                        freed += await self._in_thread(self.content.drop_unfinished, digest)
        for layer in self.snapshots.unfinished_layers():
            if not self._held[layer.key]:
                async with self.content.lock(f"chain {layer.key}"):
                    if not self._held[layer.key] and self.snapshots.layer(layer.key) is None:
                        await self._in_thread(self.snapshots.discard_layer, layer.number)
        return freed

    async def _collect_unreferenced(self) -> int:
        freed = 0
        # What is held is decided here, on the event loop, under the lock that a pull of the same
        # thing would take: nothing can begin to need it between the look and the removal.
        for digest in sorted(self.content.digests()):
            async with self.content.lock(digest):
                if not self._held[digest] and not self.metadata.blob_is_referenced(digest):
                    freed += await self._in_thread(self.content.remove, digest)
        for layer in self.snapshots.layers():
            async with self.content.lock(f"chain {layer.key}"):
                if not self._held[layer.key] and not self.metadata.chain_is_referenced(layer.key):
                    freed += await self._in_thread(self.snapshots.remove_layer, layer)
        return freed

    def pin(self, identifiers: Iterable[str]) -> None:
        """Mark images as pinned: the kubelet's garbage collection leaves them alone.

        Raises:
            StoreError: the database failed.
        """
        with self.metadata.transaction() as database:
            database.executemany(
                "UPDATE images SET pinned = 1 WHERE id = ?", [(i,) for i in identifiers]
            )

    def filesystem_usage(self) -> FilesystemUsage:
        """Return what blobs and layers take on the disk; from records, without a walk.

        Raises:
            StoreError: the database failed.
        """
        blob_bytes, blobs = self.content.usage()
        layer_bytes, inodes = self.snapshots.layers_usage()
        return FilesystemUsage(blob_bytes + layer_bytes, blobs + inodes, str(self.root))
