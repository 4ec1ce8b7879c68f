from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kubeletpy.variables.services import Service, Services, seen_by, service_of, variables


def service(
    name: str, address: str = "10.0.0.1", *ports: dict[str, Any], namespace: str = "default"
) -> dict[str, Any]:
    return {
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"clusterIP": address, "ports": list(ports) or [{"port": 80}]},
    }


def kept(found: dict[str, Any]) -> Service:
    result = service_of(found)
    assert result is not None
    return result


def test_variables_of_a_service() -> None:
    found = service(
        "redis-primary",
        "10.0.0.11",
        {"port": 6379, "name": "main"},
        {"port": 53, "name": "dns-udp", "protocol": "UDP"},
    )
    assert variables([kept(found)]) == {
        "REDIS_PRIMARY_SERVICE_HOST": "10.0.0.11",
        "REDIS_PRIMARY_SERVICE_PORT": "6379",
        "REDIS_PRIMARY_SERVICE_PORT_MAIN": "6379",
        "REDIS_PRIMARY_SERVICE_PORT_DNS_UDP": "53",
        "REDIS_PRIMARY_PORT": "tcp://10.0.0.11:6379",
        "REDIS_PRIMARY_PORT_6379_TCP": "tcp://10.0.0.11:6379",
        "REDIS_PRIMARY_PORT_6379_TCP_PROTO": "tcp",
        "REDIS_PRIMARY_PORT_6379_TCP_PORT": "6379",
        "REDIS_PRIMARY_PORT_6379_TCP_ADDR": "10.0.0.11",
        "REDIS_PRIMARY_PORT_53_UDP": "udp://10.0.0.11:53",
        "REDIS_PRIMARY_PORT_53_UDP_PROTO": "udp",
        "REDIS_PRIMARY_PORT_53_UDP_PORT": "53",
        "REDIS_PRIMARY_PORT_53_UDP_ADDR": "10.0.0.11",
    }


def test_ipv6() -> None:
    found = variables([kept(service("a", "fd00::1"))])
    assert found["A_PORT"] == "tcp://[fd00::1]:80"
    assert found["A_PORT_80_TCP_ADDR"] == "fd00::1"


@pytest.mark.parametrize("address", ["", "None", None])
def test_without_an_address(address: Any) -> None:
    assert service_of(service("a", address)) is None


@pytest.mark.parametrize(
    ("namespace", "links", "names"),
    [
        ("team", True, [("team", "a"), ("default", "kubernetes")]),
        ("team", False, [("default", "kubernetes")]),
        ("default", True, [("default", "kubernetes"), ("default", "web")]),
    ],
)
def test_what_a_pod_sees(namespace: str, links: bool, names: list[tuple[str, str]]) -> None:
    every = [
        kept(service("kubernetes")),
        kept(service("web")),
        kept(service("a", namespace="team")),
    ]
    found = seen_by(every, namespace, links=links)
    assert [(one.namespace, one.name) for one in found] == names


def test_without_an_api_server_there_are_none() -> None:
    assert asyncio.run(Services(None).variables("default", links=True)) == {}
