"""A SPDY/3.1 connection, the server's side, over anything that carries bytes.

Flow control is that of the carrier: the Go clients neither send nor honour WINDOW_UPDATE, so
waiting for it would be for ever. A stream whose reader is slow stops the reading of the whole
connection once its buffer is full; a client that does keep to windows never gets there, since it
is told only of what was consumed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from kubeletpy_common.spdy import frames as f
from kubeletpy_common.spdy.errors import SpdyError, StreamClosedError
from runtime.streaming.buffers import ByteBuffer

DATA_SIZE: Final = 32 << 10
"""Bytes of data in one frame that is sent."""
_UPDATE_AT: Final = 32 << 10
_MAX_PONGS: Final = 64


class Carrier(Protocol):
    """What bytes travel on."""

    async def read(self) -> bytes:
        """Return some bytes; b"" at the end."""
        ...

    async def write(self, data: bytes) -> None:
        """Queue the bytes at once, then wait while too many are queued.

        Raises:
            ConnectionError: the peer is gone.
        """
        ...

    async def close(self) -> None:
        """End it."""
        ...


class Stream:
    """One stream that the client has opened.

    Attributes:
        id: its number.
        headers: with which it was opened.
    """

    def __init__(self, connection: Connection, frame: f.SynStream) -> None:
        self.id = frame.stream_id
        self.headers = frame.headers
        self._connection = connection
        self._buffer = ByteBuffer()
        self._write_closed = frame.unidirectional
        self._unacknowledged = 0
        if frame.fin:
            self._buffer.end()

    async def read(self) -> bytes:
        """Return some bytes; b"" when the client has ended its half.

        Raises:
            StreamClosedError: it was reset, or the connection is gone.
        """
        data = await self._buffer.get()
        self._unacknowledged += len(data)
        if self._unacknowledged >= _UPDATE_AT:
            self._connection.acknowledge(self.id, self._unacknowledged)
            self._unacknowledged = 0
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes, at the pace of the client.

        Raises:
            StreamClosedError: this half was closed, or the stream reset.
            ConnectionError: the connection is gone.
        """
        view = memoryview(data)
        while view:
            if self._write_closed:
                raise StreamClosedError(f"stream {self.id} is closed")
            await self._connection.send(f.Data(self.id, bytes(view[:DATA_SIZE])))
            view = view[DATA_SIZE:]

    async def close_write(self) -> None:
        """End the server's half; harmless when it has ended."""
        if not self._write_closed:
            self._write_closed = True
            await self._connection.send(f.Data(self.id, b"", fin=True))
            self._connection.forget_if_done(self)

    async def reset(self, status: int = f.CANCEL) -> None:
        """End both halves."""
        self._abort()
        self._connection.forget(self)
        await self._connection.send(f.RstStream(self.id, status))

    @property
    def done(self) -> bool:
        """Both halves have ended."""
        return self._write_closed and self._buffer.ended

    async def _receive(self, frame: f.Data) -> None:
        await self._buffer.put(frame.data)
        if frame.fin:
            self._buffer.end()

    def _abort(self) -> None:
        self._write_closed = True
        self._buffer.fail(StreamClosedError(f"stream {self.id} was reset"))


class Connection:
    """The server's side of one connection.

    Args:
        carrier: what it runs on.
        on_stream: called with each new stream before it is accepted; False refuses it.
        max_streams: open at once.
        ping_seconds: between pings. While a stream's reader is slow nothing is read, and a client
            that leaves goes unseen; but its kernel answers a ping by a reset.
    """

    def __init__(
        self,
        carrier: Carrier,
        on_stream: Callable[[Stream], bool],
        max_streams: int,
        ping_seconds: float,
    ) -> None:
        self._carrier = carrier
        self._on_stream = on_stream
        self._max_streams = max_streams
        self._ping_seconds = ping_seconds
        self._encoder = f.FrameEncoder()
        self._decoder = f.FrameDecoder()
        self._streams: dict[int, Stream] = {}
        self._last_id = 0
        self._going = False
        self._pongs: asyncio.Queue[int] = asyncio.Queue(_MAX_PONGS)
        self._updates: dict[int, int] = {}
        self._control = asyncio.Event()
        self.closed = asyncio.Event()

    async def run(self) -> None:
        """Serve until the client is gone; a client that breaks the protocol is sent away."""
        control = asyncio.create_task(self._send_control(), name="spdy-control")
        try:
            while data := await self._carrier.read():
                for frame in self._decoder.feed(data):
                    await self._handle(frame)
        except SpdyError:
            try:
                await self.send(f.GoAway(self._last_id, 1))
            except ConnectionError:
                # It is gone already.
                pass
        except ConnectionError:
            # A client that vanishes is as good as one that closes.
            pass
        finally:
            control.cancel()
            self.closed.set()
            for stream in self._streams.values():
                stream._abort()
            self._streams.clear()

    async def send(self, frame: f.Frame) -> None:
        """Send a frame, and wait while too much is on its way.

        Raises:
            ConnectionError: the connection is gone.
        """
        await self._carrier.write(self._encoder.encode(frame))

    def acknowledge(self, stream_id: int, size: int) -> None:
        """Tell the client that ``size`` bytes of a stream were consumed."""
        for number in (stream_id, 0):
            self._updates[number] = self._updates.get(number, 0) + size
        self._control.set()

    def forget(self, stream: Stream) -> None:
        """Frames for the stream are dropped from now on."""
        self._streams.pop(stream.id, None)

    def forget_if_done(self, stream: Stream) -> None:
        """Forget the stream if both halves have ended."""
        if stream.done:
            self.forget(stream)

    async def go_away(self) -> None:
        """Say that no more streams are accepted."""
        self._going = True
        await self.send(f.GoAway(self._last_id))

    async def _handle(self, frame: f.Frame) -> None:
        match frame:
            case f.Data():
                stream = self._streams.get(frame.stream_id)
                if stream is not None:
                    await stream._receive(frame)
                    self.forget_if_done(stream)
                elif frame.data:
                    # Dropped, but it counts for the connection's window.
                    self.acknowledge(frame.stream_id, len(frame.data))
            case f.SynStream():
                await self._open(frame)
            case f.RstStream():
                stream = self._streams.pop(frame.stream_id, None)
                if stream is not None:
                    stream._abort()
            case f.HeadersFrame(fin=True):
                await self._handle(f.Data(frame.stream_id, b"", fin=True))
            case f.Ping(number) if number % 2:
                # The client's; even numbers are answers to ours.
                await self._pongs.put(number)
                self._control.set()
            case _:
                # SETTINGS, WINDOW_UPDATE, GOAWAY and answers ask for nothing.
                pass

    async def _open(self, frame: f.SynStream) -> None:
        number = frame.stream_id
        # Section 2.3.2: a client's streams are odd, and grow.
        if number % 2 == 0 or number <= self._last_id:
            await self.send(f.RstStream(number, f.PROTOCOL_ERROR))
            return
        self._last_id = number
        stream = Stream(self, frame)
        full = len(self._streams) >= self._max_streams
        if full or self._going or not self._on_stream(stream):
            await self.send(f.RstStream(number, f.REFUSED_STREAM))
            return
        self._streams[number] = stream
        await self.send(f.SynReply(number))

    async def _send_control(self) -> None:
        # Apart from the reader, which must not wait for a client that waits for it.
        number = 0
        try:
            while True:
                try:
                    async with asyncio.timeout(self._ping_seconds):
                        await self._control.wait()
                except TimeoutError:
                    number += 2
                    await self.send(f.Ping(number))
                self._control.clear()
                while not self._pongs.empty():
                    await self.send(f.Ping(self._pongs.get_nowait()))
                updates, self._updates = self._updates, {}
                for stream_id, size in updates.items():
                    await self.send(f.WindowUpdate(stream_id, size))
        except ConnectionError:
            # The reader may wait for a stream's consumer and not see it.
            self.closed.set()
            for stream in self._streams.values():
                stream._abort()
