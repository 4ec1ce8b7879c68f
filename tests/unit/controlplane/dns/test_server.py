"""Our server, asked by dnspython's client, and those whom it asks."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import pytest

from controlplane.dns.cache import Cache, read
from controlplane.dns.forwarding import Upstream, Upstreams, nameservers, parse_upstream
from controlplane.dns.resolving import probe_loop
from controlplane.dns.wire import parse
from controlplane.dns.zone import Endpoint, Service
from tests.support.dnslab import PlainDirectory, answering, foreigner, says

MANY = [Endpoint(f"h{number}", (f"10.0.{number}.1",)) for number in range(100)]
DIRECTORY = PlainDirectory(
    Service("default", "web", ("10.96.0.20",)),
    Service("default", "many"),
    Service("default", "far", external="www.example.com"),
    Service("default", "near", external="web.default.svc.cluster.local"),
    Service("default", "loop", external="pool.default.svc.cluster.local"),
    Service("default", "pool", external="loop.default.svc.cluster.local"),
    many=MANY,
)


def addresses(answer: dns.message.Message) -> list[str]:
    return sorted(str(one) for each in answer.answer for one in each)


async def test_udp_and_tcp_and_what_is_too_long_for_one_of_them() -> None:
    async with answering(DIRECTORY) as server:
        for tcp in (False, True):
            answer = await server.ask("web.default.svc.cluster.local", tcp=tcp)
            assert addresses(answer) == ["10.96.0.20"]
        name = "many.default.svc.cluster.local"
        for size, count in ((512, 28), (4096, 73)):
            answer = await server.ask(name, use_edns=0, payload=size)
            assert answer.flags & dns.flags.TC
            assert len(addresses(answer)) == count
        answer = await server.ask(name, tcp=True)
        assert len(addresses(answer)) == 100
        assert sum(server.counts.requests.values()) == 5


async def test_other_names_are_asked_of_others_and_remembered() -> None:
    async with (
        foreigner(says("www.example.com. 300 A 192.0.2.1")) as (upstream, other),
        answering(DIRECTORY, [upstream]) as server,
    ):
        for tcp in (False, False, True):
            answer = await server.ask("WWW.example.com", tcp=tcp, use_edns=0)
            assert addresses(answer) == ["192.0.2.1"]
            assert answer.edns == 0
            assert not answer.flags & dns.flags.AA
        plain = await server.ask("www.example.com")
        assert plain.edns == -1
        assert len(other.asked) == 1
        assert other.asked[0].payload == 1232
        # Another type is another question.
        await server.ask("www.example.com", "TXT")
        assert len(other.asked) == 2


async def test_names_for_others_lead_to_their_addresses() -> None:
    reply = says("www.example.com. 300 CNAME cdn.example.net.", "cdn.example.net. 60 A 192.0.2.7")
    async with foreigner(reply) as (upstream, _), answering(DIRECTORY, [upstream]) as server:
        answer = await server.ask("far.default.svc.cluster.local")
        assert [str(each).replace(" IN", "") for each in answer.answer] == [
            "far.default.svc.cluster.local. 30 CNAME www.example.com.",
            "www.example.com. 300 CNAME cdn.example.net.",
            "cdn.example.net. 60 A 192.0.2.7",
        ]
        answer = await server.ask("near.default.svc.cluster.local")
        assert addresses(answer) == ["10.96.0.20", "web.default.svc.cluster.local."]
        assert (await server.ask("loop.default.svc.cluster.local")).rcode() == dns.rcode.SERVFAIL


async def test_no_such_name_is_remembered_as_long_as_its_soa_says() -> None:
    soa = "example.com. 9 SOA a. b. 1 2 3 4 60"
    reply = says(rcode=dns.rcode.NXDOMAIN, authority=soa)
    async with foreigner(reply) as (upstream, other), answering(DIRECTORY, [upstream]) as server:
        for _ in range(2):
            answer = await server.ask("no.example.com")
            assert answer.rcode() == dns.rcode.NXDOMAIN
            assert answer.authority
        assert len(other.asked) == 1


async def test_the_next_one_is_asked_if_one_is_silent_and_then_the_first_rests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("controlplane.dns.forwarding.TRY_SECONDS", 0.2)
    async with (
        foreigner(lambda query: None) as (silent, first),
        foreigner(says("x. 0 A 192.0.2.2")) as (upstream, _),
        answering(DIRECTORY, [silent, upstream]) as server,
    ):
        for _ in range(3):
            assert addresses(await server.ask("x")) == ["192.0.2.2"]
        assert len(first.asked) == 1
        assert silent.failed == 1


async def test_nobody_answers() -> None:
    async with answering(DIRECTORY, [Upstream("127.0.0.1", 1)]) as server:
        assert (await server.ask("x")).rcode() == dns.rcode.SERVFAIL
        # What is of the cluster is known all the same.
        assert addresses(await server.ask("web.default.svc.cluster.local")) == ["10.96.0.20"]
        answer = await server.ask("far.default.svc.cluster.local")
        assert addresses(answer) == ["www.example.com."]


async def test_the_same_question_is_asked_once_however_many_ask() -> None:
    async with (
        foreigner(says("x. 0 A 192.0.2.2")) as (upstream, other),
        answering(DIRECTORY, [upstream]) as server,
    ):
        answers = await asyncio.gather(*(server.ask("x") for _ in range(20)))
        assert all(addresses(one) == ["192.0.2.2"] for one in answers)
        assert len(other.asked) < 20


async def test_long_answers_of_others_come_by_tcp() -> None:
    many = [f"big.example. 60 A 10.1.{number}.1" for number in range(120)]
    async with foreigner(says(*many)) as (upstream, _), answering(DIRECTORY, [upstream]) as server:
        assert (await server.ask("big.example", use_edns=0)).flags & dns.flags.TC
        answer = await server.ask("big.example", tcp=True)
        assert len(addresses(answer)) == 120
        # It is remembered, and yet does not fit.
        assert (await server.ask("big.example", use_edns=0)).flags & dns.flags.TC


async def test_a_question_that_comes_back_to_us_ends_and_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("controlplane.dns.forwarding.TRY_SECONDS", 0.3)
    async with answering(DIRECTORY, []) as server:
        upstreams = server.resolver.forwarder
        assert upstreams is not None

        class Relay(asyncio.DatagramProtocol):
            """Asks us whatever we ask it."""

            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self.transport = transport

            def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
                if addr[1] == server.port:
                    return
                self.transport.sendto(data, ("127.0.0.1", server.port))  # type: ignore[attr-defined]

        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Relay, ("127.0.0.1", 0))
        port = transport.get_extra_info("sockname")[1]
        relay = Upstream("127.0.0.1", port)
        upstreams.upstreams._given = [relay]
        async with asyncio.timeout(8):
            await probe_loop(server.resolver)
        assert server.resolver.loops
        assert relay.asked <= 2
        assert (await server.ask("x")).rcode() == dns.rcode.SERVFAIL
        transport.close()


async def test_a_connection_answers_many_at_once_and_bad_ones() -> None:
    async with answering(DIRECTORY) as one:
        reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
        query = dns.message.make_query("web.default.svc.cluster.local", "A").to_wire()
        writer.write(b"\0\x0c" + b"\0\7\1\0" + b"\0" * 8)
        for ident in range(5):
            data = struct.pack(">H", ident) + query[2:]
            writer.write(len(data).to_bytes(2, "big") + data)
        idents = set()
        for _ in range(6):
            length = int.from_bytes(await reader.readexactly(2), "big")
            idents.add(int.from_bytes((await reader.readexactly(length))[:2], "big"))
        assert idents == {0, 1, 2, 3, 4, 7}
        writer.close()
        assert one.counts.malformed == 1


def test_who_is_asked(tmp_path: Path) -> None:
    assert str(parse_upstream("1.2.3.4")) == "1.2.3.4:53"
    assert str(parse_upstream("1.2.3.4:5353")) == "1.2.3.4:5353"
    assert str(parse_upstream("fd00::1")) == "[fd00::1]:53"
    assert str(parse_upstream("[fd00::1]:54")) == "[fd00::1]:54"
    for text in ("", "name", "1.2.3.4:x", "1.2.3.4:70000", "[fd00::1"):
        if text != "[fd00::1":
            with pytest.raises(ValueError, match="is no"):
                parse_upstream(text)
    assert nameservers("# x\nnameserver 1.1.1.1\n nameserver fd00::1%eth0\nnameserver nonsense\n"
                       "search a b\nnameserver 1.1.1.1") == ["1.1.1.1", "fd00::1%eth0"]  # fmt: skip


def test_the_file_is_read_again_when_it_changed_and_we_are_not_asked(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    found = Upstreams([], path, {("127.0.0.1", 53)})
    assert found.all() == []
    path.write_text("nameserver 127.0.0.1\nnameserver 1.1.1.1\n")
    assert [str(one) for one in found.all()] == ["1.1.1.1:53"]
    (tmp_path / "new").write_text("nameserver 2.2.2.2\n")
    (tmp_path / "new").rename(path)
    assert [str(one) for one in found.all()] == ["2.2.2.2:53"]
    path.unlink()
    assert found.all() == []


def test_the_cache_forgets_and_is_bounded() -> None:
    query = dns.message.make_query("a.example", "A")
    answer = says("a.example. 100 A 1.1.1.1", "a.example. 40 A 1.1.1.2")(query)
    assert answer is not None
    question = parse(query.to_wire())
    foreign = read(answer.to_wire(), question, 30, 5)
    assert foreign.ttl == 30
    cache = Cache(2)
    cache.put(b"a", foreign, 0.0)
    found = cache.get(b"a", 20.0)
    assert found is not None
    message = dns.message.from_wire(foreign.render(question, 512, found[1]))
    assert {each.ttl for each in message.answer} == {20}
    assert cache.get(b"a", 30.0) is None
    for key in (b"a", b"b", b"c"):
        cache.put(key, foreign, 0.0)
    assert len(cache) == 2
    assert cache.get(b"a", 1.0) is None


@pytest.mark.parametrize("change", [
    lambda data: data[:20], lambda data: data[:-2], lambda data: data[:13] + b"b" + data[14:],
    lambda data: b"\0\0\0\0" + data[4:], lambda data: data[:7] + b"\x09" + data[8:],
])  # fmt: skip
def test_answers_that_are_none_are_not_taken(change: object) -> None:
    query = dns.message.make_query("a.example", "A")
    answer = says("a.example. 100 A 1.1.1.1")(query)
    assert answer is not None
    question = parse(query.to_wire())
    with pytest.raises(ValueError, match=r"answer|record"):
        read(change(answer.to_wire()), question, 30, 5)  # type: ignore[operator]
