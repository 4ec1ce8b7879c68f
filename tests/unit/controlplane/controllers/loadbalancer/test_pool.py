"""Which address a Service gets."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from controlplane.controllers.loadbalancer.pool import (
    WANTED,
    Pool,
    PoolError,
    choose,
    is_served,
)

POOL = Pool.parse("192.0.2.0/30, 198.51.100.7-198.51.100.8, 2001:db8::/126")


def service(*held: str, families: tuple[str, ...] = ("IPv4",), **spec: Any) -> dict[str, Any]:
    annotations = spec.pop("annotations", {})
    return {
        "metadata": {"name": "s", "namespace": "x", "annotations": annotations},
        "spec": {"type": "LoadBalancer", "ipFamilies": list(families), **spec},
        "status": {"loadBalancer": {"ingress": [{"ip": one} for one in held]}},
    }


def chosen(one: dict[str, Any], *taken: str) -> list[str]:
    others = {ipaddress.ip_address(address): "x/other" for address in taken}
    return [str(address) for address in choose(one, POOL, others)]


BOTH = ("IPv6", "IPv4")


@pytest.mark.parametrize(
    ("one", "taken", "expected"),
    [
        (service(), (), ["192.0.2.1"]),
        (service(), ("192.0.2.1", "192.0.2.2"), ["198.51.100.7"]),
        (service("192.0.2.2"), (), ["192.0.2.2"]),
        (service("192.0.2.2"), ("192.0.2.2",), ["192.0.2.1"]),
        (service("203.0.113.1"), (), ["192.0.2.1"]),
        (service("no address"), (), ["192.0.2.1"]),
        (service(families=BOTH), (), ["2001:db8::", "192.0.2.1"]),
        (service(loadBalancerIP="198.51.100.8"), (), ["198.51.100.8"]),
        (service("192.0.2.1", loadBalancerIP="198.51.100.8"), (), ["198.51.100.8"]),
        (service(families=BOTH, annotations={WANTED: "192.0.2.2,2001:db8::1"}), (),
         ["2001:db8::1", "192.0.2.2"]),
    ],
)  # fmt: skip
def test_addresses(one: dict[str, Any], taken: tuple[str, ...], expected: list[str]) -> None:
    assert chosen(one, *taken) == expected


@pytest.mark.parametrize(
    ("one", "taken", "message"),
    [
        (service(), ("192.0.2.1", "192.0.2.2", "198.51.100.7", "198.51.100.8"), "is free"),
        (service(loadBalancerIP="192.0.2.0"), (), "not in the load balancer pool"),
        (service(loadBalancerIP="192.0.2.1"), ("192.0.2.1",), "is that of Service x/other"),
        (service(loadBalancerIP="1.2.3"), (), "asked for is none"),
    ],
)
def test_what_cannot_be_given(one: dict[str, Any], taken: tuple[str, ...], message: str) -> None:
    with pytest.raises(PoolError, match=message):
        chosen(one, *taken)


@pytest.mark.parametrize("text", ["x", "192.0.2.1/24", "192.0.2.9-192.0.2.1", "::1-1.2.3.4"])
def test_what_is_no_pool(text: str) -> None:
    with pytest.raises(PoolError):
        Pool.parse(text)


@pytest.mark.parametrize(
    ("spec", "served"),
    [
        ({"type": "LoadBalancer"}, True),
        ({"type": "LoadBalancer", "loadBalancerClass": "kubeletpy.io/pool"}, True),
        ({"type": "LoadBalancer", "loadBalancerClass": "other"}, False),
        ({"type": "NodePort"}, False),
    ],
)
def test_who_is_served(spec: dict[str, Any], served: bool) -> None:
    assert is_served({"metadata": {}, "spec": spec}) is served
