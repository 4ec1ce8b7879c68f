"""Port-forward: connections to ports of this machine, carried to ports inside a pod.

Source: client-go ``tools/portforward``. Each connection is a pair of streams with the headers
``port`` and ``requestID``; the ``error`` stream carries a text if it fails.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from kubeletpy.cri_cli.streaming.spdy import PORT_FORWARD, SpdyConnection, Stream, connect

_READ: Final = 64 << 10
_MAX_TEXT: Final = 4096

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Ports:
    """A port here (0: any that is free) and the port in the pod that it leads to."""

    local: int
    remote: int


def parse_ports(text: str) -> Ports:
    """Parse ``REMOTE``, ``LOCAL:REMOTE`` or ``:REMOTE`` (pure).

    Raises:
        ValueError: it is none of these.
    """
    local, colon, remote = text.rpartition(":")
    numbers = [local or "0", remote] if colon else [remote, remote]
    if not all(number.isascii() and number.isdigit() for number in numbers):
        raise ValueError(f"{text!r} is not REMOTE, LOCAL:REMOTE or :REMOTE")
    ports = Ports(int(numbers[0]), int(numbers[1]))
    if not 0 < ports.remote < 65536 or ports.local > 65535:
        raise ValueError(f"{text!r} holds what is no port")
    return ports


class Forwarder:
    """Carries connections over one connection to the streaming server."""

    def __init__(self, connection: SpdyConnection, tell: Tell) -> None:
        self._connection = connection
        self._tell = tell
        self._requests = itertools.count()

    async def carry(
        self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Carry one connection until both sides have ended it."""
        failure = bytearray()

        async def fail(data: bytes) -> None:
            failure.extend(data[: _MAX_TEXT - len(failure)])

        async def to_client(data: bytes) -> None:
            if not writer.is_closing():
                try:
                    writer.write(data)
                    await writer.drain()
                except ConnectionError:
                    # The client left; what comes for it is dropped until the stream ends.
                    pass

        headers = {"port": str(port), "requestid": str(next(self._requests))}
        try:
            error = await self._connection.open({**headers, "streamtype": "error"}, fail)
            await self._connection.end(error)
            data = await self._connection.open({**headers, "streamtype": "data"}, to_client)
            sending = asyncio.create_task(self._send(reader, data))
            try:
                await data.ended.wait()
                if not data.reset and not failure:
                    # The pod's half has ended; ours may go on.
                    writer.write_eof()
                    await sending
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
                for stream in (data, error):
                    await self._connection.abort(stream)
        except ConnectionError as problem:
            self._tell(f"port {port}: {problem}")
        finally:
            writer.close()
        if failure:
            self._tell(f"port {port}: {failure.decode('utf-8', 'replace')}")

    async def _send(self, reader: asyncio.StreamReader, stream: Stream) -> None:
        try:
            while chunk := await reader.read(_READ):
                await self._connection.write(stream, chunk)
            await self._connection.end(stream)
        except ConnectionError:
            # Either side left; the other is told by the end of the stream.
            pass


@asynccontextmanager
async def listening(
    connection: SpdyConnection, address: str, ports: Sequence[Ports], tell: Tell
) -> AsyncIterator[None]:
    """Listen for all ports until the block ends.

    Raises:
        OSError: a port cannot be listened on.
    """
    forwarder = Forwarder(connection, tell)
    servers = []
    try:
        for each in ports:
            server = await asyncio.start_server(
                lambda r, w, port=each.remote: forwarder.carry(port, r, w),  # type: ignore[misc]
                address, each.local, limit=_READ,
            )  # fmt: skip
            servers.append(server)
            host, local = server.sockets[0].getsockname()[:2]
            tell(f"{host}:{local} leads to port {each.remote}")
        yield
    finally:
        for server in servers:
            server.close()


async def forward(url: str, address: str, ports: Sequence[Ports], tell: Tell) -> None:
    """Forward until the server ends it, or for ever.

    Raises:
        OSError: a port cannot be listened on.
        StreamingError: the server was not reached, refused, or broke the protocol.
    """
    async with (
        connect(url, PORT_FORWARD) as connection,
        listening(connection, address, ports, tell),
    ):
        await connection.closed.wait()
