"""The server's side of SPDY over a pair of sockets: order, back-pressure, what is refused."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kubeletpy_common.spdy import frames as f
from kubeletpy_common.spdy.errors import StreamClosedError
from kubeletpy_common.upgrades import Connection as TcpConnection
from runtime.streaming.buffers import LIMIT
from runtime.streaming.spdy.connection import Connection, Stream


class Peer:
    """The client's side, frame by frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.encoder, self.decoder = f.FrameEncoder(), f.FrameDecoder()
        self.frames: list[f.Frame] = []

    def send(self, *frames: f.Frame) -> None:
        for frame in frames:
            self.writer.write(self.encoder.encode(frame))

    async def receive(self) -> f.Frame:
        while not self.frames:
            data = await self.reader.read(65536)
            assert data, "the server closed the connection"
            self.frames += self.decoder.feed(data)
        return self.frames.pop(0)


@asynccontextmanager
async def connected(max_streams: int = 4) -> AsyncIterator[tuple[Peer, asyncio.Queue[Stream]]]:
    ends = socket.socketpair()
    ours, theirs = [await asyncio.open_connection(sock=end) for end in ends]
    streams: asyncio.Queue[Stream] = asyncio.Queue()

    def accept(stream: Stream) -> bool:
        if stream.headers.get("refuse"):
            return False
        streams.put_nowait(stream)
        return True

    connection = Connection(TcpConnection(*ours), accept, max_streams, 60)
    task = asyncio.create_task(connection.run())
    try:
        async with asyncio.timeout(10):
            yield Peer(*theirs), streams
    finally:
        theirs[1].close()
        await task
        ours[1].close()
        assert connection.closed.is_set()


async def test_streams_are_accepted_and_carry_bytes_both_ways() -> None:
    async with connected() as (peer, streams):
        peer.send(f.SynStream(1, {"streamType": "data"}), f.Data(1, b"in", fin=True))
        assert await peer.receive() == f.SynReply(1)
        stream = await streams.get()
        assert stream.headers == {"streamtype": "data"}
        assert await stream.read() == b"in"
        assert await stream.read() == b""
        await stream.write(b"out")
        await stream.close_write()
        assert await peer.receive() == f.Data(1, b"out")
        assert await peer.receive() == f.Data(1, b"", fin=True)
        with pytest.raises(StreamClosedError):
            await stream.write(b"more")


async def test_bad_streams_are_reset() -> None:
    async with connected(max_streams=1) as (peer, _):
        peer.send(f.SynStream(2))
        assert await peer.receive() == f.RstStream(2, f.PROTOCOL_ERROR)
        peer.send(f.SynStream(3, {"refuse": "yes"}))
        assert await peer.receive() == f.RstStream(3, f.REFUSED_STREAM)
        peer.send(f.SynStream(5), f.SynStream(5), f.SynStream(7))
        assert await peer.receive() == f.SynReply(5)
        assert await peer.receive() == f.RstStream(5, f.PROTOCOL_ERROR)
        assert await peer.receive() == f.RstStream(7, f.REFUSED_STREAM)


async def test_pings_are_answered_and_answers_are_not() -> None:
    async with connected() as (peer, _):
        peer.send(f.Ping(2), f.Settings({4: 1}), f.GoAway(0), f.Ping(1))
        assert await peer.receive() == f.Ping(1)


async def test_a_reset_and_a_lost_connection_reach_the_reader() -> None:
    async with connected() as (peer, streams):
        peer.send(f.SynStream(1), f.SynStream(3), f.Data(1, b"some"), f.RstStream(1, f.CANCEL))
        first, second = await streams.get(), await streams.get()
        assert await first.read() == b"some"
        with pytest.raises(StreamClosedError):
            await first.read()
        peer.writer.close()
        with pytest.raises(StreamClosedError):
            await second.read()


async def _send_until_stalled(peer: Peer, piece: bytes) -> int:
    sent = 0
    while True:
        peer.send(f.Data(1, piece))
        try:
            async with asyncio.timeout(0.2):
                await peer.writer.drain()
        except TimeoutError:
            return sent
        sent += len(piece)


async def test_a_slow_reader_stops_the_client() -> None:
    async with connected() as (peer, streams):
        piece = b"x" * 65536
        peer.send(f.SynStream(1))
        stream = await streams.get()
        sent = await _send_until_stalled(peer, piece)
        # Buffers of the stream, of both ends of the connection, and the kernel's.
        assert sent < LIMIT + (2 << 20)
        received = 0
        while received < sent + len(piece):
            received += len(await stream.read())


async def test_consumed_bytes_are_given_back_to_the_window() -> None:
    async with connected() as (peer, streams):
        peer.send(f.SynStream(1), f.Data(1, b"x" * 40000))
        assert await peer.receive() == f.SynReply(1)
        assert len(await (await streams.get()).read()) == 40000
        updates = {await peer.receive(), await peer.receive()}
        assert updates == {f.WindowUpdate(1, 40000), f.WindowUpdate(0, 40000)}


async def test_a_client_that_breaks_the_protocol_is_sent_away() -> None:
    async with connected() as (peer, _):
        peer.writer.write(b"\x80\x02\x00\x01\x00\x00\x00\x04aaaa")
        assert await peer.receive() == f.GoAway(0, 1)
