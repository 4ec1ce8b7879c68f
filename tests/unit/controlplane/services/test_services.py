"""Services over HTTP: what they get, keep and give back.

The facts are those of a Kubernetes 1.36 API server for the same requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from controlplane import services
from controlplane.kinds.strategies.core import CORE
from controlplane.options import Options, OptionsError
from controlplane.services.claims import ServiceClaims
from controlplane.services.pools import AddressPool, FullError, NotFreeError, PortPool
from tests.unit.controlplane.server.client import Api, running_api

PATH = "/api/v1/namespaces/default/services"
MERGE = "application/merge-patch+json"
PORTS = [{"port": 80}]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path, strategies=CORE) as made:
        pools = [AddressPool(ip_network("10.9.0.0/24")), AddressPool(ip_network("fd00:9::/112"))]
        claims = ServiceClaims(pools, PortPool(31000, 31003))
        made.plane.registry.claims[services.SERVICES] = claims
        yield made


def claims_of(api: Api) -> ServiceClaims:
    claims = api.plane.registry.claims[services.SERVICES]
    assert isinstance(claims, ServiceClaims)
    return claims


def used(api: Api) -> tuple[int, int, int]:
    """Return how many addresses of each family and ports are taken."""
    claims = claims_of(api)
    first, second = (len(pool.used) for pool in claims._pools.values())
    return first, second, len(claims._ports.used)


async def make(api: Api, name: str, **spec: Any) -> tuple[int, Any]:
    return await api.call("POST", PATH, {"metadata": {"name": name}, "spec": spec})


async def patch(api: Api, name: str, **spec: Any) -> tuple[int, Any]:
    return await api.call("PATCH", f"{PATH}/{name}", {"spec": spec}, kind=MERGE)


async def test_defaults(api: Api) -> None:
    status, value = await make(api, "a", ports=PORTS)
    assert status == 201, value
    spec = value["spec"]
    (address,) = spec.pop("clusterIPs")
    assert spec.pop("clusterIP") == address
    assert address.startswith("10.9.0.")
    assert spec == {
        "type": "ClusterIP",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "sessionAffinity": "None",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "internalTrafficPolicy": "Cluster",
    }
    assert value["status"] == {"loadBalancer": {}}
    assert "generation" not in value["metadata"]


FAMILIES: list[tuple[dict[str, Any], list[str] | None, str | None, int]] = [
    ({}, ["IPv4"], "SingleStack", 1),
    ({"ipFamilies": ["IPv6"]}, ["IPv6"], "SingleStack", 1),
    ({"ipFamilyPolicy": "PreferDualStack"}, ["IPv4", "IPv6"], "PreferDualStack", 2),
    (
        {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]},
        ["IPv6", "IPv4"],
        "RequireDualStack",
        2,
    ),
    ({"clusterIP": "fd00:9::77"}, ["IPv6"], "SingleStack", 1),
    ({"clusterIP": "None"}, ["IPv4", "IPv6"], "RequireDualStack", 1),
    ({"clusterIP": "None", "selector": {"a": "b"}}, ["IPv4"], "SingleStack", 1),
    ({"type": "ExternalName", "externalName": "a.example"}, None, None, 0),
]


async def test_families(api: Api) -> None:
    for number, (spec, families, policy, addresses) in enumerate(FAMILIES):
        status, value = await make(api, f"a{number}", ports=PORTS, **spec)
        assert status == 201, value
        found = value["spec"]
        assert (found.get("ipFamilies"), found.get("ipFamilyPolicy")) == (families, policy)
        assert len(found.get("clusterIPs", [])) == addresses


REFUSED: list[tuple[dict[str, Any], str, str, str]] = [
        ({"clusterIP": "10.9.0.9"}, "spec.clusterIPs", "Invalid", "already allocated"),
        ({"clusterIP": "10.8.0.9"}, "spec.clusterIPs", "Invalid", "10.8.0.9"),
        ({"clusterIP": "x"}, "spec.clusterIPs[0]", "Invalid", "valid IP address"),
        ({"type": "NodePort", "clusterIP": "None"}, "spec.clusterIPs[0]", "Invalid", "NodePort"),
        (
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 31001}]},
            "spec.ports[0].nodePort", "Invalid", "provided port is already allocated",
        ),
        (
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 1}]},
            "spec.ports[0].nodePort", "Invalid", "The range of valid ports is 31000-31003",
        ),
        ({"ports": [{"port": 80, "nodePort": 31000}]}, "spec.ports[0].nodePort", "Forbidden", ""),
        ({"ports": []}, "spec.ports", "Required", ""),
        ({"ports": [{"port": 0}]}, "spec.ports[0].port", "Invalid", "between 1 and 65535"),
        (
        {"ports": [{"port": 80}, {"port": 81, "name": "a"}]},
        "spec.ports[0].name", "Required", "",
    ),
        ({"type": "Other"}, "spec.type", "NotSupported", "NodePort"),
        ({"type": "ExternalName"}, "spec.externalName", "Required", ""),
        ({"sessionAffinity": "X"}, "spec.sessionAffinity", "NotSupported", ""),
        ({"ipFamilies": ["IPv5"]}, "spec.ipFamilies[0]", "NotSupported", ""),
        ({"externalIPs": ["127.0.0.1"]}, "spec.externalIPs[0]", "Invalid", "loopback"),
        ({"externalTrafficPolicy": "Local"}, "spec.externalTrafficPolicy", "Invalid", ""),
        ({"loadBalancerClass": "a/b"}, "spec.loadBalancerClass", "Forbidden", ""),
        (
            {"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4", "IPv6"]},
            "spec.ipFamilyPolicy", "Invalid", "multiple IP families",
        ),
]  # fmt: skip


async def test_what_is_refused(api: Api) -> None:
    first = {"clusterIP": "10.9.0.9", "type": "NodePort"}
    status, _ = await make(api, "first", **first, ports=[{"port": 80, "nodePort": 31001}])
    assert status == 201
    before = used(api)
    for spec, field, reason, words in REFUSED:
        status, error = await make(api, "a", **{"ports": PORTS, **spec})
        assert status == 422, error
        causes = {(c["field"], c["reason"]): c["message"] for c in error["details"]["causes"]}
        assert words in causes[field, f"FieldValue{reason}"]
        assert used(api) == before


async def test_types_come_and_go(api: Api) -> None:
    assert (await make(api, "a", ports=PORTS))[0] == 201
    assert used(api) == (1, 0, 0)
    _, value = await patch(api, "a", type="NodePort")
    number = value["spec"]["ports"][0]["nodePort"]
    assert 31000 <= number <= 31003
    assert value["spec"]["externalTrafficPolicy"] == "Cluster"
    _, value = await patch(api, "a", type="LoadBalancer", externalTrafficPolicy="Local")
    assert value["spec"]["ports"][0]["nodePort"] == number
    assert value["spec"]["healthCheckNodePort"] != number
    assert used(api) == (1, 0, 2)
    _, value = await patch(api, "a", type="ClusterIP")
    assert "nodePort" not in value["spec"]["ports"][0]
    assert {"externalTrafficPolicy", "healthCheckNodePort"}.isdisjoint(value["spec"])
    assert used(api) == (1, 0, 0)
    _, value = await patch(api, "a", ipFamilyPolicy="PreferDualStack")
    assert len(value["spec"]["clusterIPs"]) == 2
    assert used(api) == (1, 1, 0)
    _, value = await patch(api, "a", ipFamilyPolicy="SingleStack")
    assert len(value["spec"]["clusterIPs"]) == 1
    assert used(api) == (1, 0, 0)
    _, value = await patch(api, "a", type="ExternalName", externalName="x.example")
    assert {"clusterIP", "clusterIPs", "ipFamilies"}.isdisjoint(value["spec"])
    assert used(api) == (0, 0, 0)
    status, error = await patch(api, "a", type="NodePort", clusterIP="None")
    assert (status, used(api)) == (422, (0, 0, 0)), error
    assert (await patch(api, "a", type="NodePort"))[0] == 200
    assert used(api) == (1, 0, 1)
    assert (await api.call("DELETE", f"{PATH}/a"))[0] == 200
    assert used(api) == (0, 0, 0)


async def test_an_update_keeps_what_it_does_not_tell(api: Api) -> None:
    _, made = await make(api, "a", type="NodePort", ports=PORTS)
    bare = {"metadata": {"name": "a"}, "spec": {"type": "NodePort", "ports": PORTS}}
    status, value = await api.call("PUT", f"{PATH}/a", bare)
    assert (status, value["spec"]) == (200, made["spec"])
    status, error = await patch(api, "a", clusterIP="10.9.0.200", clusterIPs=["10.9.0.200"])
    assert (status, error["details"]["causes"][0]["field"]) == (422, "spec.clusterIPs[0]")
    assert used(api) == (1, 0, 1)


async def test_dry_runs_take_nothing(api: Api) -> None:
    body = {"metadata": {"name": "a"}, "spec": {"type": "NodePort", "ports": PORTS}}
    status, value = await api.call("POST", f"{PATH}?dryRun=All", body)
    assert (status, bool(value["spec"]["clusterIP"])) == (201, True)
    assert used(api) == (0, 0, 0)


async def test_one_port_of_two_protocols(api: Api) -> None:
    ports = [{"name": p.lower(), "port": 53, "protocol": p} for p in ("TCP", "UDP")]
    _, value = await make(api, "a", type="NodePort", ports=ports)
    assert len({port["nodePort"] for port in value["spec"]["ports"]}) == 1
    assert used(api) == (1, 0, 1)


async def test_nobody_gets_what_another_one_has(api: Api) -> None:
    made = await asyncio.gather(
        *(make(api, f"a{n}", type="NodePort", ports=PORTS) for n in range(8))
    )
    ports = [v["spec"]["ports"][0]["nodePort"] for status, v in made if status == 201]
    assert (len(ports), len(set(ports))) == (4, 4), "as many as there are ports"
    refused = [v["message"] for status, v in made if status != 201]
    assert all("range is full" in text for text in refused)
    assert used(api) == (4, 0, 4)


async def test_what_is_stored_is_taken_again(api: Api) -> None:
    await make(api, "a", type="NodePort", ports=PORTS, ipFamilyPolicy="PreferDualStack")
    again = ServiceClaims(
        [AddressPool(ip_network("10.9.0.0/24")), AddressPool(ip_network("fd00:9::/112"))],
        PortPool(31000, 31003),
    )
    again.load(api.store.read(services.SERVICES).items)
    claims = claims_of(api)
    assert [p.used for p in again._pools.values()] == [p.used for p in claims._pools.values()]
    assert again._ports.used == claims._ports.used


@pytest.mark.parametrize(
    ("network", "first", "last", "static"),
    [
        ("10.0.0.0/16", "10.0.0.1", "10.0.255.254", 256),
        ("10.0.0.0/24", "10.0.0.1", "10.0.0.254", 16),
        ("10.0.0.0/28", "10.0.0.1", "10.0.0.14", 0),
        ("fd00::/112", "fd00::1", "fd00::ffff", 256),
    ],
)
def test_the_lower_part_of_a_range_is_left_to_those_who_ask(
    network: str, first: str, last: str, static: int
) -> None:
    pool = AddressPool(ip_network(network))
    assert (str(pool.address(pool.first)), str(pool.address(pool.last))) == (first, last)
    assert pool.static == static
    assert pool.next_free() >= pool.first + static


def test_a_pool_gives_each_number_once() -> None:
    pool = PortPool(30000, 30099)
    given = []
    for _ in range(100):
        number = pool.next_free()
        pool.used.add(number)
        given.append(number)
    assert sorted(given) == list(range(30000, 30100))
    assert all(number >= 30016 for number in given[:84]), "the lower part comes last"
    with pytest.raises(FullError, match="range is full"):
        pool.next_free()
    with pytest.raises(NotFreeError, match="provided port is already allocated"):
        pool.check(30000)


async def test_the_service_of_the_server_itself(tmp_path: Path) -> None:
    parts = [services.install]
    async with running_api(tmp_path, strategies=CORE, parts=parts) as api:
        _, cidr = await api.call("GET", "/apis/networking.k8s.io/v1/servicecidrs/kubernetes")
        assert cidr["spec"]["cidrs"] == list(api.plane.options.service_ranges)
        _, value = await api.call("GET", f"{PATH}/kubernetes")
        assert value["spec"]["clusterIP"] == "10.96.0.1"
        assert value["spec"]["ports"][0]["name"] == "https"
        assert value["metadata"]["labels"] == {"component": "apiserver", "provider": "kubernetes"}
        status, error = await make(api, "a", clusterIP="10.96.0.1", ports=PORTS)
        assert (status, "already allocated" in error["message"]) == (422, True)
        await patch(api, "kubernetes", ports=[{"port": 1}])
        for start in api.plane.starters:
            await start()
        _, again = await api.call("GET", f"{PATH}/kubernetes")
        assert again["spec"] == value["spec"]


@pytest.mark.parametrize(
    ("ranges", "ports", "words"),
    [
        (("10.0.0.0/8", "10.1.0.0/16"), (1, 2), "one of each family"),
        (("10.0.0.1/8",), (1, 2), "host bits"),
        (("10.0.0.0/31",), (1, 2), "no room"),
        (("10.0.0.0/16",), (5, 4), "no range of ports"),
    ],
)
def test_ranges_that_cannot_be(ranges: tuple[str, ...], ports: tuple[int, int], words: str) -> None:
    with pytest.raises(OptionsError, match=words):
        services.address_pools(Options(service_ranges=ranges, node_ports=ports))
