"""Port-forward by plain WebSocket: two channels for each port that the request names.

Source: Kubernetes, ``k8s.io/kubelet``, WebSocket port-forward: of port number i, channel 2i carries
the connection and 2i+1 a text if it fails; on both the server first sends the port, 16 bits, little
end first. The first byte of a message is its channel.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Final

from aiohttp import WSMsgType, web

from runtime.config import StreamingSettings
from runtime.streaming.commands import IdleTimer
from runtime.streaming.port_forward import ForwardRequest

PROTOCOLS: Final = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io")
_CHUNK: Final = 32 << 10
_WAITING: Final = 16
_MAX_PORTS: Final = 100


class ChannelForwarder:
    """Serves one connection of a client.

    Args:
        client: prepared, with one of :data:`PROTOCOLS` chosen.
        request: where to; its ports are those of the channels.
        settings: times.
    """

    def __init__(
        self, client: web.WebSocketResponse, request: ForwardRequest, settings: StreamingSettings
    ) -> None:
        self._client = client
        self._request = request
        self._text = client.ws_protocol == PROTOCOLS[1]
        self._idle = IdleTimer(settings.idle_seconds)
        self._ports = request.ports[:_MAX_PORTS]
        # Messages wait in order; a port that takes none in time holds up those behind it.
        self._queues: list[asyncio.Queue[bytes]] = [asyncio.Queue(_WAITING) for _ in self._ports]

    async def serve(self) -> None:
        """Forward until the client leaves, all connections have ended or it is idle too long."""
        for index, port in enumerate(self._ports):
            for channel in (2 * index, 2 * index + 1):
                await self._send(channel, port.to_bytes(2, "little"))
        carried = asyncio.gather(*(self._forward(index) for index in range(len(self._ports))))
        waits: set[asyncio.Future[object]] = {
            asyncio.ensure_future(self._receive()),
            asyncio.ensure_future(self._idle.expired()),
            asyncio.ensure_future(carried),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
            await self._client.close()

    async def _receive(self) -> None:
        async for message in self._client:
            self._idle.touch()
            if message.type is WSMsgType.BINARY and not self._text:
                channel, data = message.data[:1], message.data[1:]
                number = channel[0] if channel else -1
            elif message.type is WSMsgType.TEXT and self._text:
                number = ord(message.data[0]) - ord("0") if message.data else -1
                try:
                    data = base64.b64decode(message.data[1:], validate=True)
                except (binascii.Error, ValueError):
                    return
            else:
                return
            index, of_error = divmod(number, 2)
            if not of_error and 0 <= index < len(self._queues) and data:
                await self._queues[index].put(data)

    async def _send(self, channel: int, data: bytes) -> None:
        self._idle.touch()
        if self._text:
            name = chr(ord("0") + channel)
            await self._client.send_str(name + base64.b64encode(data).decode())
        else:
            await self._client.send_bytes(bytes((channel,)) + data)

    async def _forward(self, index: int) -> None:
        port = self._ports[index]
        try:
            sock = await self._request.connect(port)
        except OSError as problem:
            text = f"forward port {port} of pod {self._request.subject}: {problem}"
            await self._send(2 * index + 1, text.encode())
            return
        reader, writer = await asyncio.open_connection(sock=sock, limit=_CHUNK)
        feeding = asyncio.create_task(self._feed(index, writer))
        try:
            while data := await reader.read(_CHUNK):
                await self._send(2 * index, data)
        except ConnectionError:
            # The pod has reset it, or the client is gone.
            pass
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            writer.transport.abort()

    async def _feed(self, index: int, writer: asyncio.StreamWriter) -> None:
        queue = self._queues[index]
        refused = False
        while True:
            data = await queue.get()
            if refused:
                # Taken all the same: messages for other ports are behind it.
                continue
            try:
                writer.write(data)
                await writer.drain()
            except OSError:
                refused = True
