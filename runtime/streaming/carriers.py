"""What SPDY runs on: the TCP connection of an upgraded request, or a WebSocket as a tunnel."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

_CHUNK: Final = 64 << 10


class TakenConnection:
    """The connection of an HTTP request, taken over from the HTTP server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        """Return some bytes; b"" at the end."""
        return await self._reader.read(_CHUNK)

    async def write(self, data: bytes) -> None:
        """Queue the bytes, then wait while too many are queued.

        Raises:
            ConnectionError: the peer is gone.
        """
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        """Close it."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except (ConnectionError, OSError):
            # The peer was faster.
            pass


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


def take_over(request: web.Request, headers: dict[str, str]) -> TakenConnection:
    """Answer 101 with ``headers`` and take the connection of a request.

    The handler must return :class:`Upgraded` after it.

    Raises:
        ConnectionResetError: the client is gone already.
    """
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client went away before the upgrade")
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_CHUNK, loop=loop)
    protocol = _Successor(reader, request.protocol)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    lines = ["HTTP/1.1 101 Switching Protocols", *(f"{k}: {v}" for k, v in headers.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
    return TakenConnection(reader, writer)


class Tunnel:
    """SPDY inside the binary messages of a WebSocket; their borders mean nothing."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        """Return some bytes; b"" at the end."""
        while True:
            message = await self._socket.receive()
            if message.type is not WSMsgType.BINARY:
                return b""
            if message.data:
                return bytes(message.data)

    async def write(self, data: bytes) -> None:
        """Send one message.

        Raises:
            ConnectionError: the peer is gone.
        """
        await self._socket.send_bytes(data)

    async def close(self) -> None:
        """Close the WebSocket."""
        await self._socket.close()
