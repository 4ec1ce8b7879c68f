"""A list that keeps itself up to date: list once, then watch, and again after whatever broke.

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from kubeletpy_common import logs

from .client import METADATA, METADATA_LIST, ApiClient
from .errors import ApiError

_log = logging.getLogger(__name__)
SHORTEST_WATCH, LONGEST_WATCH = 300, 600
"""Seconds that a watch is asked to last; at random between them, so that not all end at once."""
_SLACK = 30.0
_TOO_SHORT = 1.0
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
"""Seconds between attempts: the first, doubled each time, and the longest."""

EXPIRED_AGAIN = 1.0
"""Seconds before a list whose predecessor was out of date at once: such a server is not pressed."""


LISTED = "LISTED"
"""What ``read`` of a `Reflector` is told of objects of a list."""
_CHANGES = frozenset({"ADDED", "MODIFIED", "DELETED"})


@dataclass(frozen=True, slots=True)
class Synced:
    """All objects as of now, each as ``read`` gave it; what is not among them is gone.

    Attributes:
        version: resource version of the list.
    """

    items: list[Any]
    version: str = ""


@dataclass(frozen=True, slots=True)
class Changed:
    """One object was ADDED, MODIFIED or DELETED (then ``object`` is its last state)."""

    kind: str
    object: Any


class _ListMeta(msgspec.Struct, rename={"resource_version": "resourceVersion", "more": "continue"}):
    resource_version: str = ""
    more: str = ""


class _List(msgspec.Struct):
    """A list of objects that are not decoded yet."""

    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)
    items: list[msgspec.Raw] | None = None
    kind: str = ""
    apiVersion: str = ""


class _Event(msgspec.Struct):
    """A line of a watch, its object not decoded yet."""

    type: str
    object: msgspec.Raw


class _Versioned(msgspec.Struct):
    """Where an object stands."""

    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)


class Reflector:
    """Follows a collection: ``async for each in Reflector(...)`` yields `Synced` and `Changed`.

    A list comes first, and again after the server forgot our place (410 Gone). A broken
    connection alone is resumed where it broke. It never ends by itself.

    Args:
        client: of the API server.
        path: of the collection, as ``/api/v1/pods``.
        field_selector, label_selector: what to follow of it.
        read: is given each object with what happened to it (`LISTED`, ``ADDED`` ...) and returns
            what is passed on in its place; by default the whole object as a dict. It is called as
            soon as the object is there, so that a large list need not be in memory at once.
        page: objects asked for at once; 0: all.
        metadata_only: whether the rest of each object is left out.
    """

    def __init__(
        self,
        client: ApiClient,
        path: str,
        *,
        field_selector: str = "",
        label_selector: str = "",
        read: Callable[[str, msgspec.Raw], Any] | None = None,
        page: int = 0,
        metadata_only: bool = False,
    ) -> None:
        self._client = client
        self._path = path
        self._read = read
        self._page = page
        self._accept = (METADATA_LIST, METADATA) if metadata_only else ("", "")
        self._params: dict[str, str] = {}
        if field_selector:
            self._params["fieldSelector"] = field_selector
        if label_selector:
            self._params["labelSelector"] = label_selector
        self._version = ""
        self._fresh = False
        self._pause = FIRST_PAUSE
        self._expired_at = float("-inf")
        self.error: ApiError | None = None
        """Why it is not connected at the moment; None if it is."""

    async def __aiter__(self) -> AsyncIterator[Synced | Changed]:
        while True:
            try:
                if not self._version:
                    synced = await self._list()
                    self._connected()
                    yield synced
                begun = time.monotonic()
                async for change in self._watch():
                    yield change
                if time.monotonic() - begun < _TOO_SHORT:
                    # A server that ends each watch at once is not to be asked in a tight loop.
                    await asyncio.sleep(FIRST_PAUSE)
            except ApiError as error:
                await self._failed(error)

    async def _list(self) -> Synced:
        # Any version does at first (the server's cache); after 410 it must be the latest. A server
        # gives pages of its latest version only.
        params = dict(self._params)
        if self._page:
            params["limit"] = str(self._page)
        elif not self._fresh:
            params["resourceVersion"] = "0"
        items: list[Any] = []
        while True:
            more = "continue" in params
            raw = await self._client.read(
                self._path, params=params, urgent=more, accept=self._accept[0]
            )
            found = _decoded(raw, _List)
            if found is None or not found.metadata.resource_version:
                raise ApiError(0, "BadAnswer", f"GET {self._path}: the answer is no list")
            items += self._items(found)
            if not found.metadata.more:
                break
            params["continue"] = found.metadata.more
        self._version, self._fresh = found.metadata.resource_version, False
        return Synced(items, self._version)

    def _items(self, found: _List) -> list[Any]:
        if self._read is not None:
            return [self._read(LISTED, item) for item in found.items or ()]
        items = [msgspec.json.decode(item) for item in found.items or ()]
        # Items of a list do not carry their kind; those of a watch do.
        for item in items:
            item.setdefault("kind", found.kind.removesuffix("List"))
            item.setdefault("apiVersion", found.apiVersion)
        return items

    async def _watch(self) -> AsyncIterator[Changed]:
        seconds = random.randint(SHORTEST_WATCH, LONGEST_WATCH)
        params = {
            **self._params,
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        lines = self._client.watch_lines(
            self._path, params, idle=seconds + _SLACK, accept=self._accept[1]
        )
        async for line in lines:
            event = _decoded(line, _Event)
            if event is None or bytes(memoryview(event.object)[:1]) != b"{":
                raise ApiError(0, "BadAnswer", f"WATCH {self._path}: an event without an object")
            if event.type == "ERROR":
                item = msgspec.json.decode(event.object)
                raise ApiError(
                    int(item.get("code") or 0), str(item.get("reason") or ""),
                    str(item.get("message") or "the watch failed"),
                )  # fmt: skip
            self._connected()
            placed = _decoded(event.object, _Versioned)
            if placed is not None and placed.metadata.resource_version:
                self._version = placed.metadata.resource_version
            if event.type in _CHANGES:
                read = self._read
                found = msgspec.json.decode(event.object) if read is None else read(
                    event.type, event.object
                )  # fmt: skip
                yield Changed(event.type, found)

    def _connected(self) -> None:
        if self.error is not None:
            logs.event(_log, logging.INFO, "API server answers again", path=self._path)
        self.error = None
        self._pause = FIRST_PAUSE

    async def _failed(self, error: ApiError) -> None:
        if error.expired:
            self._version, self._fresh = "", True
            before, self._expired_at = self._expired_at, time.monotonic()
            if self._expired_at - before > LONGEST_PAUSE:
                # Usual after a while without news: the next list is the answer to it.
                return
            self._pause = max(self._pause, EXPIRED_AGAIN)
        if self.error is None or str(self.error) != str(error):
            logs.event(
                _log, logging.WARNING, "watch of the API server broke; it is resumed",
                path=self._path, code=error.code, reason=str(error),
            )  # fmt: skip
        self.error = error
        if not error.transient and error.code != 403:
            # Whatever the place was, the server does not take it.
            self._version = ""
        pause = max(self._pause, error.retry_after or 0.0)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))


_T = TypeVar("_T")


def _decoded(data: bytes | msgspec.Raw, kind: type[_T]) -> _T | None:
    """Return what JSON holds, None if it holds something else."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
