"""Clients of the streaming server: SPDY as client-go speaks it, and WebSocket by aiohttp."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp

from kubeletpy_common.linux.namespaces import in_namespace
from kubeletpy_common.spdy import frames as f
from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import CALL_SECONDS, Node
from tests.support.circumstances import patient

SECONDS = patient(30)
_T = TypeVar("_T")


def in_network_of(node: Node, scenario: Coroutine[Any, Any, _T]) -> _T:
    """Run a scenario where the daemon's loopback is the own one, within a time."""

    async def timed() -> _T:
        async with asyncio.timeout(SECONDS):
            return await scenario

    with in_namespace(node.place.netns):
        return asyncio.run(timed())


def exec_url(node: Node, container: str, *command: str, **streams: bool) -> str:
    streams = streams or {"stdout": True, "stderr": True}
    request = cri.ExecRequest(container_id=container, cmd=command, **streams)
    return node.runtime.Exec(request, timeout=CALL_SECONDS).url


def attach_url(node: Node, container: str, **streams: bool) -> str:
    request = cri.AttachRequest(container_id=container, **streams)
    return node.runtime.Attach(request, timeout=CALL_SECONDS).url


def forward_url(node: Node, sandbox: str) -> str:
    request = cri.PortForwardRequest(pod_sandbox_id=sandbox)
    return node.runtime.PortForward(request, timeout=CALL_SECONDS).url


class Spdy:
    """The client's side of a SPDY connection, over anything with read and write."""

    def __init__(self, read: Any, write: Any) -> None:
        self._read = read
        self._write = write
        self._encoder = f.FrameEncoder()
        self._decoder = f.FrameDecoder()
        self._next = 1
        self.received: dict[int, bytearray] = {}
        self.ended: dict[int, asyncio.Event] = {}
        self.reset: set[int] = set()
        self.pings: list[int] = []
        self.changed = asyncio.Condition()
        self._task = asyncio.create_task(self._receive())

    async def open(self, **headers: str) -> int:
        number, self._next = self._next, self._next + 2
        self.received[number] = bytearray()
        self.ended[number] = asyncio.Event()
        await self._write(self._encoder.encode(f.SynStream(number, headers)))
        return number

    async def send(self, number: int, data: bytes = b"", *, fin: bool = False) -> None:
        pieces = [data[i : i + 32768] for i in range(0, len(data), 32768)] or [b""]
        for index, piece in enumerate(pieces):
            last = fin and index == len(pieces) - 1
            await self._write(self._encoder.encode(f.Data(number, piece, last)))

    async def frame(self, frame: f.Frame) -> None:
        await self._write(self._encoder.encode(frame))

    async def all_of(self, number: int) -> bytes:
        await self.ended[number].wait()
        return bytes(self.received[number])

    async def until(self, number: int, text: bytes) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: text in self.received[number])

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _receive(self) -> None:
        while data := await self._read():
            for frame in self._decoder.feed(data):
                match frame:
                    case f.Data(number, content, fin):
                        self.received[number] += content
                        if fin:
                            self.ended[number].set()
                    case f.RstStream(number, _):
                        self.reset.add(number)
                        self.ended[number].set()
                    case f.Ping(number):
                        self.pings.append(number)
            async with self.changed:
                self.changed.notify_all()
        for event in self.ended.values():
            event.set()


@asynccontextmanager
async def spdy(url: str, protocol: str = "v4.channel.k8s.io") -> AsyncIterator[Spdy]:
    """Connect and upgrade."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\n"
        "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: future.channel.k8s.io\r\n"
        f"X-Stream-Protocol-Version: {protocol}\r\nContent-Length: 0\r\n\r\n".encode()
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert head.startswith("HTTP/1.1 101 "), head
    assert f"X-Stream-Protocol-Version: {protocol}" in head

    async def read() -> bytes:
        return await reader.read(65536)

    async def write(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    client = Spdy(read, write)
    try:
        yield client
    finally:
        await client.close()
        # As a program that ends: what is still to be sent keeps nothing open.
        writer.transport.abort()


@asynccontextmanager
async def tunnel(url: str) -> AsyncIterator[Spdy]:
    """SPDY inside a WebSocket."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, protocols=("SPDY/3.1+portforward.k8s.io",)) as socket,
    ):
        assert socket.protocol == "SPDY/3.1+portforward.k8s.io"

        async def read() -> bytes:
            message = await socket.receive()
            return bytes(message.data) if message.type is aiohttp.WSMsgType.BINARY else b""

        client = Spdy(read, socket.send_bytes)
        try:
            yield client
        finally:
            await client.close()


class Channels:
    """What a WebSocket client has received, by channel."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.received: dict[int, bytearray] = {}

    async def send(self, channel: int, data: bytes) -> None:
        await self.socket.send_bytes(bytes([channel]) + data)

    async def until(self, channel: int, text: bytes) -> None:
        while channel not in self.received or text not in self.received[channel]:
            assert await self._next(), f"the end came before {text!r}: {self.received}"

    async def to_end(self) -> dict[str, Any]:
        """Receive until the server closes; returns the status."""
        while await self._next():
            pass
        return json.loads(self.received[3]) if self.received.get(3) else {}

    async def _next(self) -> bool:
        message = await self.socket.receive()
        if message.type is not aiohttp.WSMsgType.BINARY:
            return False
        self.received.setdefault(message.data[0], bytearray()).extend(message.data[1:])
        return True


@asynccontextmanager
async def channels(url: str, protocol: str = "v5.channel.k8s.io") -> AsyncIterator[Channels]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, protocols=(protocol,)) as socket,
    ):
        assert socket.protocol == protocol
        yield Channels(socket)
