"""Which host ports stand against each other, and the rules that they become."""

from __future__ import annotations

import socket
from ipaddress import IPv4Network, IPv6Network

import pytest

from runtime.network.errors import NetworkError
from runtime.network.hostports import find_conflict, resolve
from runtime.network.port_rules import Forward, PortRules
from runtime.network.request import PortMapping, Protocol, distinct, overlap
from runtime.network.rules import RuleSet

V4 = PortRules(RuleSet("kp0", IPv4Network("10.88.0.0/16")))
V6 = PortRules(RuleSet("kp0", IPv6Network("fd88::/64")))
NODE = "192.0.2.1"
IPS = ["10.88.0.2", "fd88::2"]


def tcp(host_port: int, host_ip: str = "", container_port: int = 80) -> PortMapping:
    return PortMapping(Protocol.TCP, host_port, container_port, host_ip)


INSTALLED_V4 = """\
*raw
:KUBELETPY-KP0 - [0:0]
-A KUBELETPY-KP0 ! -i lo -d 127.0.0.0/8 \
-m comment --comment "kubeletpy kp0: loopback is not for others" -j DROP
-A KUBELETPY-KP0 -i kp0 -s 127.0.0.0/8 \
-m comment --comment "kubeletpy kp0: loopback is not for others" -j DROP
-I PREROUTING -m comment --comment "kubeletpy kp0: guard" -j KUBELETPY-KP0
COMMIT
*nat
:KUBELETPY-KP0-hm - [0:0]
-A KUBELETPY-KP0-hm -j MASQUERADE
:KUBELETPY-KP0-hp - [0:0]
-A KUBELETPY-KP0-hp -s 10.88.0.0/16 -p tcp -m tcp --dport 8080 \
-m comment --comment "kubeletpy kp0: pod a" -j MARK --set-xmark 0x2000/0x2000
-A KUBELETPY-KP0-hp -s 127.0.0.0/8 -p tcp -m tcp --dport 8080 \
-m comment --comment "kubeletpy kp0: pod a" -j MARK --set-xmark 0x2000/0x2000
-A KUBELETPY-KP0-hp -p tcp -m tcp --dport 8080 \
-m comment --comment "kubeletpy kp0: pod a" -j DNAT --to-destination 10.88.0.2:80
-A PREROUTING -m addrtype --dst-type LOCAL \
-m comment --comment "kubeletpy kp0: host ports" -j KUBELETPY-KP0-hp
-A OUTPUT -m addrtype --dst-type LOCAL \
-m comment --comment "kubeletpy kp0: host ports" -j KUBELETPY-KP0-hp
-A POSTROUTING -o kp0 -m mark --mark 0x2000/0x2000 \
-m comment --comment "kubeletpy kp0: host ports" -j KUBELETPY-KP0-hm
COMMIT
"""


def test_first_installation() -> None:
    forwards = [f for f in resolve("a", "", [tcp(8080)], IPS) if f.family == socket.AF_INET]
    assert V4.install("", forwards) == INSTALLED_V4


def test_a_later_change_names_the_ports_only() -> None:
    assert V6.forwards([]) == "*nat\n:KUBELETPY-KP0-hp - [0:0]\nCOMMIT\n"


def test_ipv6_spares_its_own_loopback_and_brackets_targets() -> None:
    [forward] = [f for f in resolve("a", "", [tcp(8080)], IPS) if f.family == socket.AF_INET6]
    text = V6.install("", [forward])
    assert "*raw" not in text
    assert "127." not in text
    assert "-A OUTPUT ! -d ::1/128 -m addrtype" in text
    assert "-j DNAT --to-destination [fd88::2]:80\n" in text


def test_installing_again_doubles_no_jump_and_removal_undoes_all() -> None:
    saved = INSTALLED_V4.replace("-I PREROUTING", "-A PREROUTING")
    again = V4.install(saved, [])
    for jump in ("PREROUTING -m addrtype", "OUTPUT -m", "POSTROUTING -o"):
        assert again.count(f"-D {jump}") == again.count(f"-A {jump}") == 1
    assert "PREROUTING -m comment" not in again
    removal = V4.remove(saved)
    assert removal.count("-D ") == 4
    assert [line for line in removal.splitlines() if line.startswith("-X")] == [
        "-X KUBELETPY-KP0-hp", "-X KUBELETPY-KP0-hm", "-X KUBELETPY-KP0",
    ]  # fmt: skip
    assert V4.remove("") == ""


def test_chains_fit_netfilter_and_are_one_bridges_alone() -> None:
    longest = PortRules(RuleSet("fifteen-letters", V4.base.subnet))
    assert len(longest.ports_chain) <= 28
    assert V4.ports_chain != RuleSet("kp0-hp", V4.base.subnet).chain


def test_a_host_ip_is_matched_and_only_loopback_needs_its_mark() -> None:
    [there] = resolve("a", "", [tcp(1, NODE)], IPS)
    [loopback] = resolve("a", "", [tcp(1, "127.0.0.1")], IPS)
    assert (there.covers_loopback, loopback.covers_loopback) == (False, True)
    text = V4.forwards([there])
    assert f"-A KUBELETPY-KP0-hp -d {NODE} -p tcp -m tcp --dport 1 " in text
    assert "-s 127.0.0.0/8" not in text
    assert "-s 127.0.0.0/8" in V4.forwards([loopback])


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (tcp(80), tcp(80), True),
        (tcp(80), tcp(81), False),
        (tcp(80), PortMapping(Protocol.UDP, 80, 80), False),
        (tcp(80), tcp(80, NODE), True),
        (tcp(80), tcp(80, "2001:db8::1"), True),
        (tcp(80, "0.0.0.0"), tcp(80, NODE), True),
        (tcp(80, "0.0.0.0"), tcp(80, "::"), False),
        (tcp(80, "0.0.0.0"), tcp(80, "2001:db8::1"), False),
        (tcp(80, NODE), tcp(80, "192.0.2.2"), False),
        (tcp(80, NODE), tcp(80, NODE), True),
        (tcp(80, "::"), tcp(80, "2001:db8::1"), True),
    ],
)
def test_overlap(one: PortMapping, other: PortMapping, expected: bool) -> None:
    assert overlap(one, other) is overlap(other, one) is expected


def test_conflict_is_with_others_only() -> None:
    present = resolve("a", "shop/web", [tcp(80)], IPS)
    assert find_conflict("a", [tcp(80)], present) is None
    assert find_conflict("b", [tcp(81)], present) is None
    found = find_conflict("b", [tcp(81), tcp(80, NODE)], present)
    assert found is not None
    assert (found[0], found[1].sandbox_id, found[1].family) == (tcp(80, NODE), "a", socket.AF_INET)


def test_mapping_means_the_families_that_the_pod_has() -> None:
    assert [f.pod_ip for f in resolve("a", "", [tcp(80)], IPS)] == IPS
    assert [f.pod_ip for f in resolve("a", "", [tcp(80, "::")], IPS)] == IPS[1:]
    assert [f.pod_ip for f in resolve("a", "", [tcp(80)], IPS[:1])] == IPS[:1]
    assert resolve("a", "", [tcp(80, "0.0.0.0")], IPS) == [
        Forward("a", int(socket.AF_INET), "tcp", "", 80, IPS[0], 80)
    ]
    with pytest.raises(NetworkError, match="no IPv6 address"):
        resolve("a", "", [tcp(80, "2001:db8::1")], IPS[:1])


def test_doubles_are_one_and_contradictions_an_error() -> None:
    assert distinct([tcp(80), tcp(80), tcp(81)]) == (tcp(80), tcp(81))
    with pytest.raises(ValueError, match="one only"):
        distinct([tcp(80), tcp(80, NODE, container_port=81)])


@pytest.mark.parametrize("host_ip", ["::1", "fe80::1%eth0", "224.0.0.1", "255.255.255.255", "x"])
def test_addresses_that_cannot_be_host_ips(host_ip: str) -> None:
    with pytest.raises(ValueError, match=r"host IP|does not appear"):
        tcp(80, host_ip)


@pytest.mark.parametrize(("host", "container"), [(0, 80), (65536, 80), (-1, 80), (80, 0)])
def test_ports_that_are_none(host: int, container: int) -> None:
    with pytest.raises(ValueError, match="not within 1 and 65535"):
        tcp(host, container_port=container)
