from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kubeletpy.cri.dns import dns_config
from kubeletpy.cri.node import NodeFacts, Resolver, parse_resolver, read_resolver

from ..api.pods import make_pod

STANDALONE = NodeFacts(
    name="node",
    ips=("192.0.2.1",),
    resolver=Resolver(("192.0.2.53",), ("corp.example",), ("timeout:2",)),
)
CLUSTER = replace(STANDALONE, cluster_dns=("10.96.0.10",), cluster_domain="cluster.local")
SEARCHES = ["default.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"]


@pytest.mark.parametrize(
    ("node", "spec", "servers", "searches", "options", "warned"),
    [
        (CLUSTER, {}, ["10.96.0.10"], SEARCHES, ["ndots:5"], False),
        (STANDALONE, {}, ["192.0.2.53"], ["corp.example"], ["timeout:2"], True),
        (CLUSTER, {"dnsPolicy": "Default"}, ["192.0.2.53"], ["corp.example"], ["timeout:2"],
         False),
        (CLUSTER, {"hostNetwork": True}, ["192.0.2.53"], ["corp.example"], ["timeout:2"], False),
        (CLUSTER, {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}, ["10.96.0.10"],
         SEARCHES, ["ndots:5"], False),
        (CLUSTER, {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"]}}, ["1.1.1.1"],
         [], [], False),
        (CLUSTER, {"dnsConfig": {"nameservers": ["10.96.0.10", "1.1.1.1"], "searches": ["x"],
                                 "options": [{"name": "ndots", "value": "1"}, {"name": "edns0"}]}},
         ["10.96.0.10", "1.1.1.1"], [*SEARCHES, "x"], ["ndots:1", "edns0"], False),
        (replace(STANDALONE, resolver=None), {"dnsPolicy": "Default"}, ["127.0.0.1"], ["."], [],
         False),
        (replace(STANDALONE, resolver=None, ips=("::1:2",)), {"dnsPolicy": "Default"}, ["::1"],
         ["."], [], False),
    ],
)  # fmt: skip
def test_policies(
    node: NodeFacts,
    spec: dict[str, Any],
    servers: list[str],
    searches: list[str],
    options: list[str],
    warned: bool,
) -> None:
    config, warnings = dns_config(make_pod(**spec), node)
    assert list(config.servers) == servers
    assert list(config.searches) == searches
    assert list(config.options) == options
    assert bool(warnings) is warned


def test_fallback_is_told() -> None:
    _, (warning,) = dns_config(make_pod(), STANDALONE)
    assert "does not have ClusterDNS IP" in warning
    assert 'Falling back to "Default"' in warning


def test_limits() -> None:
    resolver = Resolver(
        ("1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"),
        tuple(f"{index}{'x' * 100}" for index in range(40)),
    )
    node = replace(STANDALONE, resolver=resolver)
    config, warnings = dns_config(make_pod(dnsPolicy="Default"), node)
    assert list(config.servers) == ["1.1.1.1", "2.2.2.2", "3.3.3.3"]
    assert len(" ".join(config.searches)) <= 2048
    assert 15 < len(config.searches) <= 32
    assert len(warnings) == 2


def test_parse_resolver() -> None:
    text = """
    # comment
    nameserver 1.1.1.1
    nameserver
    nameserver ::1 # trailing
    search a.example b.example.
    search last.example.
    options ndots:2 edns0
    domain ignored
    """
    assert parse_resolver(text.splitlines()) == Resolver(
        ("1.1.1.1", "::1"), ("last.example",), ("ndots:2", "edns0")
    )


def test_no_resolv_conf() -> None:
    assert read_resolver("") is None
