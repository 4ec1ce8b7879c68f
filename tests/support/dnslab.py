"""A DNS server in this process, those whom it asks, and who asks it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import dns.asyncquery
import dns.message
import dns.rrset

from controlplane.dns.cache import Cache
from controlplane.dns.clients import Clients
from controlplane.dns.forwarding import Forwarder, Upstream, Upstreams
from controlplane.dns.monitoring import Counts
from controlplane.dns.resolving import Resolver
from controlplane.dns.server import DnsServer
from controlplane.dns.zone import Directory, Endpoint, Service, Zone
from tests.support.circumstances import patient

Reply = Callable[[dns.message.Message], dns.message.Message | None]
HOST = "127.0.0.1"


class PlainDirectory:
    """A cluster as plain data."""

    def __init__(self, *services: Service, **endpoints: list[Endpoint]) -> None:
        self.services = {(one.namespace, one.name): one for one in services}
        self.slices = endpoints

    def has_namespace(self, name: str) -> bool:
        return name in ("default", "kube-system", *(one for one, _ in self.services))

    def service(self, namespace: str, name: str) -> Service | None:
        return self.services.get((namespace, name))

    def endpoints(self, service: Service) -> list[Endpoint]:
        return self.slices.get(service.name, [])

    def names_of(self, address: str) -> list[tuple[str, Service]]:
        found = [("", one) for one in self.services.values() if address in one.addresses]
        return found or [
            (endpoint.hostname, one)
            for one in self.services.values() if one.headless
            for endpoint in self.endpoints(one) if address in endpoint.addresses
        ]  # fmt: skip

    def has_pod(self, namespace: str, address: str) -> bool:
        return self.has_namespace(namespace)


class Foreigner(asyncio.DatagramProtocol):
    """Somebody else's server, by UDP and TCP on one port."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.asked: list[dns.message.Message] = []
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        self.asked.append(query)
        answer = self.reply(query)
        if answer is not None and self.transport is not None:
            self.transport.sendto(answer.to_wire(max_size=1232, prefer_truncation=True), addr)

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(2), "big")
        answer = self.reply(dns.message.from_wire(await reader.readexactly(length)))
        if answer is not None:
            data = answer.to_wire(max_size=65535)
            writer.write(len(data).to_bytes(2, "big") + data)
        writer.close()


@contextlib.asynccontextmanager
async def foreigner(reply: Reply) -> AsyncIterator[tuple[Upstream, Foreigner]]:
    """Run somebody else's server within the block."""
    one = Foreigner(reply)
    server = await asyncio.start_server(one.connection, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: one, (HOST, port))
    try:
        yield Upstream(HOST, port), one
    finally:
        transport.close()
        server.close()


def says(*records: str, rcode: int = 0, authority: str = "") -> Reply:
    """Return a reply that has these records, ``name ttl type data`` each."""

    def reply(query: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(query)
        answer.set_rcode(rcode)  # type: ignore[arg-type]
        for section, texts in ((answer.answer, records), (answer.authority, [authority])):
            for text in filter(None, texts):
                name, ttl, kind, data = text.split(" ", 3)
                section.append(dns.rrset.from_text(name, int(ttl), "IN", kind, data))
        return answer

    return reply


class Asker:
    """Asks a server."""

    def __init__(self, port: int, resolver: Resolver, counts: Counts) -> None:
        self.port = port
        self.resolver = resolver
        self.counts = counts

    async def ask(
        self, name: str, kind: str = "A", *, tcp: bool = False, **more: object
    ) -> dns.message.Message:
        query = dns.message.make_query(name, kind, **more)  # type: ignore[arg-type]
        how = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
        return await how(query, HOST, timeout=patient(8), port=self.port)


@contextlib.asynccontextmanager
async def answering(
    directory: Directory,
    upstreams: list[Upstream] | None = None,
    entries: int = 100,
    clients: Clients | None = None,
) -> AsyncIterator[Asker]:
    """Run our server within the block."""
    forwarder = None
    bound: set[tuple[str, int]] = set()
    if upstreams is not None:
        forwarder = Forwarder(Upstreams(upstreams, own=bound), Cache(entries))
    resolver = Resolver(Zone("cluster.local", directory), forwarder)
    counts = Counts()
    ready = asyncio.Event()
    ready.set()
    async with DnsServer(resolver, counts, bound, clients).listening([HOST], 0, ready) as port:
        try:
            yield Asker(port, resolver, counts)
        finally:
            if forwarder is not None:
                await forwarder.close()
