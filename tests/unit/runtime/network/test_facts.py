"""Names, settings and choices that are made from plain facts about the machine."""

import socket
import struct
from ipaddress import IPv4Address

import pytest

from runtime.network import host, links, settings
from runtime.network.allocator import Pool
from runtime.network.config import NetworkConfig
from runtime.network.links import Link, Route


def link(index: int, name: str, kind: str | None = None, mtu: int = 1500) -> Link:
    return Link(index, name, kind, None, mtu, None)


def default(index: int, family: int = socket.AF_INET, priority: int = 0) -> Route:
    return Route(family, None, 0, index, priority)


LO = link(1, "lo", mtu=65536)
ETH0 = link(2, "eth0", mtu=9000)
ETH1 = link(3, "eth1", mtu=1400)


def test_names_of_host_links_are_unique_per_sandbox_and_bridge() -> None:
    names = {links.host_link_name(b, s) for b in ("kp0", "kp1") for s in ("a", "b", "a" * 64)}
    assert len(names) == 6
    assert all(len(name) == 15 and links.is_host_link_name(name) for name in names)
    assert links.host_link_name("kp0", "a") == links.host_link_name("kp0", "a")


@pytest.mark.parametrize("name", ["kubeletpy0", "kp0", "kpABCDEF0123456", "veth12345678901"])
def test_names_of_others_are_not_taken_for_ours(name: str) -> None:
    assert not links.is_host_link_name(name)


def test_hardware_address_follows_the_address() -> None:
    assert links.hardware_address(IPv4Address("10.88.1.255")) == "0a:58:0a:58:01:ff"


@pytest.mark.parametrize("sandbox_id", ["", "a" * 256, "new\nline", "nul\0"])
def test_unusable_sandbox_ids_are_refused(sandbox_id: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        links.check_sandbox_id(sandbox_id)


def test_veth_request_differs_only_in_what_was_given() -> None:
    first = links.add_veth("kp0123456789abc", 7, 1500, "0a:58:0a:58:00:02", 11).encoded
    second = links.add_veth("kpcba9876543210", 7, 1500, "0a:58:0a:58:00:03", 300).encoded
    assert len(first) == len(second) == struct.unpack_from("=I", first)[0]
    assert first.count(b"kp0123456789abc") == 1
    assert first.count(bytes.fromhex("0a580a580002")) == 1
    assert first != second
    restored = second.replace(b"kpcba9876543210", b"kp0123456789abc")
    restored = restored.replace(bytes.fromhex("0a580a580003"), bytes.fromhex("0a580a580002"))
    assert restored.replace(struct.pack("=I", 300), struct.pack("=I", 11)) == first


def test_veth_request_refuses_a_name_of_another_length() -> None:
    with pytest.raises(ValueError, match="cannot take the place"):
        links.add_veth("short", 7, 1500, "0a:58:0a:58:00:02", 11)


def test_mtu_is_that_of_the_preferred_default_route() -> None:
    routes = [default(2, priority=200), default(3, priority=100)]
    assert host.choose_mtu([LO, ETH0, ETH1], routes) == 1400
    assert host.choose_mtu([LO, ETH0, ETH1], [default(2, socket.AF_INET6), default(3)]) == 1400
    assert host.choose_mtu([LO, ETH0, ETH1], [default(2, socket.AF_INET6)]) == 9000
    assert host.choose_mtu([LO, ETH0, ETH1], []) == 1500


def test_subnet_routed_to_another_link_is_a_conflict() -> None:
    pool = Pool.parse("10.88.0.0/16")
    present = [LO, ETH0, link(4, "podman0", "bridge")]
    same = Route(socket.AF_INET, "10.88.0.0", 16, 4, 0)
    wider = Route(socket.AF_INET, "10.0.0.0", 8, 2, 0)
    assert host.conflict(pool, "kp0", present, [default(2), wider]) == ""
    assert host.conflict(pool, "kp0", present, [wider, same]) == "podman0"
    assert host.conflict(pool, "podman0", present, [wider, same]) == ""


def test_forwarding_is_needed_by_other_virtual_links_but_uplinks() -> None:
    uplink = link(5, "uplink", "veth")
    present = [LO, ETH0, link(6, "ifb0", "ifb"), uplink]
    assert host.others_need_forwarding(present, [default(5)]) == []
    assert host.others_need_forwarding(present, [default(2)]) == ["uplink"]
    assert host.others_need_forwarding([*present, link(7, "br0", "bridge")], [default(5)]) == [
        "br0"
    ]


def test_router_advertisements_stay_believed_on_uplinks() -> None:
    result = settings.wanted(True, ["eth0", "eth1", "eth2"], {"eth0": "1", "eth1": "0"})
    assert list(result.items()) == [
        ("ipv6/conf/eth0/accept_ra", "2"),
        ("ipv4/ip_forward", "1"),
        ("ipv6/conf/all/forwarding", "1"),
    ]


def test_without_ipv6_nothing_of_it_is_set() -> None:
    assert settings.wanted(False, ["eth0"], {"eth0": "1"}) == {"ipv4/ip_forward": "1"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"bridge": "much-too-long-name"},
        {"bridge": "Upper"},
        {"bridge": "a/b"},
        {"bridge": ""},
        {"subnet_v4": "10.88.0.1/16"},
        {"subnet_v4": "fd88::/64"},
        {"subnet_v6": "10.88.0.0/16"},
        {"subnet_v6": None, "ipv6_required": True},
        {"mtu": 1279},
        {"mtu": 65536},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        NetworkConfig(**wrong)  # type: ignore[arg-type]
