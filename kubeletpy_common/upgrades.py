"""Taking the connection of an HTTP request over from aiohttp, for a protocol that is not HTTP.

Source: RFC 9110, section 7.8.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

CHUNK: Final = 64 << 10
"""Bytes that are read at once, and kept unread, at most."""


class Connection:
    """A TCP connection, with TLS or without.

    Attributes:
        reader: of what the peer sends.
        received: bytes that :meth:`read` has returned.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.received = 0
        self._writer = writer

    async def read(self) -> bytes:
        """Return some bytes; b"" at the end."""
        data = await self.reader.read(CHUNK)
        self.received += len(data)
        return data

    async def write(self, data: bytes) -> None:
        """Queue the bytes, then wait while too many are queued.

        Raises:
            ConnectionError: the peer is gone.
        """
        self._writer.write(data)
        await self._writer.drain()

    def end_writing(self) -> bool:
        """Tell the peer that nothing more will come; False if that cannot be told (TLS)."""
        if not self._writer.can_write_eof():
            return False
        self._writer.write_eof()
        return True

    async def close(self) -> None:
        """Close it, once what is queued has been sent."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except (ConnectionError, OSError):
            # The peer was faster.
            pass

    def abort(self) -> None:
        """Close it at once; what is queued is lost."""
        self._writer.transport.abort()


class _Successor(asyncio.StreamReaderProtocol):
    """Receives for a stream reader, and tells the HTTP server of the end, which frees it."""

    def __init__(self, reader: asyncio.StreamReader, former: asyncio.Protocol) -> None:
        super().__init__(reader)
        self._former: asyncio.Protocol | None = former

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        former, self._former = self._former, None
        if former is not None:
            former.connection_lost(exc)


class Upgraded(web.StreamResponse):
    """The answer to a request whose connection was taken over: nothing is left to send."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Do nothing."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing."""


def switching(headers: Mapping[str, str]) -> bytes:
    """Return the head of an answer 101 with ``headers``."""
    lines = ["HTTP/1.1 101 Switching Protocols", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def take_over(request: web.Request, head: bytes) -> Connection:
    """Answer with ``head`` and take the connection of a request.

    The handler must return :class:`Upgraded` after it.

    Raises:
        ConnectionResetError: the client is gone already.
    """
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client went away before the upgrade")
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=CHUNK, loop=loop)
    protocol = _Successor(reader, request.protocol)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    writer.write(head)
    return Connection(reader, writer)
