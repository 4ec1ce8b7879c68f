"""SPDY/3.1, the client's side: for port-forward, and for servers whose WebSocket cannot half-close.

Flow control is that of TCP, as with the Go servers and clients: a stream whose consumer is slow
holds back the streams beside it.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from kubeletpy.cri_cli.streaming.remote import Output, StreamingError, Streams
from kubeletpy.cri_cli.streaming.status import Ended, parse_status
from kubeletpy_common.spdy import frames as f
from kubeletpy_common.spdy.errors import SpdyError

REMOTE_COMMAND: Final = "v4.channel.k8s.io"
PORT_FORWARD: Final = "portforward.k8s.io"
_OPEN_SECONDS: Final = 30.0
_MAX_HEAD: Final = 64 << 10
_DATA: Final = 32 << 10
_READ: Final = 64 << 10

Sink = Callable[[bytes], Awaitable[None]]


async def _drop(_: bytes) -> None:
    return None


@dataclass
class Stream:
    """A stream that we have opened.

    Attributes:
        id: its number.
        sink: takes what arrives.
        ended: set once nothing more will arrive.
        reset: the server has ended it in both directions.
    """

    id: int
    sink: Sink
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    reset: bool = False


class SpdyConnection:
    """A connection; :meth:`run` it beside its users."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._encoder = f.FrameEncoder()
        self._decoder = f.FrameDecoder()
        self._streams: dict[int, Stream] = {}
        self._next = 1
        self.closed = asyncio.Event()

    async def open(self, headers: dict[str, str], sink: Sink = _drop) -> Stream:
        """Open a stream.

        Raises:
            ConnectionError: the connection is gone.
        """
        if self.closed.is_set():
            raise ConnectionResetError("the connection to the streaming server has ended")
        stream = Stream(self._next, sink)
        self._next += 2
        self._streams[stream.id] = stream
        await self._send(f.SynStream(stream.id, headers))
        return stream

    async def write(self, stream: Stream, data: bytes) -> None:
        """Send bytes, at the pace of the server.

        Raises:
            ConnectionError: the stream was reset, or the connection is gone.
        """
        for start in range(0, len(data), _DATA):
            if stream.reset or self.closed.is_set():
                raise ConnectionResetError(f"stream {stream.id} has ended")
            await self._send(f.Data(stream.id, data[start : start + _DATA]))

    async def end(self, stream: Stream) -> None:
        """End our half of a stream.

        Raises:
            ConnectionError: the connection is gone.
        """
        if not stream.reset:
            await self._send(f.Data(stream.id, b"", fin=True))

    async def abort(self, stream: Stream) -> None:
        """End both halves of a stream; harmless when the connection is gone."""
        self._streams.pop(stream.id, None)
        stream.reset = True
        stream.ended.set()
        if not self.closed.is_set():
            await self._send(f.RstStream(stream.id, f.CANCEL))

    async def _send(self, frame: f.Frame) -> None:
        self._writer.write(self._encoder.encode(frame))
        await self._writer.drain()

    async def run(self) -> None:
        """Receive until the connection ends.

        Raises:
            StreamingError: the server broke the protocol.
        """
        try:
            while data := await self._reader.read(_READ):
                for frame in self._decoder.feed(data):
                    await self._handle(frame)
        except SpdyError as error:
            raise StreamingError(f"the server broke the protocol: {error}") from error
        except ConnectionError:
            # Told by the streams that ended.
            pass
        finally:
            self.closed.set()
            for stream in self._streams.values():
                stream.ended.set()

    async def _handle(self, frame: f.Frame) -> None:
        match frame:
            case f.Data(number, data, fin):
                stream = self._streams.get(number)
                if stream is None:
                    return
                if data:
                    await stream.sink(data)
                if fin:
                    stream.ended.set()
            case f.RstStream(number, _):
                stream = self._streams.pop(number, None)
                if stream is not None:
                    stream.reset = True
                    stream.ended.set()
            case f.SynReply(number, _, True) | f.HeadersFrame(number, _, True):
                stream = self._streams.get(number)
                if stream is not None:
                    stream.ended.set()
            case f.Ping(number) if number % 2 == 0:
                await self._send(frame)
            case _:
                # SETTINGS, WINDOW_UPDATE, GOAWAY and replies ask for nothing.
                pass


@asynccontextmanager
async def connect(url: str, protocol: str) -> AsyncIterator[SpdyConnection]:
    """Open a connection, and receive on it until the block ends.

    Raises:
        StreamingError: the server was not reached, refused, or broke the protocol.
    """
    try:
        async with asyncio.timeout(_OPEN_SECONDS):
            reader, writer = await _upgraded(url, protocol)
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError,
            asyncio.LimitOverrunError) as error:  # fmt: skip
        raise StreamingError(f"cannot reach the streaming server: {error!r}") from error
    connection = SpdyConnection(reader, writer)
    run = asyncio.create_task(connection.run())
    try:
        yield connection
    finally:
        run.cancel()
        result = (await asyncio.gather(run, return_exceptions=True))[0]
        writer.transport.abort()
    if isinstance(result, StreamingError):
        raise result


async def _upgraded(url: str, protocol: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        raise ValueError(f"the runtime named the address {url[:200]!r}, which is no HTTP URL")
    secure = ssl.create_default_context() if parts.scheme == "https" else None
    port = parts.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(
        parts.hostname, port, ssl=secure, limit=_MAX_HEAD
    )
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\n"
        f"Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {protocol}\r\n"
        "Content-Length: 0\r\n\r\n".encode()
    )
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, _, rest = head.partition("\r\n")
    if " 101 " not in f"{status} ":
        writer.transport.abort()
        raise StreamingError(f"the server refused the session: {status}")
    if protocol.lower() not in rest.lower():
        writer.transport.abort()
        raise StreamingError(f"the server does not speak {protocol}")
    return reader, writer


class SpdyRemote:
    """A session over SPDY; see :class:`kubeletpy.cri_cli.streaming.remote.Remote`."""

    def __init__(self, connection: SpdyConnection, streams: Streams) -> None:
        self._connection = connection
        self._streams = streams
        self._status = bytearray()
        self._opened: dict[str, Stream] = {}
        self._output: Output | None = None
        self._ready = asyncio.Event()

    async def start(self) -> None:
        """Open the streams; the command runs once all are there.

        Raises:
            ConnectionError: the server is gone.
        """
        wanted = {
            "error": self._take_status,
            "stdin": _drop,
            "stdout": self._sink("stdout"),
            "stderr": self._sink("stderr"),
            "resize": _drop,
        }
        kept = {
            "error": True,
            "stdin": self._streams.stdin,
            "stdout": self._streams.stdout,
            "stderr": self._streams.stderr and not self._streams.tty,
            "resize": self._streams.tty,
        }
        for name, sink in wanted.items():
            if kept[name]:
                self._opened[name] = await self._connection.open({"streamtype": name}, sink)

    async def _take_status(self, data: bytes) -> None:
        self._status += data

    def _sink(self, name: str) -> Sink:
        async def take(data: bytes) -> None:
            await self._ready.wait()
            assert self._output is not None
            await self._output(name, data)

        return take

    async def send(self, data: bytes) -> None:
        """Send input."""
        await self._connection.write(self._opened["stdin"], data)

    async def end_input(self) -> None:
        """Tell that there is no more input."""
        await self._connection.end(self._opened["stdin"])

    async def resize(self, columns: int, rows: int) -> None:
        """Tell the size of the terminal."""
        size = json.dumps({"Width": columns, "Height": rows}) + "\n"
        await self._connection.write(self._opened["resize"], size.encode())

    async def run(self, output: Output) -> Ended:
        """Pass output on until the session ends."""
        self._output = output
        self._ready.set()
        for name in ("stdout", "stderr", "error"):
            if name in self._opened:
                await self._opened[name].ended.wait()
        return parse_status(bytes(self._status))
