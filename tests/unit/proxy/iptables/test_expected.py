"""The rules of small sets of portals are, to the letter, those of the files in ``expected``.

After a wanted change write them anew, and read what changed:

    python -m tests.unit.proxy.iptables.test_expected
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.backend import LocalDetector, LocalTraffic, RuleOptions
from proxy.iptables.rules import Host
from proxy.iptables.ruleset import Found, RuleSet
from proxy.model.portal import Family, Portal, Protocol

from .portals import by_name, portal

EXPECTED = Path(__file__).parent / "expected"

V4 = RuleOptions(Family.V4, LocalDetector(LocalTraffic.CLUSTER_CIDR, "10.1.0.0/16"))
V6 = RuleOptions(Family.V6, LocalDetector(LocalTraffic.NODE_CIDR, "fd00:1::/64"))
HOST = Host()

_OUTSIDE: dict[str, Any] = {
    "node_port": 30080,
    "external_ips": ("198.51.100.1",),
    "load_balancer_ips": ("203.0.113.1",),
    "source_ranges": ("192.0.2.0/24",),
    "restricted": True,
    "health_check_node_port": 30999,
}

CASES: dict[str, tuple[RuleOptions, Host, tuple[Portal, ...]]] = {
    "nothing": (V4, HOST, ()),
    "cluster-ip": (
        V4,
        HOST,
        (
            portal(),
            portal("dns/dns:dns", protocol=Protocol.UDP, cluster_ip="10.96.0.53", port=53),
            portal("tel/ss7", ("10.1.0.9",), protocol=Protocol.SCTP, cluster_ip="10.96.0.7"),
        ),
    ),
    "outside": (replace(V4, node_ip="192.0.2.1"), HOST, (portal(**_OUTSIDE),)),
    "outside-local": (
        V4,
        HOST,
        (portal(local=("10.1.0.1",), external_local=True, internal_local=True, **_OUTSIDE),),
    ),
    "none-local": (
        V4,
        HOST,
        (portal(external_local=True, internal_local=True, **_OUTSIDE),),
    ),
    "no-endpoints": (V4, HOST, (portal(cluster=(), **_OUTSIDE),)),
    "affinity": (V4, HOST, (portal(affinity_seconds=10800),)),
    "no-bpf": (
        V4,
        Host(random_fully=False, compares_addresses=False, tcp_liberal=True),
        (portal(),),
    ),
    "ipv6": (
        V6,
        HOST,
        (portal(cluster=("fd00:1::1", "fd00:1::2"), family=Family.V6, node_port=30080),),
    ),
    "settings": (
        RuleOptions(
            Family.V4,
            LocalDetector(LocalTraffic.INTERFACE_NAME_PREFIX, "veth"),
            masquerade_all=True,
            masquerade_bit=20,
            localhost_node_ports=False,
            node_port_addresses=("192.0.2.0/24", "2001:db8::/64", "10.0.0.0/8"),
        ),
        HOST,
        (portal(node_port=30080), portal("a/b", (), cluster_ip="10.96.0.11", node_port=30081)),
    ),
    "bridge": (
        RuleOptions(Family.V4, LocalDetector(LocalTraffic.BRIDGE_INTERFACE, "cni0")),
        HOST,
        (portal(local=("10.1.0.1",), external_local=True, node_port=30080),),
    ),
    "many": (
        V4,
        HOST,
        tuple(
            portal(f"many/s{n}", cluster_ip=f"10.96.{n // 40}.{n}", node_port=30000 + n)
            for n in range(80)
        ),
    ),
}


def text_of(case: str) -> str:
    """Return the rules of a case."""
    options, host, portals = CASES[case]
    return RuleSet(options, host).make_all(by_name(*portals), Found()).text()


@pytest.mark.parametrize("case", CASES)
def test_the_rules_are_those_of_the_file(case: str) -> None:
    assert text_of(case) == (EXPECTED / f"{case}.rules").read_text()


def test_every_file_is_of_a_case() -> None:
    assert {path.stem for path in EXPECTED.glob("*.rules")} == set(CASES)


if __name__ == "__main__":
    for each in CASES:
        (EXPECTED / f"{each}.rules").write_text(text_of(each))
