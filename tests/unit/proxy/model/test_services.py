"""What a Service asks for: each field, and each way in which it can be wrong."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.model.portal import Family, Portal, Protocol
from proxy.model.services import asked_of
from tests.unit.proxy.fakes import service

V4, V6 = Family.V4, Family.V6
LOCAL_HEALTH = {
    "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000,
}  # fmt: skip


def only(family: Family = V4, **fields: Any) -> Portal:
    (found,) = asked_of(service(**fields)).portals[family]
    return found


@pytest.mark.parametrize(
    "fields",
    [
        {"clusterIP": "None"}, {"clusterIP": ""}, {"clusterIP": "None", "clusterIPs": ["None"]},
        {"type": "ExternalName", "clusterIP": ""}, {"type": "ExternalName"},
        {"metadata": {"labels": {"service.kubernetes.io/service-proxy-name": "other"}}},
        {"metadata": {"labels": {"service.kubernetes.io/headless": ""}}},
        {"ports": []},
    ],
)  # fmt: skip
def test_what_is_not_for_a_proxy(fields: dict[str, Any]) -> None:
    assert asked_of(service(**fields)).portals == {}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"cluster_ip": "10.0.0.1", "port": 80, "protocol": Protocol.TCP, "node_port": 0}),
        ({"ports": [{"port": 53, "protocol": "UDP"}]}, {"protocol": Protocol.UDP}),
        ({"ports": [{"port": 9, "protocol": "SCTP"}]}, {"protocol": Protocol.SCTP}),
        ({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1", "010.0.0.9"]},
         {"cluster_ip": "10.0.0.9"}),
        ({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30000}]}, {"node_port": 30000}),
        ({"internalTrafficPolicy": "Local"}, {"internal_local": True, "external_local": False}),
        ({"type": "NodePort", "externalTrafficPolicy": "Local"}, {"external_local": True}),
        ({"externalTrafficPolicy": "Local"}, {"external_local": False}),
        ({"externalTrafficPolicy": "Local", "externalIPs": ["192.0.2.1"]},
         {"external_local": True, "external_ips": ("192.0.2.1",)}),
        ({"externalIPs": ["192.0.2.1", "192.0.2.1", "fd00::9", "", "10.0.0.1"]},
         {"external_ips": ("192.0.2.1",)}),
        ({"sessionAffinity": "ClientIP",
          "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}, {"affinity_seconds": 60}),
        ({"sessionAffinity": "ClientIP"}, {"affinity_seconds": 10800}),
        ({"sessionAffinity": "None"}, {"affinity_seconds": 0}),
        (LOCAL_HEALTH, {"health_check_node_port": 32000}),
        (LOCAL_HEALTH | {"externalTrafficPolicy": "Cluster"}, {"health_check_node_port": 0}),
        (LOCAL_HEALTH | {"type": "NodePort"}, {"health_check_node_port": 0}),
        ({"type": "LoadBalancer", "status": {"loadBalancer": {"ingress": [
            {"ip": "192.0.2.9"}, {"ip": "192.0.2.8", "ipMode": "VIP"}, {"hostname": "x"},
            {"ip": "192.0.2.7", "ipMode": "Proxy"}, {"ip": "fd00::9"},
         ]}}}, {"load_balancer_ips": ("192.0.2.9", "192.0.2.8")}),
        ({"externalIPs": ["192.0.2.9"],
          "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}},
         {"load_balancer_ips": ("192.0.2.9",), "external_ips": ()}),
    ],
)  # fmt: skip
def test_fields(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    found = only(**fields)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("ranges", "four", "six"),
    [
        ([], ((), False), ((), False)),
        (["10.1.2.3/8", " 10.0.0.0/8 "], (("10.0.0.0/8",), True), ((), True)),
        (["10.0.0.0/8", "fd00::/8"], (("10.0.0.0/8",), True), (("fd00::/8",), True)),
        (["10.0.0.0/8", "0.0.0.0/0"], ((), False), ((), False)),
        (["0.0.0.0/0", "fd00::/8"], ((), False), (("fd00::/8",), True)),
        (["nonsense"], ((), True), ((), True)),
    ],
)
def test_source_ranges(ranges: list[str], four: object, six: object) -> None:
    asked = asked_of(
        service(clusterIPs=["10.0.0.1", "fd00::1"], loadBalancerSourceRanges=ranges)
    ).portals
    for family, expected in ((V4, four), (V6, six)):
        assert (asked[family][0].source_ranges, asked[family][0].restricted) == expected


def test_both_families_and_several_ports() -> None:
    asked = asked_of(
        service(
            clusterIPs=["10.0.0.1", "fd00::1"],
            ports=[{"name": "a", "port": 80}, {"name": "b", "port": 53, "protocol": "UDP"},
                   {"name": "c", "port": 53, "protocol": "TCP"}],
        )
    ).portals  # fmt: skip
    assert [(each.name.port, each.cluster_ip) for each in asked[V6]] == [
        ("a", "fd00::1"), ("b", "fd00::1"), ("c", "fd00::1"),
    ]  # fmt: skip
    assert [each.name for each in asked[V4]] == [each.name for each in asked[V6]]


@pytest.mark.parametrize(
    ("fields", "problem", "left"),
    [
        ({"ports": [{"port": 0}, {"name": "b", "port": 81}]}, "is no port", 1),
        ({"ports": [{"port": 65536}]}, "65536 is no port", 0),
        ({"ports": [{"port": 80, "nodePort": -1}]}, "node port -1", 0),
        ({"ports": [{"port": 80, "protocol": "ICMP"}]}, "'ICMP' is not", 0),
        ({"ports": [{"port": 80}, {"port": 81}]}, "a second port of this name", 1),
        ({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]}, "is there twice", 1),
        ({"externalIPs": ["x"]}, "spec.externalIPs: 'x' is no IP address", 1),
        ({"externalIPs": ["0.0.0.0"]}, "means all addresses", 1),
        ({"clusterIPs": ["x"]}, "spec.clusterIPs: 'x'", 0),
        ({"loadBalancerSourceRanges": ["x"]}, "'x' is no CIDR", 1),
        ({"sessionAffinity": "x"}, "'x' is not known", 1),
        ({"sessionAffinity": "ClientIP",
          "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}}, "86401", 1),
        (LOCAL_HEALTH | {"healthCheckNodePort": 0}, "healthCheckNodePort: 0", 1),
    ],
)  # fmt: skip
def test_bad_input_is_told_and_the_rest_works(
    fields: dict[str, Any], problem: str, left: int
) -> None:
    asked = asked_of(service(**fields))
    assert len(asked.portals.get(V4, ())) == left
    assert len(asked.problems) == 1
    assert problem in asked.problems[0]


def test_external_addresses_can_be_refused() -> None:
    asked = asked_of(service(externalIPs=["192.0.2.1"]), external_ips=False)
    assert asked.portals[V4][0].external_ips == ()
    assert "refused" in asked.problems[0]
