"""A session over a WebSocket: the first byte of a message names its channel.

Source: k8s.io/apimachinery/pkg/util/remotecommand; 0 to 2 are the standard streams, 3 carries the
status, 4 the terminal's size, and in version 5 a message 255, N closes the channel N.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from kubeletpy.cri_cli.streaming.remote import (
    HalfCloseUnsupported,
    Output,
    StreamingError,
    Streams,
)
from kubeletpy.cri_cli.streaming.status import Ended, parse_status

V5: Final = "v5.channel.k8s.io"
V4: Final = "v4.channel.k8s.io"
OPEN_SECONDS: Final = 30.0

_STDIN, _STDOUT, _STDERR, _STATUS, _SIZE, _CLOSE = 0, 1, 2, 3, 4, 255
_OUTPUTS: Final = {_STDOUT: "stdout", _STDERR: "stderr"}
_MAX_MESSAGE: Final = 16 << 20
_MAX_STATUS: Final = 1 << 20


class WebSocketRemote:
    """An open session; see :class:`kubeletpy.cri_cli.streaming.remote.Remote`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def send(self, data: bytes) -> None:
        """Send input."""
        await self._message(_STDIN, data)

    async def end_input(self) -> None:
        """Tell that there is no more input; without version 5 that cannot be told."""
        if self._socket.protocol == V5:
            await self._message(_CLOSE, bytes([_STDIN]))

    async def resize(self, columns: int, rows: int) -> None:
        """Tell the size of the terminal."""
        size = {"Width": columns, "Height": rows}
        await self._message(_SIZE, json.dumps(size).encode())

    async def _message(self, channel: int, data: bytes) -> None:
        await self._socket.send_bytes(bytes([channel]) + data)

    async def run(self, output: Output) -> Ended:
        """Pass output on until the session ends."""
        status = b""
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                raise StreamingError(f"the server sent a message of type {message.type.name}")
            if not message.data:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel in _OUTPUTS and data:
                await output(_OUTPUTS[channel], data)
            elif channel == _STATUS:
                status += data
                if len(status) > _MAX_STATUS:
                    raise StreamingError("the server sends a status without end")
        return parse_status(status)


@asynccontextmanager
async def connect(url: str, streams: Streams) -> AsyncIterator[WebSocketRemote]:
    """Open a session.

    Raises:
        HalfCloseUnsupported: there is input that will end, and the server does not speak version 5;
            the session was not opened.
        StreamingError: the server was not reached, or refused.
    """
    # The end of what is piped in has to arrive; a terminal's input ends with the session.
    half_close = streams.stdin and not streams.tty
    protocols = (V5,) if half_close else (V5, V4)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=OPEN_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        try:
            socket = await session.ws_connect(
                url, protocols=protocols, max_msg_size=_MAX_MESSAGE, compress=0
            )
        except aiohttp.WSServerHandshakeError as error:
            if half_close:
                raise HalfCloseUnsupported(str(error)) from error
            raise StreamingError(f"the server refused the session: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise StreamingError(f"cannot reach the streaming server: {error}") from error
        async with socket:
            if socket.protocol not in protocols:
                raise StreamingError(f"the server speaks none of {', '.join(protocols)}")
            yield WebSocketRemote(socket)
