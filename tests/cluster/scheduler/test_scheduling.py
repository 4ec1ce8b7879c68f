"""The scheduler against an API server, nodes without machines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.engine.resources import PODS, Object
from controlplane.scheduler.scheduler import Scheduler
from tests.support.cluster import Cluster, cluster


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


def pod(name: str, cpu: str = "", **spec: Any) -> Object:
    container: Object = {"name": "main", "image": "example.test/app:1"}
    if cpu:
        container["resources"] = {"requests": {"cpu": cpu}}
    return {"metadata": {"name": name}, "spec": {"containers": [container], **spec}}


async def scheduled(server: Cluster, count: int) -> dict[str, str]:
    """Wait until so many pods have nodes; return them by pod."""

    def nodes(found: list[Object]) -> dict[str, str]:
        return {
            one["metadata"]["name"]: one["spec"]["nodeName"]
            for one in found if one["spec"].get("nodeName")
        }  # fmt: skip

    return nodes(await server.until(PODS, lambda found: len(nodes(found)) == count))


async def test_pods_are_given_to_nodes(server: Cluster) -> None:
    await server.hollow("a", "b")
    await server.hollow("tainted", taints=[{"key": "x", "effect": "NoSchedule"}])
    await server.start_parts([Scheduler])
    for index in range(4):
        await server.create(PODS, pod(f"p{index}", "1"))
    await server.create(PODS, pod("picky", nodeSelector={"kubernetes.io/hostname": "b"}))
    found = await scheduled(server, 5)
    assert found.pop("picky") == "b"
    assert sorted(found.values()) == ["a", "a", "b", "b"]


async def test_a_pod_that_fits_nowhere_is_told_why_and_goes_when_there_is_room(
    server: Cluster,
) -> None:
    hollow = await server.hollow("a")
    await server.hollow("tainted", taints=[{"key": "x", "effect": "NoSchedule"}])
    await server.start_parts([Scheduler])
    await server.create(PODS, pod("large", "100"))

    def told(found: list[Object]) -> bool:
        conditions = found[0].get("status", {}).get("conditions", []) if found else []
        return any(one["type"] == "PodScheduled" for one in conditions)

    [large] = await server.until(PODS, told)
    [condition] = large["status"]["conditions"]
    assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
    assert condition["message"].startswith(
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s)."
    )
    await hollow.make("bigger", capacity={"cpu": "200", "memory": "16Gi", "pods": "110"})
    assert await scheduled(server, 1) == {"large": "bigger"}
