"""What the kernel announces, and what of it counts."""

from __future__ import annotations

import socket
import struct

import pytest

from kubeletpy_common import netlink
from kubeletpy_common.netlink import Request
from proxy.podnetwork import wire
from proxy.podnetwork.entries import OVERLAY, Entries, Facts, Hop, Link, RouteKey
from proxy.podnetwork.mirror import Mirror

DEVICE, INDEX, UPLINK = "kubeletpy-vx", 9, 2
KEY = RouteKey(b"\x0a\xf4\2\0", 24, 0)
KEY6 = RouteKey(socket.inet_pton(socket.AF_INET6, "fd44:0:2::"), 64, 1024)
HOP = Hop(b"\xc0\xa8\x4d\2", UPLINK)
MAC, REMOTE = bytes.fromhex("0a580af40200"), b"\xc0\xa8\x4e\4"
NEW, OLD = netlink.RTM_NEWROUTE, netlink.RTM_DELROUTE


def _mirror() -> Mirror:
    made = Mirror(DEVICE)
    made.begin()
    entries = Entries(routes={KEY: HOP}, neighbours={KEY.network: MAC}, forwarding={MAC: REMOTE})
    made.replace(entries, Facts({UPLINK: Link("eth0", 1500, True)}), INDEX)
    return made


def _state(mirror: Mirror) -> tuple[bool, bool]:
    return mirror.stale, mirror.changed


def _route(kind: int, key: RouteKey, hop: Hop | None) -> bytes:
    return wire.route(kind, 0, key, hop).encoded


@pytest.mark.parametrize(
    ("messages", "state"),
    [
        (_route(NEW, KEY, HOP), (False, False)),  # our own, told again
        (_route(OLD, KEY, HOP), (False, True)),
        (_route(NEW, KEY, Hop(b"\1\1\1\1", UPLINK)), (False, True)),
        (_route(OLD, KEY, HOP) + _route(NEW, KEY, HOP), (False, True)),
        # A replaced one is told of as gone after the new one is there.
        (_route(OLD, KEY, Hop(b"\1\1\1\1", UPLINK)), (False, False)),
        (_route(NEW, KEY6, Hop(KEY6.network, INDEX)), (False, True)),
        (wire.neighbour(28, 0, INDEX, KEY.network, MAC).encoded, (False, False)),
        (wire.neighbour(29, 0, INDEX, KEY.network, MAC).encoded, (False, True)),
        (wire.neighbour(28, 0, INDEX, KEY.network, b"\7" * 6).encoded, (False, True)),
        (wire.neighbour(29, 0, UPLINK, KEY.network, MAC).encoded, (False, False)),
        (wire.forwarding(28, 0, INDEX, MAC, REMOTE).encoded, (False, False)),
        (wire.forwarding(29, 0, INDEX, MAC, REMOTE).encoded, (False, True)),
        (b"\x04\0\0\0" * 8, (False, False)),  # no message
    ],
)
def test_entries_of_ours(messages: bytes, state: tuple[bool, bool]) -> None:
    mirror = _mirror()
    mirror.take(messages)
    assert _state(mirror) == state


def test_a_route_by_the_device_is_told_from_one_by_a_link() -> None:
    mirror = _mirror()
    mirror.take(_route(NEW, KEY6, Hop(KEY6.network, INDEX)))
    assert mirror.entries.routes[KEY6] == Hop(KEY6.network, OVERLAY)


def _by_pyroute2(kind: int, header: dict[str, int], *attributes: tuple[str, object]) -> bytes:
    return Request("test", kind, 0, header, attributes).encoded


ROUTE = {"family": socket.AF_INET, "dst_len": 24, "table": 254, "type": 1}
TO = ("RTA_DST", "10.9.0.0")


@pytest.mark.parametrize(
    ("message", "stale"),
    [
        (_by_pyroute2(NEW, {**ROUTE, "proto": 2}, TO, ("RTA_OIF", 2)), True),
        (_by_pyroute2(NEW, {**ROUTE, "proto": 3, "type": 7}, TO), False),  # unreachable
        (_by_pyroute2(NEW, {**ROUTE, "proto": 2, "table": 255}, TO, ("RTA_OIF", 2)), False),
        (_by_pyroute2(NEW, {**ROUTE, "proto": 88, "table": 100}, TO), False),
        (_by_pyroute2(16, {"index": INDEX}, ("IFLA_IFNAME", DEVICE)), True),
        (_by_pyroute2(17, {"index": UPLINK}, ("IFLA_IFNAME", "eth0")), True),
        (_by_pyroute2(16, {"index": UPLINK, "flags": 1}, ("IFLA_IFNAME", "eth0"),
                      ("IFLA_MTU", 1500)), False),
        (_by_pyroute2(16, {"index": UPLINK, "flags": 1}, ("IFLA_IFNAME", "eth0"),
                      ("IFLA_MTU", 1400)), True),
        (_by_pyroute2(16, {"index": UPLINK}, ("IFLA_IFNAME", "eth0"), ("IFLA_MTU", 1500)), True),
        (_by_pyroute2(16, {"index": 77, "flags": 1}, ("IFLA_IFNAME", "veth")), False),
        (_by_pyroute2(20, {"family": 2, "index": 2}, ("IFA_LOCAL", "10.0.0.1")), True),
        (_by_pyroute2(20, {"family": 10, "index": 2}, ("IFA_ADDRESS", "fe80::1")), False),
    ],
)  # fmt: skip
def test_what_of_others_counts(message: bytes, stale: bool) -> None:
    mirror = _mirror()
    mirror.take(message)
    assert _state(mirror) == (stale, False)


@pytest.mark.parametrize(
    "message",
    [
        _route(OLD, KEY, HOP),
        _route(NEW, KEY6, Hop(KEY6.network, 11)),
        wire.neighbour(29, 0, 11, KEY.network, MAC).encoded,  # of a device just made
    ],
)
def test_what_is_told_while_all_is_read_is_not_lost(message: bytes) -> None:
    mirror = _mirror()
    mirror.begin()
    mirror.take(message)
    mirror.replace(Entries(), Facts(), 11)
    assert mirror.stale


def test_our_messages_are_those_of_pyroute2() -> None:
    ours = wire.route(NEW, 0, KEY, HOP).encoded
    header = {"family": 2, "dst_len": 24, "table": 254, "proto": 88, "type": 1, "flags": 4}
    assert ours == _by_pyroute2(
        NEW, header, ("RTA_DST", "10.244.2.0"), ("RTA_GATEWAY", "192.168.77.2"), ("RTA_OIF", 2)
    )


@pytest.mark.parametrize(
    "attribute",
    [struct.pack("=HHQ", 12, 9, 0), struct.pack("=HHI", 8, 30, 7)],
    ids=["RTA_MULTIPATH", "RTA_NH_ID"],
)
def test_a_route_with_several_ways_is_never_direct(attribute: bytes) -> None:
    message = _by_pyroute2(NEW, {**ROUTE, "proto": 3}, TO)
    seen = wire.route_seen(message + attribute)
    assert seen is not None
    assert seen.hop is None
    assert seen.foreign is not None
    assert (seen.foreign.direct, seen.foreign.link) == (False, 0)
