"""Who is answered, and who is refused."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from ipaddress import ip_network
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import pytest

from controlplane.dns import clients as module
from controlplane.dns.clients import Clients, follower, networks_of_node, read_source
from controlplane.dns.zone import Service
from tests.support.dnslab import HOST, PlainDirectory, answering

DIRECTORY = PlainDirectory(Service("default", "web", ("10.96.0.20",)))
WEB = "web.default.svc.cluster.local"


def node(cidrs: list[str], *addresses: str) -> dict[str, Any]:
    return {
        "metadata": {"name": "n", "resourceVersion": "1", "labels": {"a": "b"}},
        "spec": {"podCIDR": cidrs[0] if cidrs else "", "podCIDRs": cidrs, "taints": []},
        "status": {
            "addresses": [{"type": "InternalIP", "address": one} for one in addresses],
            "images": [],
        },
    }


ONE = node(["10.244.1.0/24", "fd44:0:0:1::/64"], "192.0.2.11", "fd00::11", "host-of-that-name")


@pytest.mark.parametrize(("address", "allowed"), [
    ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True),
    ("192.0.2.11", True), ("192.0.2.12", False), ("fd00::11", True), ("fd00::12", False),
    ("10.244.1.0", True), ("10.244.1.255", True), ("10.244.2.0", False), ("10.244.0.255", False),
    ("fd44:0:0:1::1", True), ("fd44:0:0:2::1", False),
    ("198.51.100.7", True), ("198.51.101.7", False), ("2001:db8::1", True), ("2001:db9::1", False),
    ("fe80::1%eth0", False), ("fe80::5%eth0", True),
    # The number of an address of one family is no address of the other one.
    ("::c000:20b", False), ("::7f00:1", False),
])  # fmt: skip
def test_loopback_nodes_pods_and_named_networks(address: str, allowed: bool) -> None:
    given = Clients(("198.51.100.0/24", "2001:db8::/32", "fe80::5"))
    follower(given)(None, ONE)
    assert [given.allows(address), given.allows(address)] == [allowed, allowed]
    assert Clients(anybody=True).allows(address)


def test_nodes_come_change_and_go() -> None:
    given = Clients(("10.244.3.0/24",))
    changed = follower(given)
    other = node(["10.244.2.0/24"], "192.0.2.12", "192.0.2.99")
    twin = node(["10.244.3.0/24"], "192.0.2.99")
    for each in (ONE, other, twin):
        changed(None, each)
    assert given.allows("192.0.2.12")
    moved = node(["10.244.2.0/24"], "192.0.2.13", "192.0.2.99")
    changed(other, moved)
    assert not given.allows("192.0.2.12")
    assert given.allows("192.0.2.13")
    assert given.allows("10.244.2.7")
    changed(moved, None)
    assert not given.allows("10.244.2.7")
    # It is another node's, too.
    assert given.allows("192.0.2.99")
    changed(twin, None)
    assert not given.allows("192.0.2.99")
    # It was named by the flag, too.
    assert given.allows("10.244.3.1")


def test_a_heartbeat_of_a_node_costs_nothing_remembered() -> None:
    given = Clients()
    changed = follower(given)
    changed(None, ONE)
    given.allows("192.0.2.11")
    changed(ONE, {**ONE, "status": {**ONE["status"], "conditions": [{"type": "Ready"}]}})
    assert given._known == {"192.0.2.11": True}


@pytest.mark.parametrize("broken", [
    {"metadata": {}}, {"metadata": {}, "spec": None, "status": None},
    node(["nonsense"], "", "also nonsense"),
    {"metadata": {}, "spec": {"podCIDR": ""}, "status": {"addresses": [{"type": "Hostname"}]}},
])  # fmt: skip
def test_nodes_that_say_nothing_useful(broken: dict[str, Any]) -> None:
    assert networks_of_node(broken) == frozenset()


def test_a_node_cannot_have_more_let_in_than_its_addresses() -> None:
    found = networks_of_node(node([], "0.0.0.0/0", "::/0", "10.0.0.0/8", "192.0.2.7"))
    assert found == {ip_network("192.0.2.7")}


def test_one_pod_network_by_its_old_name() -> None:
    assert networks_of_node({"spec": {"podCIDR": "10.0.0.0/24"}}) == {ip_network("10.0.0.0/24")}


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 3)
    given = Clients()
    for number in range(10):
        assert not given.allows(f"192.0.2.{number}")
    assert len(given._known) <= 3


def test_who_is_refused_is_told_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    given = Clients()
    with caplog.at_level(logging.WARNING):
        for number in range(50):
            given.allows(f"192.0.2.{number % 5}")
    assert len(caplog.records) == 1
    assert "--allow-from" in caplog.text


def test_the_flag() -> None:
    assert read_source("cluster") == "cluster"
    assert read_source("any") == "any"
    assert read_source("192.0.2.1") == "192.0.2.1/32"
    for text in ("", "nodes", "192.0.2.1/24", "192.0.2.0/33"):
        with pytest.raises(ValueError, match="give 'cluster', 'any', or a network"):
            read_source(text)


async def test_a_stranger_gets_refused_by_udp_and_tcp_and_no_more_than_it_sent() -> None:
    stranger = Clients()
    stranger.remove([ip_network("127.0.0.0/8")])
    async with answering(DIRECTORY, clients=stranger) as server:
        for name in (WEB, "www.example.com"):
            for tcp in (False, True):
                answer = await server.ask(name, tcp=tcp, use_edns=0)
                assert answer.rcode() == dns.rcode.REFUSED
                assert not answer.answer
                assert not answer.flags & dns.flags.AA
                query = dns.message.make_query(name, "A", use_edns=0)
                assert len(answer.to_wire()) <= len(query.to_wire())
        assert server.counts.blocked == 4
        # A connection ends with its first answer.
        reader, writer = await asyncio.open_connection(HOST, server.port)
        data = dns.message.make_query(WEB, "A").to_wire()
        writer.write(2 * (len(data).to_bytes(2, "big") + data))
        async with asyncio.timeout(30):
            received = await reader.read()
        assert len(received) == 2 + len(data)
        writer.close()
        # Nodes may come later.
        stranger.add([ip_network("127.0.0.0/8")])
        assert (await server.ask(WEB)).rcode() == dns.rcode.NOERROR


async def test_strangers_take_no_connections_of_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controlplane.dns.server._MAX_STRANGERS", 1)
    stranger = Clients()
    stranger.remove([ip_network("127.0.0.0/8")])
    async with answering(DIRECTORY, clients=stranger) as server:
        held = await asyncio.open_connection(HOST, server.port)
        reader, writer = await asyncio.open_connection(HOST, server.port)
        data = dns.message.make_query(WEB, "A").to_wire()
        writer.write(len(data).to_bytes(2, "big") + data)
        received = b""
        async with asyncio.timeout(30):
            # Closed with a query unread, a connection is reset.
            with contextlib.suppress(ConnectionResetError):
                received = await reader.read()
        assert received == b""
        # The first one was heard all the while.
        held[1].write(len(data).to_bytes(2, "big") + data)
        async with asyncio.timeout(30):
            assert len(await held[0].read()) == 2 + len(data)
        for each in (writer, held[1]):
            each.close()
