"""A process that answers on endpoints of many hosts: each answer says who it is and whom it sees.

``python -m tests.support.proxylab.answers`` reads one line of JSON, a list of `Place`, prints
``ready`` and serves until its standard input ends. TCP: the answer comes at once, and each line
that is sent comes back; UDP: an answer for each datagram; SCTP: an INIT gets an INIT ACK whose
cookie is the answer, by raw sockets, so that the kernel need not have SCTP.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from kubeletpy_common.linux.namespaces import in_namespace
from tests.support.circumstances import patient

from . import sctp

REPOSITORY = Path(__file__).parents[3]


@dataclass(frozen=True)
class Place:
    """Where to answer: on all ports of all addresses of a host.

    Attributes:
        namespace: path of its network namespace.
        addresses: of both families.
        ports: TCP and UDP; the first is SCTP's too.
    """

    namespace: str
    addresses: tuple[str, ...]
    ports: tuple[int, ...]


@contextmanager
def answering(places: Sequence[Place]) -> Iterator[None]:
    """Answer at ``places`` within the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps([asdict(place) for place in places]) + "\n")
        process.stdin.flush()
        said = process.stdout.readline()
        assert said == "ready\n", f"the endpoints did not start: {said!r}"
        yield
    finally:
        process.stdin.close()
        try:
            process.wait(patient(10))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def text_of(own: tuple[str, int], peer: tuple[str, int]) -> bytes:
    """Return the answer: own address and port, the peer's address."""
    return f"{_plain(own[0])} {own[1]} {_plain(peer[0])}".encode()


def _plain(address: str) -> str:
    return address.removeprefix("::ffff:")


class _Stream(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        own, peer = (transport.get_extra_info(name) for name in ("sockname", "peername"))
        if own and peer:  # else it is gone already
            transport.write(text_of(own[:2], peer[:2]) + b"\n")

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, own: tuple[str, int]) -> None:
        self.own = own

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Of Python 3.11 it is a DatagramTransport by its methods alone.
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        self.transport.sendto(text_of(self.own, peer[:2]), peer)


async def _serve(places: list[Place]) -> None:
    loop = asyncio.get_running_loop()
    for place in places:
        for port in place.ports:
            with in_namespace(Path(place.namespace)):
                listener = socket.create_server(
                    ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096
                )
            # Its own default, 100, would replace that of the socket.
            await loop.create_server(_Stream, sock=listener, backlog=4096)
            for address in place.addresses:
                with in_namespace(Path(place.namespace)):
                    datagrams = socket.socket(_family(address), socket.SOCK_DGRAM)
                datagrams.bind((address, port))
                datagrams.setblocking(False)
                await loop.create_datagram_endpoint(
                    lambda own=(address, port): _Datagrams(own),  # type: ignore[misc]
                    sock=datagrams,
                )
        for address in place.addresses:
            with in_namespace(Path(place.namespace)):
                raw = socket.socket(_family(address), socket.SOCK_RAW, socket.IPPROTO_SCTP)
            raw.bind((address, 0))
            raw.setblocking(False)
            loop.add_reader(raw, _associate, raw, address, place.ports[0])


def _associate(raw: socket.socket, address: str, port: int) -> None:
    """Answer an INIT."""
    packet, peer = raw.recvfrom(4096)
    found = sctp.parsed(packet if raw.family == socket.AF_INET6 else packet[(packet[0] & 15) * 4 :])
    if found and found.kind == sctp.INIT and found.destination == port:
        answer = text_of((address, port), peer[:2])
        raw.sendto(sctp.init_ack(found, answer), (peer[0], 0))


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


async def _main() -> None:
    await _serve([Place(**each) for each in json.loads(sys.stdin.readline())])
    print("ready", flush=True)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, daemon=True).start()
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(_main())
