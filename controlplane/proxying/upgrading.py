"""Upgraded connections: after both sides have agreed, bytes go both ways as they are.

Source: RFC 9110, section 7.8.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from controlplane.api.errors import ApiError
from controlplane.proxying.backends import Backends
from controlplane.proxying.headers import request_headers
from controlplane.proxying.targets import Target
from kubeletpy_common.upgrades import Connection, Upgraded, take_over

_HEAD_SECONDS: Final = 30.0
_REST_SECONDS: Final = 10.0
_MAX_ERROR: Final = 64 << 10


async def serve_upgrade(
    request: web.Request, backends: Backends, target: Target, path: str
) -> web.StreamResponse:
    """Pass an upgrade on and, once it is agreed, everything until one side ends.

    Args:
        request: that asks for the upgrade.
        backends: to connect by.
        target: to connect to.
        path: with the query, encoded.

    Raises:
        ApiError: the backend cannot be reached, or does not speak HTTP.
    """
    backend = await backends.connect(target)
    try:
        await backend.write(_head(request, target, path))
        head, status = await _read_head(backend, target)
        if status != 101:
            return await _refusal(backend, head, status)
        client = take_over(request, head)
        await relay(client, backend)
        return Upgraded()
    except ConnectionError as error:
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError("the client went away") from error
        text = f"the connection to {target.authority} broke: {error}"
        raise ApiError("InternalError", text) from error
    finally:
        backend.abort()


async def relay(client: Connection, backend: Connection) -> None:
    """Copy both ways until one side has ended; both are closed then.

    A side that only ends its half is told to the other, which may still say its last words.
    """
    up = asyncio.create_task(_copy(client, backend))
    down = asyncio.create_task(_copy(backend, client))
    try:
        await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        if not down.done() and up.exception() is None and backend.end_writing():
            await _last_words(backend, down)
    finally:
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)
        try:
            async with asyncio.timeout(_REST_SECONDS):
                await client.close()
        finally:
            client.abort()
            backend.abort()


async def _last_words(backend: Connection, down: asyncio.Task[None]) -> None:
    """Wait for the rest of the backend's bytes, for as long as there are some."""
    seen = -1
    while seen != backend.received:
        seen = backend.received
        done, _ = await asyncio.wait({down}, timeout=_REST_SECONDS)
        if done:
            return


async def _copy(source: Connection, sink: Connection) -> None:
    while data := await source.read():
        await sink.write(data)


def _head(request: web.Request, target: Target, path: str) -> bytes:
    peer = (request.remote or "").partition("%")[0]
    headers = request_headers(request.headers.items(), peer, upgrade=True)
    lines = [f"{request.method} {path} HTTP/1.1", f"Host: {target.authority}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


async def _read_head(backend: Connection, target: Target) -> tuple[bytes, int]:
    try:
        async with asyncio.timeout(_HEAD_SECONDS):
            head = await backend.reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, OSError) as error:
        why = str(error) or f"no answer within {_HEAD_SECONDS:g} s"
        text = f"the answer of {target.authority} to the upgrade cannot be read: {why}"
        raise ApiError("InternalError", text) from error
    words = head.split(b"\r\n", 1)[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise ApiError("InternalError", f"{target.authority} does not answer in HTTP")
    return head, int(words[1])


async def _refusal(backend: Connection, head: bytes, status: int) -> web.Response:
    """Return the answer of a backend that does not upgrade."""
    if status < 400:
        raise ApiError("InternalError", f"invalid upgrade response: status code {status}")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (
            line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:]
        )
    }
    length = headers.get("content-length", "")
    wanted = min(int(length) if length.isdecimal() else _MAX_ERROR, _MAX_ERROR)
    try:
        async with asyncio.timeout(_REST_SECONDS):
            body = await backend.reader.readexactly(wanted)
    except asyncio.IncompleteReadError as error:
        body = error.partial
    except (TimeoutError, OSError):
        body = b""
    kind = headers.get("content-type", "text/plain")
    return web.Response(status=status, body=body, headers={"Content-Type": kind})
