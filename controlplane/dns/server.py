"""UDP and TCP.

Datagrams are read and answered right where the socket says that there are some, many at a time:
what is known needs no task.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Final

from kubeletpy_common import logs

from . import wire
from .clients import Clients
from .monitoring import Counts
from .resolving import Resolver

_log = logging.getLogger(__name__)

_BATCH: Final = 64
_LARGEST: Final = 4096
"""Bytes of a query; longer ones are cut by the kernel and refused."""
_BUFFER: Final = 1 << 21
_MAX_LATER: Final = 4000
"""Queries that wait for others."""
_MAX_CONNECTIONS: Final = 400
_MAX_STRANGERS: Final = 20
"""Connections of those who are refused."""
_IDLE_SECONDS: Final = 10.0
_MAX_OF_CONNECTION: Final = 64
_IP_FREEBIND: Final = 15
_IPV6_FREEBIND: Final = 78


class DnsServer:
    """Answers at some addresses.

    Args:
        resolver: knows the answers.
        counts: of what happens.
        bound: gets (address, port) of each that is listened on.
        clients: who is answered; others are refused. None: all are.
    """

    def __init__(
        self,
        resolver: Resolver,
        counts: Counts,
        bound: set[tuple[str, int]] | None = None,
        clients: Clients | None = None,
    ) -> None:
        self._clients = clients if clients is not None else Clients(anybody=True)
        self._strangers = 0
        self._resolver = resolver
        self._counts = counts
        self._later: set[asyncio.Task[None]] = set()
        self._connections = 0
        self._bound = bound if bound is not None else set()

    @contextlib.asynccontextmanager
    async def listening(
        self, addresses: Sequence[str], port: int, ready: asyncio.Event
    ) -> AsyncIterator[int]:
        """Listen within the block, on addresses that need not be there yet; gives the port.

        Queries wait in the sockets until ``ready``.

        Raises:
            OSError: a port is taken.
        """
        loop = asyncio.get_running_loop()
        async with contextlib.AsyncExitStack() as stack:
            pairs = []
            for address in addresses:
                listener = _bound(address, port, socket.SOCK_STREAM)
                stack.callback(listener.close)
                port = listener.getsockname()[1]
                datagrams = _bound(address, port, socket.SOCK_DGRAM)
                stack.callback(datagrams.close)
                pairs.append((address, listener, datagrams))
                self._bound.add((address, port))

            async def serve() -> None:
                await ready.wait()
                for address, listener, datagrams in pairs:
                    family = "2" if ":" in address else "1"
                    loop.add_reader(datagrams, self._read, datagrams, family)
                    server = await asyncio.start_server(
                        partial(self._connection, family), sock=listener
                    )
                    stack.callback(server.close)

            task = asyncio.create_task(serve())
            try:
                yield port
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                for _, _, datagrams in pairs:
                    loop.remove_reader(datagrams)
                for each in list(self._later):
                    each.cancel()
                await asyncio.gather(*self._later, return_exceptions=True)

    def _read(self, one: socket.socket, family: str) -> None:
        """Answer what waits in a socket; some at a time, so that others get their turn."""
        for _ in range(_BATCH):
            try:
                data, client = one.recvfrom(_LARGEST)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                # ICMP errors to answers of ours are told here.
                logs.event(_log, logging.DEBUG, "a socket told an error", reason=str(error))
                return
            self._datagram(one, data, client, family)

    def _datagram(
        self, one: socket.socket, data: bytes, client: tuple[object, ...], family: str
    ) -> None:
        begun = time.perf_counter()
        try:
            query = wire.parse(data)
        except wire.MalformedError as error:
            self._counts.malformed += 1
            if error.answer:
                _send(one, error.answer, client)
            return
        limit = wire.limit_of(query)
        if not self._clients.allows(str(client[0])):
            _send(one, self._refusal(query, limit), client)
            return
        answer, rcode, zone = self._resolver.at_once(query, limit)
        if answer is not None:
            _send(one, answer, client)
            self._counts.answered("udp", family, zone, query.kind, rcode, begun)
        elif len(self._later) >= _MAX_LATER:
            refused = wire.Answer(wire.REFUSED, authoritative=False)
            _send(one, wire.compose(query, refused, limit), client)
            self._counts.answered("udp", family, zone, query.kind, wire.REFUSED, begun)
        else:
            self._begin(self._answer_later(one, query, client, family, zone, begun))

    def _refusal(self, query: wire.Query, limit: int) -> bytes:
        """Return what a stranger gets: no longer than the query, so nobody is flooded by it."""
        self._counts.blocked += 1
        return wire.compose(query, wire.Answer(wire.REFUSED, authoritative=False), limit)

    def _begin(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _answer_later(
        self, one: socket.socket, query: wire.Query, client: tuple[object, ...], family: str,
        zone: str, begun: float,
    ) -> None:  # fmt: skip
        answer, rcode = await self._resolver.later(query, wire.limit_of(query), tcp=False)
        _send(one, answer, client)
        self._counts.answered("udp", family, zone, query.kind, rcode, begun)

    async def _connection(
        self, family: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer the queries of a connection, as they come (RFC 7766)."""
        if not self._clients.allows(str(writer.get_extra_info("peername", ("::",))[0])):
            await self._stranger(reader, writer)
            return
        if self._connections >= _MAX_CONNECTIONS:
            writer.close()
            return
        self._connections += 1
        slots = asyncio.Semaphore(_MAX_OF_CONNECTION)
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    async with asyncio.timeout(_IDLE_SECONDS):
                        length = int.from_bytes(await reader.readexactly(2), "big")
                        data = await reader.readexactly(length)
                        await slots.acquire()
                    tasks.create_task(self._message(writer, data, family, slots))
        except* (asyncio.IncompleteReadError, TimeoutError, OSError):
            pass
        finally:
            self._connections -= 1
            writer.close()

    async def _stranger(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Refuse the first query of a connection; few at a time, beside those of clients."""
        if self._strangers >= _MAX_STRANGERS:
            writer.close()
            return
        self._strangers += 1
        try:
            async with asyncio.timeout(_IDLE_SECONDS):
                length = int.from_bytes(await reader.readexactly(2), "big")
                query = wire.parse(await reader.readexactly(length))
                answer = self._refusal(query, wire.TCP_SIZE)
                writer.write(len(answer).to_bytes(2, "big") + answer)
                await writer.drain()
        except (wire.MalformedError, asyncio.IncompleteReadError, TimeoutError, OSError):
            pass
        finally:
            self._strangers -= 1
            writer.close()

    async def _message(
        self, writer: asyncio.StreamWriter, data: bytes, family: str, slots: asyncio.Semaphore
    ) -> None:
        begun = time.perf_counter()
        try:
            try:
                query = wire.parse(data)
            except wire.MalformedError as error:
                self._counts.malformed += 1
                answer = error.answer
            else:
                found, rcode, zone = self._resolver.at_once(query, wire.TCP_SIZE)
                if found is None:
                    found, rcode = await self._resolver.later(query, wire.TCP_SIZE, tcp=True)
                answer = found
                self._counts.answered("tcp", family, zone, query.kind, rcode, begun)
            if answer:
                writer.write(len(answer).to_bytes(2, "big") + answer)
                async with asyncio.timeout(_IDLE_SECONDS):
                    await writer.drain()
        finally:
            slots.release()


def _bound(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    """Return a socket with an address that may come later (ip(7), IP_FREEBIND)."""
    six = ":" in address
    made = socket.socket(
        socket.AF_INET6 if six else socket.AF_INET,
        kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
    )
    try:
        if six:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        else:
            made.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        made.bind((address, port))
        if kind == socket.SOCK_STREAM:
            made.listen(1024)
    except OSError as error:
        made.close()
        raise OSError(error.errno, f"cannot listen on {address} port {port}: {error.strerror}; "
                      "choose others with --bind-address and --port") from error  # fmt: skip
    return made


def _send(one: socket.socket, data: bytes, client: tuple[object, ...]) -> None:
    try:
        one.sendto(data, client)
    except (BlockingIOError, OSError):
        # The client asks again; a datagram may be lost anyway.
        pass
