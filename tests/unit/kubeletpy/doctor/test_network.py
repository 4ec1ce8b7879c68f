"""Forwarding, firewalls, nf_tables' messages: recorded and made-up machines."""

from __future__ import annotations

import dataclasses
import struct

import pytest

from kubeletpy.doctor import firewalld, firewalls, forwarding
from kubeletpy.doctor.netfilter import Chain, chain, messages
from kubeletpy.doctor.purpose import NODE, SERVER, UP, Purpose
from tests.unit.kubeletpy.doctor.test_machine import named

ON = forwarding.Facts(forward_v4="1", forward_v6="1", writable=True, bridged="1")
STRICT = {"all": "0", "eth0": "1", "eth1": "1"}


@pytest.mark.parametrize(
    ("change", "purpose", "name", "verdict", "says"),
    [
        ({}, NODE, "IPv4 forwarding", "ok", "on"),
        ({"forward_v4": "0"}, NODE, "IPv4 forwarding", "warning", "turns it on at its start"),
        ({"forward_v4": "0", "writable": False}, NODE, "IPv4 forwarding", "error", "read-only"),
        ({"turned_off_by": ("/etc/sysctl.d/10-x.conf",)}, NODE, "IPv4 forwarding", "warning",
         "/etc/sysctl.d/10-x.conf turns it off"),
        ({"forward_v4": ""}, NODE, "IPv4 forwarding", "error", "no IPv4"),
        ({"forward_v6": ""}, NODE, "IPv6 forwarding", "ok", "no IPv6"),
        ({"forward_v6": "0"}, NODE, "IPv6 forwarding", "ok", "off"),
        ({"forward_v6": "0", "writable": False}, NODE, "IPv6 forwarding", "warning", "read-only"),
        ({"reverse_path": STRICT, "uplinks": ("eth0",)}, NODE, "reverse path filter", "ok",
         "the only way out"),
        ({"reverse_path": STRICT, "uplinks": ("eth0", "eth1")}, NODE, "reverse path filter",
         "warning", "strict on eth0, eth1"),
        ({"reverse_path": {"all": "1", "eth0": "0"}, "uplinks": ("eth0", "eth1")}, NODE,
         "reverse path filter", "warning", "strict on eth0"),
        ({"reverse_path": {"all": "2", "eth0": "1"}, "uplinks": ("eth0", "eth1")}, NODE,
         "reverse path filter", "ok", "not strict"),
        ({"bridged": ""}, NODE, "bridged packets", "ok", "not loaded"),
        ({"bridged": "", "writable": False}, NODE, "bridged packets", "warning", "cannot be set"),
        ({"bridged": "0"}, NODE, "bridged packets", "ok", "is 0"),
        ({"learnt_routes": ("eth0",), "accept_ra": {"eth0": "1"}}, NODE, "IPv6 default route",
         "ok", "eth0"),
    ],
)  # fmt: skip
def test_forwarding(
    change: dict[str, object], purpose: Purpose, name: str, verdict: str, says: str
) -> None:
    facts = dataclasses.replace(ON, **change)  # type: ignore[arg-type]
    one = named(forwarding.judge(facts, purpose), name)
    assert one.verdict == verdict
    assert says in one.found
    assert bool(one.remedy) == (verdict != "ok")


def test_a_learnt_route_that_stays_is_no_finding() -> None:
    facts = dataclasses.replace(ON, learnt_routes=("eth0",), accept_ra={"eth0": "2"})
    assert "IPv6 default route" not in {one.name for one in forwarding.judge(facts, NODE)}


def test_default_routes_of_routers_are_found() -> None:
    zero, hop = "0" * 32, "fe80" + "0" * 27 + "1"
    table = "\n".join(
        [
            f"{zero} 00 {zero} 00 {hop} 00000400 00000001 00000000 00450003 eth0",
            f"{zero} 00 {zero} 00 {hop} 00000400 00000001 00000000 00000003 eth1",
            f"fd88{zero[4:]} 40 {zero} 00 {zero} 00000100 00000001 00000000 00040001 eth2",
            "short",
        ]
    )
    assert forwarding.learnt_defaults(table) == ("eth0",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("net.ipv4.ip_forward=0", True),
        ("-net/ipv4/ip_forward = 0 \n", True),
        ("net.ipv4.ip_forward=0\nnet.ipv4.ip_forward=1", False),
        ("#net.ipv4.ip_forward=0", False),
        ("net.ipv4.conf.all.forwarding=0", True),
        ("net.ipv6.conf.all.forwarding=0", False),
    ],
)
def test_files_that_turn_forwarding_off(text: str, expected: bool) -> None:
    assert forwarding.turns_off(text) is expected


FIREWALLD = (
    Chain("inet", "firewalld", "filter_INPUT", "input", "accept"),
    Chain("inet", "firewalld", "filter_FORWARD", "forward", "accept"),
)
PUBLIC = firewalld.Zones("public", ("eth0",), services=("ssh", "dhcpv6-client"))
OPEN = dataclasses.replace(
    PUBLIC,
    ports=(("6443", "tcp"), ("10250-10256", "tcp"), ("4789", "udp")),
    trusted=("10.0.0.0/8", "ipset:pods", "fd00::/8"),
)


@pytest.mark.parametrize(
    ("zones", "purpose", "verdict", "found", "remedy"),
    [
        (PUBLIC, SERVER, "error", "10.244.0.0/16", "--zone=public --add-port=6443/tcp"),
        (PUBLIC, NODE, "error", "4789/udp (pod network", "--zone=public --add-port=10250/tcp"),
        (None, NODE, "error", "could not be asked", "--permanent --add-port=10250/tcp"),
        (PUBLIC, UP, "error", "10.88.0.0/16", "--zone=trusted --add-source=fd88::/64"),
        (OPEN, SERVER, "ok", "lets through", ""),
        (OPEN, UP, "ok", "lets through", ""),
        (dataclasses.replace(PUBLIC, target="ACCEPT"), SERVER, "ok", "lets through", ""),
        (dataclasses.replace(OPEN, trusted=("10.244.0.0/24",)), NODE, "error", "10.244.0.0/16",
         "firewall-cmd --permanent --zone=trusted --add-source=10.244.0.0/16 && firewall-cmd "
         "--reload"),
        (dataclasses.replace(OPEN, ports=(("odd", "tcp"), ("4789", "udp")),
                             services=("kube-apiserver", "kube-worker")), SERVER, "ok", "", ""),
    ],
)  # fmt: skip
def test_firewalld(
    zones: firewalld.Zones | None, purpose: Purpose, verdict: str, found: str, remedy: str
) -> None:
    one = named(firewalls.judge(firewalls.Facts(FIREWALLD, zones=zones), purpose), "firewalld")
    assert one.verdict == verdict
    assert found in one.found
    assert remedy in one.remedy


def test_answers_of_firewalld_become_zones() -> None:
    zones = firewalld.zones(
        "public",
        {"public": {"interfaces": ["eth0"]}, "trusted": {"sources": ["10.244.0.0/16"]},
         "lab": {"interfaces": ["eth1"], "sources": ["192.0.2.0/24"]},
         "work": {"sources": ["198.51.100.0/24"]}},
        {"target": ("s", "default"), "ports": ("a(ss)", [("10250", "tcp")]),
         "services": ("as", ["ssh"])},
        ["lab"],
    )  # fmt: skip
    assert zones == firewalld.Zones(
        "public", ("eth0",), "default", (("10250", "tcp"),), ("ssh",),
        ("10.244.0.0/16", "192.0.2.0/24"),
    )  # fmt: skip


UFW = """\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:ufw-user-input - [0:0]
:ufw-user-forward - [0:0]
-A INPUT -j ufw-before-input
-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT
-A ufw-user-input -s 192.0.2.0/24 -p tcp -m tcp --dport 10250 -j ACCEPT
-A ufw-user-input -p tcp -m multiport --dports 6000:7000,80 -j ACCEPT
COMMIT
"""
ALLOWED = UFW.replace(
    "COMMIT",
    "-A ufw-user-input -p tcp -m tcp --dport 10250 -j ACCEPT\n"
    "-A ufw-user-input -m multiport --dports 10256 -j ACCEPT\n"
    "-A ufw-user-input -p udp -m udp --dport 4789 -j ACCEPT\n"
    "-A ufw-user-input -s 10.244.0.0/16 -j ACCEPT\nCOMMIT",
)


@pytest.mark.parametrize(
    ("saved", "enabled", "purpose", "verdict", "found", "remedy"),
    [
        ("", False, NODE, "ok", "not active", ""),
        ("", True, NODE, "warning", "next boot", "ufw status"),
        (UFW, True, NODE, "error", "10250/tcp", "ufw allow from 10.244.0.0/16 && ufw route"),
        (UFW, True, SERVER, "error", "10256/tcp", "ufw allow 4789/udp"),
        (UFW, True, UP, "error", "10.88.0.0/16", "ufw route allow to 10.88.0.0/16"),
        (ALLOWED, True, SERVER, "ok", "lets through", ""),
    ],
)
def test_ufw(
    saved: str, enabled: bool, purpose: Purpose, verdict: str, found: str, remedy: str
) -> None:
    facts = firewalls.Facts(saved=saved, ufw_enabled=enabled)
    one = named(firewalls.judge(facts, purpose), "ufw")
    assert one.verdict == verdict
    assert found in one.found
    assert remedy in one.remedy
    assert "6443" not in one.found  # within the range that is allowed


DOCKER = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:DOCKER - [0:0]\nCOMMIT\n"
FOREIGN = Chain("inet", "mine", "fwd", "forward", "drop")


@pytest.mark.parametrize(
    ("facts", "name", "verdict", "found", "remedy"),
    [
        (firewalls.Facts(), "policy of FORWARD", "ok", "accept", ""),
        (firewalls.Facts(saved=DOCKER), "policy of FORWARD", "ok", "DROP (docker's)", ""),
        (firewalls.Facts((Chain("ip", "filter", "FORWARD", "forward", "drop"),)),
         "policy of FORWARD", "ok", "DROP:", ""),
        (firewalls.Facts((FOREIGN,)), "nftables chain inet mine fwd", "error", "forward packets",
         "nft insert rule inet mine fwd ip daddr 10.244.0.0/16 accept"),
        (firewalls.Facts((Chain("ip", "mine", "in", "input", "drop"),)),
         "nftables chain ip mine in", "warning", "input packets",
         "nft insert rule ip mine in tcp dport 10250 accept"),
        (firewalls.Facts(saved=":INPUT DROP [0:0]\n-A INPUT -p tcp -m tcp --dport 10250 -j ACCEPT"),
         "policy of INPUT", "warning", "10256/tcp", "iptables -I INPUT -s 10.244.0.0/16 -j ACCEPT"),
        (firewalls.Facts(problem="Operation not permitted"), "packet filter", "ok",
         "not permitted", ""),
    ],
)  # fmt: skip
def test_chains_that_drop(
    facts: firewalls.Facts, name: str, verdict: str, found: str, remedy: str
) -> None:
    one = named(firewalls.judge(facts, NODE), name)
    assert one.verdict == verdict
    assert found in one.found
    assert remedy in one.remedy


def test_an_accepting_chain_of_others_is_no_finding() -> None:
    facts = firewalls.Facts((dataclasses.replace(FOREIGN, policy="accept"),))
    assert all(one.verdict == "ok" for one in firewalls.judge(facts, NODE))


def attribute(kind: int, body: bytes) -> bytes:
    return struct.pack("=HH", len(body) + 4, kind) + body + b"\0" * (-len(body) % 4)


def test_messages_of_nf_tables_are_read() -> None:
    hook = attribute(1, struct.pack(">I", 2)) + attribute(2, struct.pack(">i", 10))
    body = struct.pack(">BBH", 1, 0, 0) + attribute(1, b"firewalld\0") + attribute(3, b"fwd\0")
    base = body + attribute(0x8004, hook) + attribute(5, struct.pack(">I", 0))
    packet = b"".join(
        struct.pack("=IHHII", len(one) + 16, 0xA03, 2, 1, 0) + one for one in (body, base)
    )
    found = [chain(one) for kind, one in messages(packet)]
    assert found == [
        Chain("inet", "firewalld", "fwd"),
        Chain("inet", "firewalld", "fwd", "forward", "drop"),
    ]
    assert chain(b"") is None
    assert chain(body[:4]) is None
    assert list(messages(b"\1\0\0\0" + b"\0" * 20)) == []
