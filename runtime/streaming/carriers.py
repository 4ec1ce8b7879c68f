"""What SPDY runs on, besides the TCP connection of an upgraded request: a WebSocket as a tunnel."""

from __future__ import annotations

from aiohttp import WSMsgType, web


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
