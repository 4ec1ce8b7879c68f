"""Port-forward: pairs of SPDY streams, each carried to a port inside a pod.

Source: client-go ``tools/portforward``. Both streams of a pair have the headers ``port`` and
``requestID``; the ``data`` stream carries the connection, the ``error`` stream a text if it fails.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from runtime.config import StreamingSettings
from runtime.streaming.commands import IdleTimer
from runtime.streaming.remote_spdy import TYPE_HEADER
from runtime.streaming.spdy.connection import Carrier, Connection, Stream

PROTOCOL: Final = "portforward.k8s.io"
TUNNEL_PROTOCOL: Final = f"SPDY/3.1+{PROTOCOL}"
_MAX_STREAMS: Final = 2048
_CHUNK: Final = 64 << 10
_FLUSH_SECONDS: Final = 30.0

Connect = Callable[[int], Awaitable[socket.socket]]


@dataclass(frozen=True)
class ForwardRequest:
    """What a token of port-forward stands for.

    Attributes:
        subject: id of the pod, for the log.
        connect: connects to a port inside the pod; raises OSError.
        ports: named in the request, for clients whose streams do not name them.
    """

    subject: str
    connect: Connect
    ports: tuple[int, ...] = ()
    kind: str = field(default="portforward", init=False)


@dataclass
class _Pair:
    data: Stream | None = None
    error: Stream | None = None
    timer: asyncio.TimerHandle | None = None


class PortForwarder:
    """Serves one connection of a client.

    Args:
        carrier: the upgraded connection.
        request: where to.
        settings: times; the second stream of a pair has ``creation_seconds`` to come.
    """

    def __init__(
        self, carrier: Carrier, request: ForwardRequest, settings: StreamingSettings
    ) -> None:
        self._carrier = carrier
        self._request = request
        self._creation_seconds = settings.creation_seconds
        self._idle = IdleTimer(settings.idle_seconds)
        self._pairs: dict[str, _Pair] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._connection = Connection(carrier, self._on_stream, _MAX_STREAMS, settings.ping_seconds)

    async def serve(self) -> None:
        """Forward until the client leaves or is idle for too long."""
        run = asyncio.create_task(self._connection.run(), name="spdy-connection")
        # A reader that waits for a pod does not see the client leave; this does.
        closed = asyncio.create_task(self._connection.closed.wait())
        expired = asyncio.create_task(self._idle.expired())
        waits = {run, closed, expired}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pair in self._pairs.values():
                if pair.timer is not None:
                    pair.timer.cancel()
            tasks = [*waits, *self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._carrier.close()

    def _on_stream(self, stream: Stream) -> bool:
        kind = stream.headers.get(TYPE_HEADER, "")
        if kind not in ("data", "error") or _port(stream) is None:
            return False
        # Clients of old send no requestID: a data stream follows its error stream at once.
        own = stream.id if kind == "error" else stream.id - 2
        key = stream.headers.get("requestid", f"stream {own}")
        pair = self._pairs.setdefault(key, _Pair())
        if getattr(pair, kind) is not None:
            return False
        setattr(pair, kind, stream)
        if pair.data is None or pair.error is None:
            loop = asyncio.get_running_loop()
            pair.timer = loop.call_later(self._creation_seconds, self._give_up, key)
            return True
        del self._pairs[key]
        if pair.timer is not None:
            pair.timer.cancel()
        self._start(self._forward(pair.data, pair.error))
        return True

    def _give_up(self, key: str) -> None:
        pair = self._pairs.pop(key)
        for stream in (pair.data, pair.error):
            if stream is not None:
                self._start(_reset(stream))

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, data: Stream, error: Stream) -> None:
        port = _port(data)
        assert port is not None
        try:
            try:
                sock = await self._request.connect(port)
            except OSError as problem:
                text = f"forward port {port} of pod {self._request.subject}: {problem}"
                await error.write(text.encode())
                await error.close_write()
                await _reset(data)
                return
            await self._carry(sock, data)
            await error.close_write()
        except ConnectionError:
            # The client has gone, or has reset the stream: there is nobody to tell.
            await _reset(data)

    async def _carry(self, sock: socket.socket, stream: Stream) -> None:
        reader, writer = await asyncio.open_connection(sock=sock, limit=_CHUNK)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._to_pod(stream, writer))
                group.create_task(self._to_client(reader, stream))
            writer.close()
            async with asyncio.timeout(_FLUSH_SECONDS):
                await writer.wait_closed()
        except* (ConnectionError, TimeoutError):
            await _reset(stream)
        finally:
            # What the pod does not read must not keep the socket here.
            writer.transport.abort()

    async def _to_client(self, reader: asyncio.StreamReader, stream: Stream) -> None:
        while chunk := await reader.read(_CHUNK):
            self._idle.touch()
            await stream.write(chunk)
        await stream.close_write()

    async def _to_pod(self, stream: Stream, writer: asyncio.StreamWriter) -> None:
        refused = False
        while chunk := await stream.read():
            self._idle.touch()
            if refused:
                # Taken all the same: other streams of the connection are behind it.
                continue
            try:
                writer.write(chunk)
                await writer.drain()
            except OSError:
                refused = True
        if not refused and not writer.transport.is_closing():
            writer.write_eof()


def _port(stream: Stream) -> int | None:
    text = stream.headers.get("port", "")
    if not (text.isascii() and text.isdigit()) or len(text) > 5:
        return None
    return port if 0 < (port := int(text)) < 65536 else None


async def _reset(stream: Stream) -> None:
    try:
        await stream.reset()
    except ConnectionError:
        # The connection has ended, and the stream with it.
        pass
