from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from proxy import options
from proxy.backend import LocalDetector, LocalTraffic, RuleOptions
from proxy.iptables.rules import answers_on_localhost
from proxy.model.objects import Node
from proxy.model.portal import Family
from proxy.settings.configuration import KubeProxyConfiguration
from proxy.settings.settings import settings_of

V4, V6 = Family.V4, Family.V6
NODE_CIDRS = {"spec": {"podCIDR": "10.9.0.0/24", "podCIDRs": ["10.9.0.0/24", "fd09::/64"]}}
ADDRESSES = {"status": {"addresses": [
    {"type": "Hostname", "address": "here"}, {"type": "ExternalIP", "address": "192.0.2.1"},
    {"type": "ExternalIP", "address": "2001:db8::1"}, {"type": "InternalIP", "address": "10.0.0.5"},
    {"type": "InternalIP", "address": "10.0.0.6"},
]}}  # fmt: skip


def node(data: dict[str, Any]) -> Node:
    return msgspec.json.decode(json.dumps({"metadata": {"name": "x"}} | data), type=Node)


def configured(**fields: Any) -> KubeProxyConfiguration:
    return settings_of(fields, {}).configuration


@pytest.mark.parametrize(
    ("fields", "family", "expected"),
    [
        ({}, V4, LocalDetector()),
        ({"clusterCIDR": "10.1.2.3/8"}, V4, LocalDetector(LocalTraffic.CLUSTER_CIDR, "10.0.0.0/8")),
        ({"clusterCIDR": "10.0.0.0/8"}, V6, LocalDetector()),
        ({"detectLocalMode": "NodeCIDR"}, V6, LocalDetector(LocalTraffic.NODE_CIDR, "fd09::/64")),
        ({"detectLocalMode": "BridgeInterface", "detectLocal": {"bridgeInterface": "br0"}}, V6,
         LocalDetector(LocalTraffic.BRIDGE_INTERFACE, "br0")),
        ({"detectLocalMode": "InterfaceNamePrefix", "detectLocal": {"interfaceNamePrefix": "veth"}},
         V4, LocalDetector(LocalTraffic.INTERFACE_NAME_PREFIX, "veth")),
    ],
)  # fmt: skip
def test_how_local_traffic_is_told(
    fields: dict[str, Any], family: Family, expected: LocalDetector
) -> None:
    assert options.rule_options(configured(**fields), node(NODE_CIDRS), family).local == expected


@pytest.mark.parametrize(
    ("fields", "four", "six", "localhost"),
    [
        ({}, (), (), True),
        ({"nodePortAddresses": ["primary"]}, ("10.0.0.5/32",), ("2001:db8::1/128",), False),
        (
            {"nodePortAddresses": ["primary"], "bindAddress": "10.0.0.9"},
            ("10.0.0.9/32",),
            ("2001:db8::1/128",),
            False,
        ),
        ({"nodePortAddresses": ["10.0.0.0/8"]}, ("10.0.0.0/8",), (), False),
        ({"nodePortAddresses": ["10.0.0.0/8", "0.0.0.0/0"]}, (), (), True),
        ({"nodePortAddresses": ["127.0.0.0/8", "fd00::/8"]}, ("127.0.0.0/8",), ("fd00::/8",), True),
        ({"iptables": {"localhostNodePorts": False}}, (), (), False),
        # nftables mode has no rules for it.
        ({"mode": "nftables"}, ("10.0.0.5/32",), ("2001:db8::1/128",), None),
        ({"mode": "nftables", "nodePortAddresses": ["0.0.0.0/0"]}, (), (), None),
    ],
)
def test_where_node_ports_answer(
    fields: dict[str, Any], four: tuple[str, ...], six: tuple[str, ...], localhost: bool | None
) -> None:
    one = configured(**fields)
    found = [options.rule_options(one, node(ADDRESSES), family) for family in (V4, V6)]
    assert [each.node_port_addresses for each in found] == [four, six]
    if localhost is not None:
        assert [answers_on_localhost(each) for each in found] == [localhost, False]


def test_marks_are_those_of_the_mode() -> None:
    fields: dict[str, Any] = {
        "iptables": {"masqueradeBit": 1}, "nftables": {"masqueradeBit": 2, "masqueradeAll": True},
    }  # fmt: skip
    assert options.rule_options(configured(**fields), None, V6) == RuleOptions(V6, masquerade_bit=1)
    found = options.rule_options(configured(mode="nftables", **fields), None, V6)
    assert (found.masquerade_bit, found.masquerade_all) == (2, True)


@pytest.mark.parametrize(
    ("fields", "data", "missing"),
    [
        ({}, None, ""),
        ({"detectLocalMode": "NodeCIDR"}, None, "spec.podCIDRs"),
        ({"detectLocalMode": "NodeCIDR"}, {}, "spec.podCIDRs"),
        ({"detectLocalMode": "NodeCIDR"}, NODE_CIDRS, ""),
        ({"detectLocalMode": "NodeCIDR"}, {"spec": {"podCIDR": "10.0.0.0/24"}}, ""),
        ({"mode": "nftables"}, NODE_CIDRS, "an address"),
        ({"mode": "nftables"}, ADDRESSES, ""),
        ({"mode": "nftables", "bindAddress": "10.0.0.1"}, None, ""),
    ],
)
def test_what_is_waited_for(
    fields: dict[str, Any], data: dict[str, Any] | None, missing: str
) -> None:
    found = options.missing(configured(**fields), None if data is None else node(data))
    assert (found is not None) == bool(missing)
    assert found is None or missing in found.what


def test_what_an_operator_is_told() -> None:
    assert len(options.warnings(configured())) == 2
    assert options.warnings(configured(mode="nftables", clusterCIDR="10.0.0.0/8")) == []
