"""Asks from any host, as a client of a Service does, and tells what came of it."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from kubeletpy_common.linux.namespaces import in_namespace
from tests.support.circumstances import patient

from . import sctp
from .topology import Namespace

PATIENCE = patient(6.0)
"""Seconds in which an answer that is expected has to come; a lost SYN is sent again after one."""
SILENCE = patient(0.7)
"""Seconds without an answer that count as silence."""
_AGAIN = 1.0
_TOTAL_RETRANSMITS = 100
"""Where ``struct tcp_info`` has ``tcpi_total_retrans``."""
_KINDS = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}
_numbers = itertools.count(int.from_bytes(os.urandom(2), "big"))


@dataclass(frozen=True, order=True)
class Answer:
    """What a client got.

    Attributes:
        who: ``address:port`` of the endpoint that answered; else what happened: ``refused``,
            ``silence``, ``unreachable``.
        source: the address that the endpoint saw; "" without an endpoint.
        packets: how many the client had sent by then to be heard at all, of those that count.
        detail: how far a connection came that then was silent.
    """

    who: str
    source: str = ""
    packets: int = field(default=1, compare=False)
    detail: str = field(default="", compare=False)

    def __str__(self) -> str:
        if self.detail:
            return f"{self.who} ({self.detail})"
        return f"{self.who} (saw {self.source})" if self.source else self.who


REFUSED, SILENT, UNREACHABLE = Answer("refused"), Answer("silence"), Answer("unreachable")
_ERRORS = {
    errno.ECONNREFUSED: REFUSED,
    errno.EHOSTUNREACH: UNREACHABLE,
    errno.ENETUNREACH: UNREACHABLE,
    errno.EACCES: UNREACHABLE,  # ICMPv6: source address failed policy; or a prohibited route
}


def make_socket(host: Namespace, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """Return a non-blocking socket that belongs to a host."""
    with in_namespace(host.path):
        made = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind, protocol)
    made.setblocking(False)
    return made


def parsed(line: bytes) -> Answer:
    """Return what an endpoint said."""
    own, port, peer = line.decode().split()
    return Answer(f"{own}:{port}", peer)


async def ask(
    host: Namespace,
    address: str,
    port: int,
    protocol: str = "TCP",
    *,
    source: str = "",
    patience: float = PATIENCE,
) -> Answer:
    """Open a connection (or send a datagram, or an INIT), and return what came back."""
    family = 6 if ":" in address else 4
    if protocol == "SCTP":
        made = make_socket(host, family, socket.SOCK_RAW, socket.IPPROTO_SCTP)
    else:
        made = make_socket(host, family, _KINDS[protocol])
    loop = asyncio.get_running_loop()
    sent: list[bytes] = []
    with made:
        if source:
            made.bind((source, 0))
        try:
            async with asyncio.timeout(patience):
                if protocol == "TCP":
                    await loop.sock_connect(made, (address, port))
                    return parsed(await loop.sock_recv(made, 200))
                made.connect((address, 0 if protocol == "SCTP" else port))
                if protocol == "SCTP":
                    return await associate(made, port, sent=sent)
                return await exchange(made, sent=sent)
        except TimeoutError:
            return replace(SILENT, detail=_progress(made)) if protocol == "TCP" else SILENT
        except OSError as error:
            if error.errno not in _ERRORS:
                raise
            packets = 1 + _retransmits(made) if protocol == "TCP" else len(sent)
            return replace(_ERRORS[error.errno], packets=packets)


def _progress(made: socket.socket) -> str:
    """Return state (1: established, 2: SYN sent), own port and SYNs of a connection."""
    state = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return f"TCP state {state}, from {made.getsockname()[:2]}, {1 + _retransmits(made)} SYNs"


def _retransmits(made: socket.socket) -> int:
    """Return how often the kernel sent a SYN of this connection again, on whatever clock."""
    information = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TOTAL_RETRANSMITS + 4)
    return int.from_bytes(information[_TOTAL_RETRANSMITS:], sys.byteorder)


async def exchange(made: socket.socket, *, sent: list[bytes] | None = None) -> Answer:
    """Send a datagram, again each second, until an answer comes; ``sent`` gets what was sent."""
    loop = asyncio.get_running_loop()
    sent = [] if sent is None else sent
    while True:
        await _send(made, b"?", sent)
        try:
            async with asyncio.timeout(_AGAIN):
                return parsed(await loop.sock_recv(made, 200))
        except TimeoutError:
            continue


async def _send(made: socket.socket, data: bytes, sent: list[bytes]) -> None:
    try:
        await asyncio.get_running_loop().sock_sendall(made, data)
        sent.append(data)  # not before: an error that waited for us is given to the next who sends
    except PermissionError:
        # A rule of the sender's own host took it, whether it rejects or drops: which of the two is
        # seen by what is received.
        pass


async def associate(
    made: socket.socket, port: int, own: int = 0, *, sent: list[bytes] | None = None
) -> Answer:
    """Send an INIT from port ``own``, again each second, until the INIT ACK comes.

    ``sent`` gets what was sent.
    """
    loop = asyncio.get_running_loop()
    sent = [] if sent is None else sent
    own = own or 20000 + next(_numbers) % 20000
    while True:
        await _send(made, sctp.init(own, port, own), sent)
        try:
            async with asyncio.timeout(_AGAIN):
                while True:
                    packet = await loop.sock_recv(made, 4096)
                    if made.family == socket.AF_INET:
                        packet = packet[(packet[0] & 15) * 4 :]
                    found = sctp.parsed(packet)
                    if found and found.kind == sctp.INIT_ACK and found.destination == own:
                        return parsed(found.cookie)
        except TimeoutError:
            continue


class Steady:
    """A client that uses one port for all it sends, so that all of it is one flow.

    Args:
        host: where it is.
        address, port: whom it asks.
        protocol: UDP or SCTP.
    """

    def __init__(self, host: Namespace, address: str, port: int, protocol: str = "UDP") -> None:
        self.protocol, self._port = protocol, port
        family = 6 if ":" in address else 4
        self._own = 40000 + next(_numbers) % 20000
        if protocol == "SCTP":
            self._socket = make_socket(host, family, socket.SOCK_RAW, socket.IPPROTO_SCTP)
        else:
            self._socket = make_socket(host, family, socket.SOCK_DGRAM)
        self._socket.connect((address, 0 if protocol == "SCTP" else port))

    async def ask(self, patience: float = PATIENCE) -> Answer:
        """Send once more; return what came back."""
        try:
            async with asyncio.timeout(patience):
                if self.protocol == "SCTP":
                    return await associate(self._socket, self._port, self._own)
                return await exchange(self._socket)
        except TimeoutError:
            return SILENT
        except OSError as error:
            if error.errno not in _ERRORS:
                raise
            return _ERRORS[error.errno]

    def __enter__(self) -> Steady:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


@dataclass
class Held:
    """A connection that stays open."""

    answer: Answer
    socket: socket.socket

    async def works(self) -> bool:
        """Tell whether a word still comes back; ConnectionError if the connection was reset."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            await loop.sock_sendall(self.socket, b"still there?\n")
            return await loop.sock_recv(self.socket, 200) == b"still there?\n"


@asynccontextmanager
async def hold(host: Namespace, address: str, port: int, source: str = "") -> AsyncIterator[Held]:
    """Keep a TCP connection open within the block."""
    loop = asyncio.get_running_loop()
    with make_socket(host, 6 if ":" in address else 4, socket.SOCK_STREAM) as made:
        if source:
            made.bind((source, 0))
        async with asyncio.timeout(PATIENCE):
            await loop.sock_connect(made, (address, port))
            yielded = Held(parsed(await loop.sock_recv(made, 200)), made)
        yield yielded
