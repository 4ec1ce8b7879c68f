"""Port-forward by WebSocket channels."""

from __future__ import annotations

import asyncio
import base64
import socket

import aiohttp
import pytest

from runtime.config import StreamingSettings
from runtime.streaming.port_forward import ForwardRequest
from runtime.streaming.server import StreamingServer

BINARY, TEXT = "v4.channel.k8s.io", "v4.base64.channel.k8s.io"


def shown(message: aiohttp.WSMessage) -> tuple[int, bytes]:
    """Return channel and content."""
    if message.type is aiohttp.WSMsgType.TEXT:
        return int(message.data[0]), base64.b64decode(message.data[1:])
    assert message.type is aiohttp.WSMsgType.BINARY, message
    return message.data[0], message.data[1:]


@pytest.mark.parametrize("protocol", [BINARY, TEXT])
async def test_each_port_has_a_channel_of_data_and_one_of_errors(protocol: str) -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data.upper())
        writer.close()

    listener = await asyncio.start_server(shout, "127.0.0.1", 0)
    address = listener.sockets[0].getsockname()

    async def connect(port: int) -> socket.socket:
        if port == 81:
            raise ConnectionRefusedError(111, "refused")
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
        return sock

    server = StreamingServer(StreamingSettings())
    await server.start()
    try:
        url = server.issue(ForwardRequest("pod", connect, (80, 81)))
        async with (
            asyncio.timeout(20),
            aiohttp.ClientSession() as session,
            session.ws_connect(url, protocols=(protocol,)) as client,
        ):
            first = [shown(await client.receive()) for _ in range(4)]
            ports = [(0, b"\x50\x00"), (1, b"\x50\x00"), (2, b"\x51\x00"), (3, b"\x51\x00")]
            assert first == ports
            channel, text = shown(await client.receive())
            assert channel == 3
            assert b"forward port 81 of pod pod" in text
            if protocol == BINARY:
                await client.send_bytes(b"\x00hello")
            else:
                await client.send_str("0" + base64.b64encode(b"hello").decode())
            assert shown(await client.receive()) == (0, b"HELLO")
    finally:
        await server.close()
        listener.close()


async def test_the_end_of_the_last_connection_ends_all() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.close()

    listener = await asyncio.start_server(greet, "127.0.0.1", 0)
    address = listener.sockets[0].getsockname()

    async def connect(port: int) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
        return sock

    server = StreamingServer(StreamingSettings())
    await server.start()
    try:
        url = server.issue(ForwardRequest("pod", connect, (80,)))
        async with (
            asyncio.timeout(20),
            aiohttp.ClientSession() as session,
            session.ws_connect(url, protocols=(BINARY,)) as client,
        ):
            received = [shown(message) async for message in client]
        assert received == [(0, b"\x50\x00"), (1, b"\x50\x00"), (0, b"bye")]
    finally:
        await server.close()
        listener.close()


async def test_channels_need_ports() -> None:
    async def connect(port: int) -> socket.socket:
        raise AssertionError

    server = StreamingServer(StreamingSettings())
    await server.start()
    try:
        url = server.issue(ForwardRequest("pod", connect))
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                await session.ws_connect(url, protocols=(BINARY,))
    finally:
        await server.close()
