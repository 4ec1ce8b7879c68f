"""Watches over HTTP: one JSON object a line, for as long as the client stays.

Source: Kubernetes documentation, "Kubernetes API Concepts": "Efficient detection of changes",
"Watch bookmarks", "Streaming lists" (KEP-3157).
"""

from __future__ import annotations

import asyncio
import random
from typing import Final

from aiohttp import web

from controlplane.api import codec
from controlplane.api.errors import ApiError, bad_request, expired
from controlplane.api.listing import (
    Selection,
    event_of,
    open_watch,
    parse_revision,
    read_list,
)
from controlplane.server.answers import Form, object_bytes
from controlplane.server.request import integer, is_true
from controlplane.store.model import CompactedError
from controlplane.store.store import Store
from controlplane.store.watch import Watch

BOOKMARK_SECONDS: Final = 60.0
# Kubernetes ends a watch after 30 to 60 minutes if the client names no other time.
_DEFAULT_SECONDS: Final = 1800
_INITIAL_END: Final = "k8s.io/initial-events-end"


async def serve_watch(
    request: web.Request, store: Store, selection: Selection, form: Form
) -> web.StreamResponse:
    """Answer a watch.

    Raises:
        ApiError: it cannot begin where the client asks for.
    """
    query = request.query
    seconds = integer(query, "timeoutSeconds", 0) or int(_DEFAULT_SECONDS * (1 + random.random()))
    bookmarks = is_true(query.get("allowWatchBookmarks", ""))
    stream = _Stream(selection, form, query.get("includeObject", ""))
    wanted, revision = query.get("sendInitialEvents"), query.get("resourceVersion", "")
    initial = is_true(wanted or "") or (wanted is None and revision in ("", "0"))
    if wanted is not None and query.get("resourceVersionMatch") != "NotOlderThan":
        raise bad_request("sendInitialEvents needs resourceVersionMatch NotOlderThan")
    lines: list[bytes] = []
    since = parse_revision(revision)
    if initial:
        listed = read_list(
            store, selection, limit=0, token="", revision=revision,
            match="NotOlderThan" if revision else "",
        )  # fmt: skip
        since = listed.revision
        lines = [stream.line("ADDED", item.value) for item in listed.items]
        if is_true(wanted or "") and bookmarks:
            lines.append(stream.bookmark(since, initial_end=True))
    elif wanted is not None and revision in ("", "0"):
        since = store.revision
    watch = open_watch(store, since, selection.prefix)
    answer = web.StreamResponse(headers={"Content-Type": form.media})
    answer.enable_chunked_encoding()
    try:
        await answer.prepare(request)
        if lines:
            await answer.write(b"".join(lines))
        async with asyncio.timeout(seconds):
            await _follow(answer, store, watch, stream, bookmarks)
    except (TimeoutError, ConnectionResetError):
        # Its time is over, or the client has gone.
        pass
    finally:
        watch.close()
    return answer


async def _follow(
    answer: web.StreamResponse, store: Store, watch: Watch, stream: _Stream, bookmarks: bool
) -> None:
    while True:
        try:
            async with asyncio.timeout(BOOKMARK_SECONDS):
                if not await watch.wait():
                    return
        except TimeoutError:
            if bookmarks and not watch.pending:
                await answer.write(stream.bookmark(store.revision))
            continue
        except CompactedError:
            error = expired("the watch fell behind and has lost events: list again")
            await answer.write(stream.error(error))
            return
        lines = []
        for change in watch.take():
            event = event_of(change, stream.selection.matches)
            if event is not None:
                lines.append(stream.line(*event))
        if lines:
            await answer.write(b"".join(lines))


class _Stream:
    """Puts events into lines, in the form that the client asked for."""

    def __init__(self, selection: Selection, form: Form, include: str) -> None:
        self.selection = selection
        self._form = form
        self._include = include

    def line(self, kind: str, content: bytes) -> bytes:
        shaped = object_bytes(self.selection.resource, content, self._form, self._include)
        return b'{"type":"' + kind.encode() + b'","object":' + shaped + b"}\n"

    def bookmark(self, revision: int, *, initial_end: bool = False) -> bytes:
        meta: dict[str, object] = {"resourceVersion": str(revision), "creationTimestamp": None}
        if initial_end:
            meta["annotations"] = {_INITIAL_END: "true"}
        resource = self.selection.resource
        value = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": meta}
        return b'{"type":"BOOKMARK","object":' + codec.encode(value) + b"}\n"

    @staticmethod
    def error(error: ApiError) -> bytes:
        return b'{"type":"ERROR","object":' + codec.encode(error.to_status()) + b"}\n"
