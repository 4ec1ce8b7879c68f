"""The streams of a command as channels of a WebSocket: the first byte of a message names one.

Source: k8s.io/apimachinery/pkg/util/remotecommand; 0 to 2 are the standard streams, 3 carries the
status, 4 the terminal's size, and in version 5 a message 255, N closes the channel N.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Final

from aiohttp import WSMsgType, web

from runtime.streaming.buffers import ByteBuffer
from runtime.streaming.resize import SizeParser
from runtime.streaming.status import Outcome, status_json

PROTOCOLS: Final = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
)
MAX_MESSAGE: Final = 4 << 20

_STDIN: Final = 0
_OUTPUTS: Final = {"stdout": 1, "stderr": 2}
_STATUS: Final = 3
_SIZE: Final = 4
_CLOSE: Final = 255
_CHUNK: Final = 32 << 10


class WebSocketClient:
    """A client that speaks one of :data:`PROTOCOLS`; use it as an async context.

    Args:
        socket: prepared, with the subprotocol chosen.
        request: the request that became it.
        has_stdin: the client may send input; what it sends otherwise is dropped.
        ping_seconds: between pings.
    """

    def __init__(
        self,
        socket: web.WebSocketResponse,
        request: web.Request,
        *,
        has_stdin: bool,
        ping_seconds: float,
    ) -> None:
        self.gone = asyncio.Event()
        self._socket = socket
        self._transport = request.transport
        self._ping_seconds = ping_seconds
        protocol = socket.ws_protocol or "channel.k8s.io"
        self._text = "base64" in protocol
        self._can_close = protocol.startswith("v5.")
        self._has_status = protocol.startswith("v")
        self._stdin = ByteBuffer()
        if not has_stdin:
            self._stdin.end()
        self._sizes = ByteBuffer()
        self._parser = SizeParser()
        self._waiting: list[tuple[int, int]] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> WebSocketClient:
        self._tasks = [
            asyncio.create_task(self._receive(), name="websocket-receive"),
            asyncio.create_task(self._ping(), name="websocket-ping"),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def greet(self, streams: frozenset[str]) -> None:
        """Send an empty message, by which clients see that the command runs.

        Raises:
            ConnectionError: the client is gone.
        """
        name = next((name for name in _OUTPUTS if name in streams), "")
        await self._send(_OUTPUTS.get(name, _STATUS), b"")

    async def read_stdin(self) -> bytes:
        """Return some input; b"" at its end.

        Raises:
            ConnectionError: the client is gone.
        """
        return await self._stdin.get()

    async def read_size(self) -> tuple[int, int] | None:
        """Return the next size of the terminal; None when no more will come."""
        while not self._waiting:
            data = await self._sizes.get()
            if not data:
                return None
            self._waiting = self._parser.feed(data)
        return self._waiting.pop(0)

    async def write(self, stream: str, data: bytes) -> None:
        """Send output.

        Raises:
            ConnectionError: the client is gone.
        """
        view = memoryview(data)
        while view:
            await self._send(_OUTPUTS[stream], bytes(view[:_CHUNK]))
            view = view[_CHUNK:]

    async def finish(self, outcome: Outcome) -> None:
        """Send the status, and close.

        Raises:
            ConnectionError: the client is gone.
        """
        if self._has_status:
            await self._send(_STATUS, status_json(outcome))
        elif outcome.text:
            await self._send(_STATUS, outcome.text.encode())
        self._tasks[0].cancel()
        await asyncio.gather(self._tasks[0], return_exceptions=True)
        await self._socket.close()

    async def _send(self, channel: int, data: bytes) -> None:
        if self._text:
            await self._socket.send_str(f"{channel}{base64.b64encode(data).decode()}")
        else:
            await self._socket.send_bytes(bytes([channel]) + data)

    async def _receive(self) -> None:
        try:
            while (message := await self._next()) is not None:
                channel, data = message
                if channel == _STDIN and data:
                    await self._stdin.put(data)
                elif channel == _SIZE:
                    await self._sizes.put(data)
                elif channel == _CLOSE and self._can_close and data == bytes([_STDIN]):
                    self._stdin.end()
        finally:
            left = ConnectionResetError("the client closed the WebSocket")
            self._stdin.fail(left)
            self._sizes.end()
            self.gone.set()

    async def _next(self) -> tuple[int, bytes] | None:
        message = await self._socket.receive()
        if message.type is WSMsgType.BINARY and not self._text:
            # An empty message says nothing.
            return (message.data[0], message.data[1:]) if message.data else (_STDIN, b"")
        if message.type is WSMsgType.TEXT and self._text:
            try:
                return int(message.data[:1]), base64.b64decode(message.data[1:], validate=True)
            except (ValueError, binascii.Error):
                return None
        return None

    async def _ping(self) -> None:
        # While input waits for the process, nothing is read and a close goes unseen; but a kernel
        # whose program is gone answers a ping by a reset.
        try:
            while self._transport is not None and not self._transport.is_closing():
                await asyncio.sleep(self._ping_seconds)
                await self._socket.ping()
        except ConnectionError:
            # Told below.
            pass
        self.gone.set()
