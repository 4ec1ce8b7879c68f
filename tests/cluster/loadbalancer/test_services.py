"""Services get addresses, each its own, and give them back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.controllers.loadbalancer.controller import FINALIZER
from controlplane.engine.resources import SERVICES, Object
from kubeletpy_common.apiclient.client import MERGE_PATCH
from tests.support.cluster import Cluster, cluster

NAME = "service-lb-controller"
POOL = "192.0.2.1-192.0.2.3"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


def balanced(name: str, **spec: Any) -> Object:
    return {"metadata": {"name": name},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], **spec}}  # fmt: skip


def given(services: list[Object]) -> dict[str, list[str]]:
    return {
        one["metadata"]["name"]: [
            each["ip"] for each in (one["status"].get("loadBalancer") or {}).get("ingress") or ()
        ]
        for one in services
        if one["metadata"]["name"] != "kubernetes"
    }


async def events(server: Cluster, name: str) -> set[str]:
    found = (await server.client.get("/api/v1/namespaces/default/events"))["items"]
    return {one["reason"] for one in found if one["involvedObject"]["name"] == name}


async def test_services_come_and_go(server: Cluster) -> None:
    host = await server.start(NAME, load_balancer_pool=POOL)
    for name in "abcd":
        await server.create(SERVICES, balanced(name))

    def three(found: list[Object]) -> bool:
        return sorted(map(len, given(found).values())) == [0, 1, 1, 1]

    found = given(await server.until(SERVICES, three))
    assert len({address for held in found.values() for address in held}) == 3
    late = next(name for name, held in found.items() if not held)
    async with asyncio.timeout(10):
        while "SyncLoadBalancerFailed" not in await events(server, late):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    # Killed and begun again: each keeps what it has.
    await server.stop(host)
    await server.start(NAME, load_balancer_pool=POOL)
    leaver, other = [name for name in found if name != late][:2]
    await server.client.delete(SERVICES.path("default", leaver))
    await server.client.patch(
        SERVICES.path("default", other), {"spec": {"type": "ClusterIP"}}, kind=MERGE_PATCH
    )
    # Nobody pokes the one that waits.

    def settled(services: list[Object]) -> bool:
        held = given(services)
        return leaver not in held and not held[other] and len(held[late]) == 1

    services = await server.until(SERVICES, settled)
    kept = next(name for name in found if name not in (late, leaver, other))
    assert given(services)[kept] == found[kept]
    finalizers = {
        one["metadata"]["name"]: one["metadata"].get("finalizers") for one in services
    }  # fmt: skip
    assert FINALIZER in finalizers[late]
    await server.until(SERVICES, lambda all_: not any(
        one["metadata"].get("finalizers") for one in all_ if one["metadata"]["name"] == other
    ))  # fmt: skip
    assert {"EnsuringLoadBalancer", "EnsuredLoadBalancer"} <= await events(server, kept)


async def test_an_address_that_two_have_stays_with_the_older_one(server: Cluster) -> None:
    for name in "ab":
        await server.create(SERVICES, balanced(name))
        await server.client.patch(
            SERVICES.path("default", name, "status"),
            {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.2", "ipMode": "VIP"}]}}},
            kind=MERGE_PATCH,
        )
    await server.start(NAME, load_balancer_pool=POOL)
    found = given(await server.until(
        SERVICES, lambda all_: len({str(held) for held in given(all_).values()}) == 2))  # fmt: skip
    assert found == {"a": ["192.0.2.2"], "b": ["192.0.2.1"]}


async def test_what_an_earlier_pool_gave_is_replaced_or_taken_back(server: Cluster) -> None:
    host = await server.start(NAME, load_balancer_pool=POOL)
    for name in "ab":
        await server.create(SERVICES, balanced(name))
    await server.until(SERVICES, lambda all_: all(map(len, given(all_).values())))
    await server.stop(host)
    await server.client.delete(SERVICES.path("default", "a"))
    await server.start(NAME, load_balancer_pool="198.51.100.0/29")
    await server.until(SERVICES, lambda all_: given(all_) == {"b": ["198.51.100.1"]})


async def test_killed_again_and_again_no_address_is_given_twice(server: Cluster) -> None:
    """And none is lost: there are as many as Services."""
    pool = "192.0.2.1-192.0.2.12,2001:db8::1-2001:db8::c"
    chance = random.Random(7)
    for number in range(6):
        await server.create(SERVICES, balanced(f"first{number}"))
    for round_ in range(5):
        host = await server.start(NAME, load_balancer_pool=pool)
        await server.create(SERVICES, balanced(f"more{round_}"))
        if round_ > 2:
            await server.client.delete(SERVICES.path("default", f"first{round_}"))
        await asyncio.sleep(chance.uniform(0, 0.05))  # killed at some point or other
        await server.stop(host)
    for number in range(3):
        await server.create(SERVICES, balanced(f"last{number}"))
    await server.start(NAME, load_balancer_pool=pool)

    def settled(services: list[Object]) -> bool:
        held = given(services)
        return len(held) == 12 and all(map(len, held.values()))

    held = [one for each in given(await server.until(SERVICES, settled)).values() for one in each]
    assert len(set(held)) == len(held)
