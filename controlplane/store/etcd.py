"""The store over an etcd, which several API servers may share.

etcd gives the revisions and checks the conditions. Memory is fed by one watch of all our keys, so
reads and watches are served as from a local store; a write of ours is answered once the watch has
brought it. The watch goes on from the last revision after a broken connection; if etcd has
forgotten what came since, everything is read anew and our watchers are told to do the same.

Source: etcd documentation, "etcd API guarantees", "Data model"; KEP-2340 for consistent reads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from controlplane.store.etcd_client import CompactedHistoryError, EtcdClient, EtcdServers
from controlplane.store.model import (
    Change,
    CompactedError,
    Contents,
    Item,
    MismatchError,
    StoreError,
)
from controlplane.store.store import KEEP_BYTES, Store
from kubeletpy_common import logs
from kubeletpy_proto import etcd_pb2 as pb

_log = logging.getLogger(__name__)
_PAGE: Final = 1000
_SEEN_SECONDS: Final = 10.0
# Our own writes come by the watch within a millisecond or two; other tenants' never do.
_PATIENCE: Final = 0.02
_MAX_PAUSE: Final = 2.0
_COMPACTED: Final = "/.kubeletpy/compacted"
_SEEN: Final = "/.kubeletpy/seen"

Stamp = Callable[[bytes, int], bytes]
"""Puts a revision into a value that was made for another one."""


class EtcdStore(Store):
    """A store whose writes an etcd keeps.

    Args:
        servers: where it is.
        prefix: of our keys.
        stamp: applied to what is read, with the revision of the write that made it: etcd tells a
            revision only after the write, so values that hold their own are kept without.
        compaction: seconds between compactions; 0: none (others do it).
        keep: changes that watchers can go back to, while their values fit ``keep_bytes``.
        keep_bytes: of values that only those changes still need.
        backlog: changes that may wait for one watcher.
    """

    def __init__(
        self,
        servers: EtcdServers,
        prefix: str,
        stamp: Stamp,
        *,
        compaction: float = 300.0,
        keep: int = 10_000,
        keep_bytes: int = KEEP_BYTES,
        backlog: int = 10_000,
    ) -> None:
        super().__init__(keep=keep, keep_bytes=keep_bytes, backlog=backlog)
        self._servers = servers
        self._prefix = prefix.rstrip("/")
        self._stamp = stamp
        self._compaction = compaction
        self._client: EtcdClient | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._settling: asyncio.Task[None] | None = None
        self._next_settling: asyncio.Task[None] | None = None
        self._problem = "it has not been read yet"
        self._closed = False

    async def open(self) -> None:
        """Read what is there, as of some time ago, and what came since."""
        self._client = EtcdClient(self._servers, lambda what, seconds: self.observe(what, seconds))
        try:
            await self._read_from_past()
            self._tasks.append(asyncio.create_task(self._follow(), name="etcd-watch"))
            await self.settle()
        except BaseException:
            await self.close()
            raise
        if self._compaction:
            self._tasks.append(asyncio.create_task(self._compact_often(), name="etcd-compaction"))

    async def close(self) -> None:
        """End every watch and let go of the connections."""
        self._closed = True
        self.end_watches()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

    def problem(self) -> str:
        """Say why etcd cannot be used now; "" if it can."""
        return self._problem

    async def put(
        self, key: str, value: bytes | Callable[[int], bytes], *, expected: int | None = None
    ) -> Item:
        """Write ``value`` at ``key``; see :meth:`Store.put`."""
        content = value if isinstance(value, bytes) else value(0)
        name = self._name(key)
        put = pb.RequestOp(request_put=pb.PutRequest(key=name, value=content))
        read = pb.RequestOp(request_range=pb.RangeRequest(key=name, limit=1))
        request = pb.TxnRequest(success=[put, read], failure=[read])
        if expected is not None:
            request.compare.append(_unchanged(name, expected))
        response = await self._write(request)
        if not response.succeeded:
            raise MismatchError(key, expected or 0, self._first(response))
        await self._seen(response.header.revision)
        item = self.get(key)
        if item is None or item.modified != response.header.revision:
            # Somebody was there already; what we wrote is told all the same.
            item = self._item(response.responses[1].response_range.kvs[0])
        return item

    async def delete(self, key: str, *, expected: int | None = None) -> Change | None:
        """Remove ``key``; see :meth:`Store.delete`."""
        name = self._name(key)
        read = pb.RequestOp(request_range=pb.RangeRequest(key=name, limit=1))
        remove = pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=name))
        condition = pb.Compare(
            result=pb.Compare.GREATER, target=pb.Compare.VERSION, key=name, version=0
        )
        if expected is not None:
            condition = _unchanged(name, expected)
        if expected == 0:
            remove = read
        response = await self._write(
            pb.TxnRequest(compare=[condition], success=[read, remove], failure=[read])
        )
        if not response.succeeded and expected is not None:
            raise MismatchError(key, expected, self._first(response))
        previous = self._first(response)
        if previous is None:
            return None
        await self._seen(response.header.revision)
        return Change(response.header.revision, key, None, previous)

    async def settle(self) -> None:
        """Ask etcd how far it is, and wait until the watch has brought that."""
        # A question that is under way may have been answered before this call: wait for the next.
        if self._next_settling is None:
            self._next_settling = asyncio.create_task(self._settle_after(self._settling))
        await asyncio.shield(self._next_settling)

    async def _settle_after(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait((before,))
        self._settling, self._next_settling = self._next_settling, None
        response = await self._ready().range(
            pb.RangeRequest(key=self._name(_SEEN), limit=1, count_only=True)
        )
        if self._revision >= response.header.revision:
            return
        with suppress(TimeoutError):
            await self._reached(response.header.revision, _PATIENCE)
            return
        # What came since was not ours, so the watch says nothing: give it something to bring.
        put = pb.PutRequest(key=self._name(_SEEN))
        written = await self._write(pb.TxnRequest(success=[pb.RequestOp(request_put=put)]))
        await self._seen(written.header.revision)

    async def _write(self, request: pb.TxnRequest) -> pb.TxnResponse:
        if self._closed:
            raise StoreError("the store is closed: the server is stopping")
        # Carried through even if the caller goes away: half-sent requests help nobody.
        return await asyncio.shield(self._ready().write(request))

    async def _seen(self, revision: int) -> None:
        try:
            await self._reached(revision, _SEEN_SECONDS)
        except TimeoutError as error:
            raise StoreError(
                f"revision {revision} of etcd was not heard of within {_SEEN_SECONDS:.0f} s: what "
                f"was written is there, but cannot be shown yet ({self._problem})"
            ) from error

    async def _reached(self, revision: int, seconds: float) -> None:
        if self._revision >= revision:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (revision, done)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(seconds):
                await done
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)

    def _tell_waiting(self) -> None:
        if not self._waiting:
            return
        still = []
        for entry in self._waiting:
            if entry[0] > self._revision:
                still.append(entry)
            elif not entry[1].done():
                entry[1].set_result(None)
        self._waiting = still

    async def _read_from_past(self) -> None:
        """Load what was there ``keep`` revisions ago, or as near to it as etcd remembers."""
        response = await self._ready().range(pb.RangeRequest(key=self._name(_SEEN), limit=1))
        past = max(1, response.header.revision - self._keep)
        while True:
            try:
                self._load(await self._read_at(past))
                return
            except CompactedHistoryError:
                past = max(past + 1, await self._oldest_after(past))

    async def _oldest_after(self, revision: int) -> int:
        """Return the oldest revision that etcd remembers; a watch of older ones is told it."""
        request = self._watching(revision)
        async for response in self._ready().watch(request):
            return response.compact_revision if response.canceled else revision
        return revision

    async def _read_at(self, revision: int) -> Contents:
        items: list[Item] = []
        key, end = self._name("/"), _end(self._name("/"))
        while True:
            response = await self._ready().range(
                pb.RangeRequest(key=key, range_end=end, limit=_PAGE, revision=revision)
            )
            items += [self._item(kv) for kv in response.kvs]
            if not response.more:
                return Contents(revision, revision, tuple(items), ())
            key = response.kvs[-1].key + b"\0"

    async def _follow(self) -> None:
        pause = 0.05
        while True:
            try:
                async for response in self._ready().watch(self._watching(self._revision + 1)):
                    if response.canceled:
                        if not response.compact_revision:
                            raise StoreError(f"etcd ended the watch: {response.cancel_reason}")
                        await self._read_anew()
                        break
                    self._problem, pause = "", 0.05
                    self._take(response)
            except (StoreError, CompactedHistoryError) as error:
                if not self._problem:
                    logs.event(_log, logging.WARNING, "the watch of etcd broke", error=str(error))
                self._problem = str(error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _MAX_PAUSE)

    def _take(self, response: pb.WatchResponse) -> None:
        for event in response.events:
            key = event.kv.key.decode("utf-8", "replace").removeprefix(self._prefix)
            item = self._item(event.kv) if event.type == pb.Event.PUT else None
            previous = self._items.get(key)
            if item is not None or previous is not None:
                self._apply(Change(event.kv.mod_revision, key, item, previous))
        if not response.events and not response.created:
            # Progress: everything up to there has been told.
            self._revision = max(self._revision, response.header.revision)
        self._forget(self._excess(0))
        self._tell_waiting()

    async def _read_anew(self) -> None:
        """Begin again at the present: what came since the last revision is forgotten."""
        response = await self._ready().range(pb.RangeRequest(key=self._name(_SEEN), limit=1))
        contents = await self._read_at(response.header.revision)
        watches, last = self._all_watches(), self._revision
        self._load(contents)
        for watch in watches:
            watch.fail(CompactedError(last, self._floor))
        self._tell_waiting()

    async def _compact_often(self) -> None:
        """Have etcd forget what is older than one interval; one server of all does it."""
        version, revision = 0, 0
        while True:
            await asyncio.sleep(self._compaction)
            try:
                version, revision = await self._compact(version, revision)
            except StoreError as error:
                logs.event(_log, logging.WARNING, "etcd was not compacted", error=str(error))

    async def _compact(self, version: int, revision: int) -> tuple[int, int]:
        """Compact at ``revision`` if nobody has since ``version`` of the key that says so.

        Returns:
            version of that key, and revision of now, for the next time.
        """
        name = self._name(_COMPACTED)
        unchanged = pb.Compare(target=pb.Compare.VERSION, key=name, version=version)
        put = pb.PutRequest(key=name, value=str(self._revision).encode())
        read = pb.RequestOp(request_range=pb.RangeRequest(key=name, limit=1))
        request = pb.TxnRequest(
            compare=[unchanged], success=[pb.RequestOp(request_put=put)], failure=[read]
        )
        response = await self._write(request)
        if not response.succeeded:
            found = response.responses[0].response_range.kvs
            return (found[0].version if found else 0), response.header.revision
        if revision:
            await self._ready().compact(revision)
        return version + 1, response.header.revision

    def _ready(self) -> EtcdClient:
        assert self._client is not None
        return self._client

    def _watching(self, revision: int) -> pb.WatchCreateRequest:
        first = self._name("/")
        return pb.WatchCreateRequest(
            key=first, range_end=_end(first), start_revision=revision, progress_notify=True
        )

    def _name(self, key: str) -> bytes:
        return (self._prefix + key).encode()

    def _item(self, kv: pb.KeyValue) -> Item:
        key = kv.key.decode("utf-8", "replace").removeprefix(self._prefix)
        value = self._stamp(kv.value, kv.mod_revision)
        return Item(key, value, kv.create_revision, kv.mod_revision)

    def _first(self, response: pb.TxnResponse) -> Item | None:
        found = response.responses[0].response_range.kvs
        return self._item(found[0]) if found else None


def _unchanged(name: bytes, revision: int) -> pb.Compare:
    return pb.Compare(target=pb.Compare.MOD, key=name, mod_revision=revision)


def _end(prefix: bytes) -> bytes:
    """Return the end of the range of keys that begin with ``prefix``, which ends with a slash."""
    return prefix[:-1] + bytes([prefix[-1] + 1])
