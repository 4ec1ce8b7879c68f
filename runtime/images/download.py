"""Downloads of large blobs: resumed after a broken connection, bounded in size and in waiting."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final

import aiohttp
from yarl import URL

from kubeletpy_common.logs import event
from runtime.images.content import Ingest
from runtime.images.errors import (
    DigestMismatch,
    ImageNotFound,
    RegistryRefused,
    RegistryUnreachable,
    TruncatedBlob,
)
from runtime.images.manifest import Descriptor
from runtime.images.registry import Repository, RetryableAnswer
from runtime.images.threads import in_thread
from runtime.images.transport import CONNECTION_ERRORS, explain, is_final, seconds_of, wrap
from runtime.images.tries import Tries

log = logging.getLogger(__name__)

CHUNK: Final = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-", re.ASCII)

Progress = Callable[[int], None]
"""Called with the bytes of the blob that are on disk so far."""


class _Ended(Exception):
    """A body ended before the blob's size was reached."""


class Download:
    """One blob on its way from a repository into an ingest file."""

    def __init__(
        self,
        repository: Repository,
        blob: Descriptor,
        ingest: Ingest,
        executor: Executor,
        progress: Progress,
    ) -> None:
        """Prepare; ``executor`` runs the hashing and writing, off the event loop."""
        self._repository = repository
        self._blob = blob
        self._ingest = ingest
        self._executor = executor
        self._progress = progress
        self._config = repository.transport.config
        self._attempts = repository.attempts
        self._what = f"blob {blob.digest} of {repository.name}"

    async def run(self) -> None:
        """Fetch what is missing; the ingest then holds the blob's exact number of bytes.

        Raises:
            ImageError: one of its subclasses; what has arrived stays in the ingest for a resume.
        """
        missing: ImageNotFound | None = None
        for source in self._repository.blob_sources(self._blob):
            try:
                await self._from(source)
                return
            except ImageNotFound as error:
                missing = missing or error
        assert missing is not None
        raise missing

    async def _from(self, source: URL) -> None:
        tries, best = Tries(self._config, self._attempts), self._ingest.offset
        while self._ingest.offset < self._blob.size:
            before = self._ingest.offset
            retry_after, broken = None, True
            try:
                await self._once(source)
                continue
            except _Ended as error:
                why, broken = str(error), True
            except RetryableAnswer as error:
                why, retry_after, broken = str(error), error.retry_after, False
            except CONNECTION_ERRORS as error:
                if is_final(error) or isinstance(error, aiohttp.ClientConnectorError):
                    raise wrap(error, self._what) from None
                why, broken = explain(error), self._ingest.offset > before
            # Only tries without progress count. Progress is what was never reached before, and
            # enough to be worth a connection: a server that breaks off and cannot resume ends.
            if self._ingest.offset - best >= CHUNK:
                tries.progress()
            best = max(best, self._ingest.offset)
            asked = seconds_of(retry_after, time.time()) if retry_after is not None else None
            pause = tries.next_pause(asked)
            if pause is None:
                raise self._failure(why, broken, tries.told())
            event(log, logging.INFO, "blob download interrupted, resuming", blob=self._blob.digest,
                  offset=self._ingest.offset, size=self._blob.size, why=why)  # fmt: skip
            await asyncio.sleep(pause)

    def _failure(self, why: str, broken: bool, told: str) -> TruncatedBlob | RegistryUnreachable:
        have, size = self._ingest.offset, self._blob.size
        if broken:
            return TruncatedBlob(
                f"{self._what}: only {have} of {size} bytes arrived: {why}; {told}; "
                "the registry's copy may be damaged"
            )
        return RegistryUnreachable(
            f"{self._what}: {why}; {told} with {have} of {size} bytes; check that the registry is "
            "up and works"
        )

    async def _once(self, source: URL) -> None:
        offset = self._ingest.offset
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        async with self._repository.get(source, headers, self._what) as response:
            await self._align(response, offset)
            try:
                await self._receive(response)
            except aiohttp.ClientPayloadError as error:
                raise _Ended(f"the connection broke: {explain(error)}") from None
        if self._ingest.offset < self._blob.size:
            raise _Ended("the answer ended early")

    async def _align(self, response: aiohttp.ClientResponse, offset: int) -> None:
        """Make the ingest stand where the answer starts."""
        if response.status == 206:
            start = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
            if start is None or int(start[1]) != offset:
                raise RegistryRefused(
                    f"{self._what}: asked for bytes from {offset}, the answer's Content-Range is "
                    f"{response.headers.get('Content-Range', '')[:80]!r}"
                )
            return
        if offset:
            await in_thread(self._executor, self._ingest.restart)
        if response.status == 416:
            raise RetryableAnswer("the registry cannot resume; starting again", None)

    async def _receive(self, response: aiohttp.ClientResponse) -> None:
        pending = bytearray()
        try:
            at_end = False
            while not at_end:
                at_end = await self._fill(response, pending)
                self._check_size(len(pending))
                if len(pending) >= CHUNK:
                    await self._flush(pending)
        except CONNECTION_ERRORS:
            # What has arrived need not be sent again.
            await self._flush(pending)
            raise
        await self._flush(pending)

    async def _fill(self, response: aiohttp.ClientResponse, pending: bytearray) -> bool:
        """Add what arrives to ``pending``, enough to be progress; returns whether it was all."""
        async with asyncio.timeout(self._config.stall_seconds):
            goal = len(pending) + self._config.stall_bytes
            while len(pending) < goal:
                chunk = await response.content.readany()
                if not chunk:
                    return True
                pending += chunk
        return False

    async def _flush(self, pending: bytearray) -> None:
        self._check_size(len(pending))
        data = bytes(pending)
        pending.clear()
        await in_thread(self._executor, self._ingest.write, data)
        self._progress(self._ingest.offset)

    def _check_size(self, pending: int) -> None:
        if self._ingest.offset + pending > self._blob.size:
            raise DigestMismatch(
                f"{self._what}: the manifest says {self._blob.size} bytes, the registry sends more"
            )
