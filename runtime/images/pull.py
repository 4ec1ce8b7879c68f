"""One pull: from a reference to an image that is unpacked and recorded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from kubeletpy_common.logs import event
from runtime.images.compression import compression_of_blob
from runtime.images.config import ImageConfig, parse_config
from runtime.images.content import ContentStore
from runtime.images.digests import chain_ids
from runtime.images.download import Download
from runtime.images.errors import (
    DigestMismatch,
    ImageError,
    MalformedImage,
    NoMatchingPlatform,
    StoreError,
)
from runtime.images.manifest import MAX_DOCUMENT, Descriptor, Index, Manifest, choose, parse
from runtime.images.places import Places
from runtime.images.platforms import runs_here, same_architecture
from runtime.images.progress import ProgressCallback, PullProgress, Stage
from runtime.images.reference import Reference
from runtime.images.registry import Document, Repository
from runtime.images.settings import RegistryConfig
from runtime.images.threads import in_thread
from runtime.snapshots.overlay import Snapshots
from runtime.unpacker.client import Layer, Unpacked, Unpacker

log = logging.getLogger(__name__)

_MAX_NESTING: Final = 3
T = TypeVar("T")


@dataclass(frozen=True)
class Resolved:
    """What a reference stands for, before its layers are here.

    Attributes:
        digest: of the manifest or index that the reference names.
        config_bytes: the config's blob.
        config: the same, parsed.
        manifest: of this machine's platform.
        documents: digests of index, manifest and config; they are in the content store.
    """

    digest: str
    config_bytes: bytes
    config: ImageConfig
    manifest: Manifest
    documents: tuple[str, ...]

    @property
    def blobs(self) -> tuple[str, ...]:
        """Digests of all blobs of the image."""
        return (*self.documents, *(layer.digest for layer in self.manifest.layers))


@dataclass
class Tools:
    """What all pulls share."""

    config: RegistryConfig
    content: ContentStore
    snapshots: Snapshots
    executor: Executor
    downloads: asyncio.Semaphore
    unpacker: Unpacker
    unpacks: asyncio.Semaphore
    hold: Callable[[str], None]
    """Told of every digest and chain id that the pull needs, before it is brought in."""


class Pull:
    """One pull of one reference; :meth:`resolve`, then :meth:`fetch_layers`."""

    def __init__(
        self, reference: Reference | str, repositories: Sequence[Repository], tools: Tools,
        progress: ProgressCallback,
    ) -> None:  # fmt: skip
        """Prepare; ``repositories`` are asked in order.

        An image whose blobs are all here, and that is only to be unpacked, has a name for logs and
        errors instead of a reference, and no repositories.
        """
        self._reference = reference
        self._name = str(reference)
        self._places = Places(repositories, self._name)
        self._tools = tools
        self._report = progress

    async def resolve(self) -> Resolved:
        """Fetch and check manifest and config.

        Raises:
            ImageError: one of its subclasses.
        """
        self._report(PullProgress(self._name, "resolving"))
        top = await self._top()
        await self._store(top.digest, top.data)
        documents, parsed = [top.digest], self._parse(top)
        for _ in range(_MAX_NESTING):
            if isinstance(parsed, Manifest):
                return await self._resolve_config(top.digest, parsed, documents)
            chosen = choose(parsed, self._tools.config.platform, self._name)
            document = await self._manifest(chosen.digest, chosen.size)
            await self._store(document.digest, document.data)
            documents.append(document.digest)
            parsed = self._parse(Document(document.data, document.digest, chosen.media_type))
        if isinstance(parsed, Index):
            raise MalformedImage(f"{self._name}: more than {_MAX_NESTING} indexes in each other")
        return await self._resolve_config(top.digest, parsed, documents)

    async def _top(self) -> Document:
        """Fetch what the reference names.

        A tag is asked of those who may say what it stands for. Where another place comes before
        them for content, only the digest is taken from them.
        """
        assert isinstance(self._reference, Reference)
        if self._reference.digest is not None:
            return await self._manifest(self._reference.digest)
        tag = self._reference.api_reference

        async def ask(place: Repository) -> Document | str:
            if self._places.others_first(place):
                digest = await place.digest_of_tag(tag)
                if digest is not None:
                    return digest
            document = await place.manifest(tag)
            # A mirror that answers with something else than an image is no reason to fail.
            self._parse(document)
            return document

        found = await self._places.first(self._places.resolving, ask, f"tag {tag}")
        return found if isinstance(found, Document) else await self._manifest(found)

    async def _manifest(self, digest: str, size: int | None = None) -> Document:
        return await self._places.first(
            self._places.pulling, lambda place: place.manifest(digest, size), f"manifest {digest}"
        )

    def _parse(self, document: Document) -> Manifest | Index:
        return parse(document.data, document.media_type, f"manifest of {self._name}")

    async def _resolve_config(
        self, digest: str, manifest: Manifest, documents: list[str]
    ) -> Resolved:
        blob, content = manifest.config, self._tools.content
        self._tools.hold(blob.digest)
        what = f"config of {self._name}"
        data = None
        if content.has(blob.digest):
            try:
                data = await self._in_thread(content.read, blob.digest, MAX_DOCUMENT, what)
            except (DigestMismatch, StoreError) as error:
                event(log, logging.WARNING, "damaged blob in the store, fetching it again",
                      blob=blob.digest, why=str(error))  # fmt: skip
                await self._in_thread(content.remove, blob.digest)
        if data is None:
            data = await self._places.first(
                self._places.pulling, lambda place: place.small_blob(blob, "config"), "config"
            )
            await self._store(blob.digest, data)
        config = parse_config(data, self._name)
        if len(config.diff_ids) != len(manifest.layers):
            raise MalformedImage(
                f"{self._name}: the config has {len(config.diff_ids)} diff_ids, the manifest "
                f"{len(manifest.layers)} layers"
            )
        host = self._tools.config.platform
        # The variant is the index' word where there is one: many configs leave it out.
        fits = same_architecture if len(documents) > 1 else runs_here
        if config.platform.architecture and not fits(config.platform, host):
            raise NoMatchingPlatform(f"{self._name} is made for {config.platform}, not for {host}")
        return Resolved(digest, data, config, manifest, (*documents, blob.digest))

    async def _store(self, digest: str, data: bytes) -> None:
        self._tools.hold(digest)
        async with self._tools.content.lock(digest):
            await self._in_thread(self._tools.content.put, digest, data, self._name)

    async def fetch_layers(self, resolved: Resolved) -> tuple[str, ...]:
        """Download and unpack what is missing; returns the chain ids, bottom first.

        Layers arrive side by side. If one fails, or the pull is cancelled, the others are stopped
        and awaited before this returns; what is whole by then stays.

        Raises:
            ImageError: one of its subclasses.
        """
        chain = chain_ids(resolved.config.diff_ids)
        for chain_id in chain:
            self._tools.hold(chain_id)
        finished: list[asyncio.Event] = [asyncio.Event() for _ in chain]
        for layer in resolved.manifest.layers:
            self._tell("downloading", layer, 0)
        try:
            async with asyncio.TaskGroup() as group:
                if any(self._tools.snapshots.layer(chain_id) is None for chain_id in chain):
                    # It loads what it needs while the layers are on their way.
                    group.create_task(self._tools.unpacker.start(), name="start of the unpacker")
                for number, layer in enumerate(resolved.manifest.layers):
                    group.create_task(
                        self._layer(resolved, layer, chain[: number + 1], finished),
                        name=f"layer {layer.digest[:19]} of {self._name}",
                    )
        except BaseExceptionGroup as group_error:
            raise _first(group_error) from None
        return chain

    async def _layer(
        self,
        resolved: Resolved,
        layer: Descriptor,
        chain: tuple[str, ...],
        finished: list[asyncio.Event],
    ) -> None:
        """Bring one layer in; ``chain`` ends with its own chain id."""
        snapshots, number = self._tools.snapshots, len(chain) - 1
        # The lock is held by one pull: others of the same layer wait here and find it ready.
        async with self._tools.content.lock(f"chain {chain[-1]}"):
            if snapshots.layer(chain[-1]) is None:
                await self._download(layer)
                await self._unpack(resolved, layer, chain, finished)
        finished[number].set()
        self._tell("ready", layer, layer.size)

    def _tell(self, stage: Stage, layer: Descriptor, done: int) -> None:
        self._report(PullProgress(self._name, stage, layer.digest, done, layer.size))

    async def _download(self, layer: Descriptor) -> None:
        content = self._tools.content
        self._tools.hold(layer.digest)
        # The semaphore is inside the lock: whoever waits for another's download takes no slot.
        async with content.lock(layer.digest):
            if content.has(layer.digest):
                return
            async with self._tools.downloads:
                started = time.monotonic()
                await self._places.first(
                    self._places.pulling,
                    lambda place: self._download_from(place, layer),
                    f"layer {layer.digest}",
                )
        event(log, logging.INFO, "layer downloaded", image=self._name, layer=layer.digest,
              bytes=layer.size, seconds=round(time.monotonic() - started, 3))  # fmt: skip

    async def _download_from(self, source: Repository, layer: Descriptor) -> None:
        """Download one layer; a part that is here already is resumed, wherever it came from."""
        content = self._tools.content
        while True:
            ingest = content.ingest(layer.digest, layer.size)
            resumed = False
            try:
                await self._in_thread(ingest.resume)
                resumed = ingest.offset > 0
                await Download(
                    source, layer, ingest, self._tools.executor,
                    lambda done: self._tell("downloading", layer, done),
                ).run()  # fmt: skip
                await self._in_thread(content.commit, ingest)
                return
            except DigestMismatch:
                await self._in_thread(ingest.discard)
                # The fault may be in the part that was here before: once more, from nothing.
                if not resumed:
                    raise
            finally:
                ingest.close()

    async def _unpack(
        self,
        resolved: Resolved,
        layer: Descriptor,
        chain: tuple[str, ...],
        finished: list[asyncio.Event],
    ) -> None:
        snapshots, started = self._tools.snapshots, time.monotonic()
        self._tell("unpacking", layer, layer.size)
        blob = self._tools.content.path(layer.digest)
        compression = await self._in_thread(compression_of_blob, blob, layer.compression)
        source = Layer(
            blob, layer.digest, compression,
            resolved.config.diff_ids[len(chain) - 1],
        )  # fmt: skip
        number = snapshots.begin_layer(chain[-1])
        try:
            async with self._tools.unpacks:
                unpacked = await self._tools.unpacker.unpack(
                    source, number, self._tools.config.limits
                )
            try:
                for below in finished[: len(chain) - 1]:
                    await below.wait()
                used = await self._settle(unpacked, chain)
            finally:
                unpacked.close()
        except BaseException as error:
            await self._in_thread(snapshots.discard_layer, number)
            if isinstance(error, DigestMismatch | MalformedImage):
                await self._in_thread(self._tools.content.recheck, layer.digest)
            raise
        seconds = round(time.monotonic() - started, 3)
        event(log, logging.INFO, "layer unpacked", image=self._name, layer=layer.digest,
              snapshot=number, bytes=used, seconds=seconds)  # fmt: skip

    async def _settle(self, unpacked: Unpacked, chain: tuple[str, ...]) -> int:
        """Finish a layer by those below it; returns the bytes that it takes on the disk."""
        snapshots, tools = self._tools.snapshots, self._tools
        lower = [] if unpacked.opaque_root else snapshots.layers_top_first(chain[:-1])
        async with tools.unpacks:
            used, inodes = await tools.unpacker.settle(
                unpacked, [row.number for row in lower], tools.config.limits
            )
        await self._in_thread(
            snapshots.layer_ready, unpacked.number, used, inodes, unpacked.opaque_root
        )
        return used

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await in_thread(self._tools.executor, function, *arguments)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the failure that a caller should see: an ImageError rather than anything else."""
    flat: list[BaseException] = []
    todo: list[BaseException] = [group]
    while todo:
        error = todo.pop()
        if isinstance(error, BaseExceptionGroup):
            todo += error.exceptions
        else:
            flat.append(error)
    images = [error for error in flat if isinstance(error, ImageError)]
    return images[0] if images else flat[0]
