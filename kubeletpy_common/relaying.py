"""Passing on upgraded connections: once both sides agreed, bytes go both ways as they are.

Source: RFC 9110, section 7.8.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from kubeletpy_common.upgrades import Connection

_HEAD_SECONDS: Final = 30.0
_REST_SECONDS: Final = 10.0
_MAX_ERROR: Final = 64 << 10


class NoUpgradeError(Exception):
    """A backend did not answer an upgrade with HTTP."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer of a backend that does not upgrade."""

    status: int
    content_type: str
    body: bytes


def request_head(method: str, path: str, host: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """Return the head of a request (pure).

    Args:
        method: as ``POST``.
        path: with the query, encoded.
        host: and its port.
        headers: all others.
    """
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


async def read_head(backend: Connection) -> tuple[bytes, int]:
    """Return the head of an answer, and its status.

    Raises:
        NoUpgradeError: there is none.
    """
    try:
        async with asyncio.timeout(_HEAD_SECONDS):
            head = await backend.reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, OSError) as error:
        why = str(error) or f"no answer within {_HEAD_SECONDS:g} s"
        raise NoUpgradeError(f"its answer to the upgrade cannot be read: {why}") from error
    words = head.split(b"\r\n", 1)[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise NoUpgradeError("it does not answer in HTTP")
    return head, int(words[1])


async def read_refusal(backend: Connection, head: bytes, status: int) -> Refusal:
    """Read the rest of an answer that is none of 101; 64 KiB of it at most.

    Raises:
        NoUpgradeError: it is no refusal either, such as a redirect, which nobody follows.
    """
    if status < 400:
        raise NoUpgradeError(f"invalid upgrade response: status code {status}")
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
    return Refusal(status, headers.get("content-type", "text/plain"), body)


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
