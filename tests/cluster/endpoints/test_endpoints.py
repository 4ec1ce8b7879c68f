"""Slices and Endpoints of Services whose pods come and go, with an API server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.engine.resources import (
    ENDPOINTS,
    NODES,
    PODS,
    QUOTAS,
    SERVICES,
    SLICES,
    Object,
    Resource,
)
from tests.support.cluster import Cluster, cluster, pod_template

NAMES = ("endpointslice-controller", "endpoints-controller", "endpointslice-mirroring-controller")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


def service(name: str = "web", **spec: Any) -> Object:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    return {
        "metadata": {"name": name}, "spec": {"selector": {"app": "web"}, "ports": ports, **spec},
    }  # fmt: skip


async def make_pods(server: Cluster, first: int, count: int, **spec: Any) -> None:
    template = pod_template(app="web")
    for number in range(first, first + count):
        meta = {"name": f"web-{number}", **template["metadata"]}
        await server.create(
            PODS, {"metadata": meta, "spec": {**template["spec"], "nodeName": "n1", **spec}}
        )


def of_service(slices: list[Object], name: str = "web") -> list[Object]:
    return [
        one for one in slices
        if one["metadata"]["labels"].get("kubernetes.io/service-name") == name
    ]  # fmt: skip


def ready(slices: list[Object], name: str = "web") -> list[str]:
    return sorted(
        one["targetRef"]["name"]
        for each in of_service(slices, name) for one in each.get("endpoints") or ()
        if one["conditions"]["ready"]
    )  # fmt: skip


def addresses(slices: list[Object], name: str) -> list[str]:
    endpoints = [one for each in of_service(slices, name) for one in each.get("endpoints") or ()]
    return [address for one in endpoints for address in one["addresses"]]


def in_endpoints(found: list[Object], name: str = "web") -> int:
    return sum(
        len(subset.get("addresses") or ())
        for one in found if one["metadata"]["name"] == name for subset in one.get("subsets") or ()
    )  # fmt: skip


async def test_pods_become_endpoints_and_go_again(server: Cluster) -> None:
    await server.hollow("n1", labels={"topology.kubernetes.io/zone": "z1"})
    await server.start(*NAMES, max_endpoints_per_slice=4)
    await server.create(SERVICES, service(trafficDistribution="PreferClose"))
    await server.until(SLICES, lambda found: len(of_service(found)) == 1)
    await make_pods(server, 0, 10)
    slices = of_service(await server.until(SLICES, lambda found: len(ready(found)) == 10))
    assert sorted(len(one["endpoints"]) for one in slices) == [2, 4, 4]
    assert all(one["ports"][0]["port"] == 8080 for one in slices)
    endpoint = slices[0]["endpoints"][0]
    assert endpoint["zone"] == "z1"
    assert endpoint["hints"] == {"forZones": [{"name": "z1"}]}
    assert endpoint["nodeName"] == "n1"
    await server.until(ENDPOINTS, lambda found: in_endpoints(found) == 10)
    await server.client.delete(PODS.path("default", "web-3"))
    await server.until(SLICES, lambda found: len(ready(found)) == 9)
    await server.until(ENDPOINTS, lambda found: in_endpoints(found) == 9)
    # A label that goes is as good as a pod that goes.
    await server.client.patch(PODS.path("default", "web-4"), {"metadata": {"labels": {"app": "x"}}})
    await server.until(SLICES, lambda found: len(ready(found)) == 8)
    # The node moves to another zone.
    await server.client.patch(
        NODES.path(name="n1"), {"metadata": {"labels": {"topology.kubernetes.io/zone": "z2"}}}
    )
    await server.until(SLICES, lambda found: all(
        one["zone"] == "z2" and one["hints"] == {"forZones": [{"name": "z2"}]}
        for each in of_service(found) for one in each["endpoints"]
    ))  # fmt: skip
    await server.client.delete(SERVICES.path("default", "web"))
    await server.until(ENDPOINTS, lambda found: all(
        one["metadata"]["name"] != "web" for one in found))  # fmt: skip


async def test_one_endpoint_that_changes_is_one_write_of_each(server: Cluster) -> None:
    hollow = await server.hollow("n1")
    await server.start(*NAMES)
    await server.create(SERVICES, service())
    await make_pods(server, 0, 3)
    slices = of_service(await server.until(SLICES, lambda found: len(ready(found)) == 3))
    endpoints = await server.until(ENDPOINTS, lambda found: in_endpoints(found) == 3)
    writes: list[str] = []
    for resource in (SLICES, ENDPOINTS):
        informer = await server.watch(resource)
        informer.listen(
            lambda before, value, plural=resource.plural: writes.append(plural)  # type: ignore[misc]
        )
    writes.clear()
    one = await server.get(PODS, "web-1")
    conditions = [
        {**each, "status": "False", "lastTransitionTime": "2030-01-01T00:00:00Z"}
        if each["type"] == "Ready" else each for each in one["status"]["conditions"]
    ]  # fmt: skip
    await hollow.set_status(one, {"conditions": conditions})
    slices = of_service(await server.until(SLICES, lambda found: len(ready(found)) == 2))
    endpoints = await server.until(ENDPOINTS, lambda found: in_endpoints(found) == 2)
    # Nothing of this concerns an endpoint; when the last of it was looked at all else was.
    await server.client.patch(
        PODS.path("default", "web-2"), {"metadata": {"annotations": {"a": "b"}}}
    )
    await make_pods(server, 3, 1)
    await server.until(SLICES, lambda found: len(ready(found)) == 3)
    await server.until(ENDPOINTS, lambda found: in_endpoints(found) == 3)
    assert sorted(writes) == ["endpoints"] * 2 + ["endpointslices"] * 2
    name = "endpoints.kubernetes.io/last-change-trigger-time"
    assert slices[0]["metadata"]["annotations"][name] == "2030-01-01T00:00:00Z"
    mine = [one for one in endpoints if one["metadata"]["name"] == "web"]
    assert mine[0]["metadata"]["annotations"][name] == "2030-01-01T00:00:00Z"


async def test_endpoints_of_people_are_mirrored_until_pods_are_selected(server: Cluster) -> None:
    await server.start(*NAMES)
    await server.create(SERVICES, service("db", selector=None))
    subset = {"addresses": [{"ip": "192.0.2.1"}], "ports": [{"name": "http", "port": 80}]}
    await server.create(ENDPOINTS, {"metadata": {"name": "db"}, "subsets": [subset]})
    found = await server.until(SLICES, lambda found: len(of_service(found, "db")) == 1)
    mirrored = of_service(found, "db")[0]
    assert mirrored["endpoints"][0]["addresses"] == ["192.0.2.1"]
    subset["addresses"] = [{"ip": "192.0.2.2"}]
    await server.client.patch(ENDPOINTS.path("default", "db"), {"subsets": [subset]})
    await server.until(SLICES, lambda found: addresses(found, "db") == ["192.0.2.2"])
    # Somebody deletes it: it comes again.
    await server.client.delete(SLICES.path("default", mirrored["metadata"]["name"]))
    await server.until(SLICES, lambda found: len(of_service(found, "db")) == 1
                       and of_service(found, "db")[0]["metadata"]["uid"]
                       != mirrored["metadata"]["uid"])  # fmt: skip
    await server.client.patch(SERVICES.path("default", "db"), {"spec": {"selector": {"app": "db"}}})
    await server.until(SLICES, lambda found: [
        one["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"]
        for one in of_service(found, "db")] == ["endpointslice-controller.k8s.io"])  # fmt: skip


async def test_killed_at_any_point_it_ends_with_each_endpoint_once(server: Cluster) -> None:
    await server.hollow("n1")
    await server.create(SERVICES, service())
    dice = random.Random(7)
    for turn in range(6):
        host = await server.start(*NAMES, max_endpoints_per_slice=3)
        await make_pods(server, turn * 4, 4)
        if turn:
            await server.client.delete(PODS.path("default", f"web-{turn * 4 - 1}"))
        async with asyncio.timeout(10):
            for _ in range(dice.randrange(1, 30)):
                await asyncio.sleep(0)
        await server.stop(host)
    await server.start(*NAMES, max_endpoints_per_slice=3)
    wanted = sorted(f"web-{n}" for n in range(24) if n % 4 != 3 or n == 23)
    slices = of_service(await server.until(SLICES, lambda found: ready(found) == wanted))
    assert all(1 <= len(one["endpoints"]) <= 3 for one in slices)
    await server.until(ENDPOINTS, lambda found: in_endpoints(found) == len(wanted))


async def test_a_quota_of_slices_is_told_of_and_nothing_spins(server: Cluster) -> None:
    hard = {"count/endpointslices.discovery.k8s.io": "0"}
    await server.create(QUOTAS, {"metadata": {"name": "none"}, "spec": {"hard": hard}})
    host = await server.start(*NAMES)
    await server.create(SERVICES, service())

    events = Resource("v1", "events", "Event")
    found = await server.until(events, lambda found: any(
        one["reason"] == "FailedToUpdateEndpointSlices" for one in found))  # fmt: skip
    event = next(one for one in found if one["reason"] == "FailedToUpdateEndpointSlices")
    assert event["involvedObject"]["name"] == "web"
    assert "exceeded quota" in event["message"]
    queue = next(each for each in host.queues() if each.name == "endpointslice-controller")
    assert queue.counts.retried < 20
    await server.client.delete(QUOTAS.path("default", "none"))
    await server.until(SLICES, lambda found: len(of_service(found)) == 1)
