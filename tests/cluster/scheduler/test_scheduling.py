"""The scheduler against an API server, nodes without machines."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controlplane.engine.resources import (
    CLAIMS,
    NODES,
    PODS,
    PRIORITY_CLASSES,
    VOLUMES,
    Object,
    Resource,
)
from controlplane.scheduler.configuration import Configuration, ProfileSettings
from controlplane.scheduler.scheduler import Scheduler
from controlplane.scheduler.storage import BIND_COMPLETED, SELECTED_NODE
from kubeletpy_common.apiclient.client import MERGE_PATCH
from kubeletpy_common.apiclient.errors import ApiError
from tests.support.cluster import Cluster, cluster
from tests.support.placing.objects import SMALL, claim, pod, storage_class, uses, volume

EVENTS = Resource("v1", "events", "Event")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


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
        await server.create(PODS, pod(f"p{index}", cpu="1"))
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
    await server.create(PODS, pod("large", cpu="100"))

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


async def events(server: Cluster, reason: str, count: int = 1) -> list[Object]:
    """Wait for events of a reason."""

    def of(found: list[Object]) -> list[Object]:
        return [one for one in found if one["reason"] == reason]

    return of(await server.until(EVENTS, lambda found: len(of(found)) >= count))


async def test_events_tell_where_a_pod_went_and_by_whom(server: Cluster) -> None:
    await server.hollow("a")
    settings = Configuration(
        profiles=[ProfileSettings(scheduler_name="mine"), ProfileSettings(scheduler_name="other")]
    )
    await server.start_parts([Scheduler], scheduler_configuration=settings)
    await server.create(PODS, pod("p", schedulerName="mine"))
    await server.create(PODS, pod("foreign"))
    [event] = await events(server, "Scheduled")
    assert event["message"] == "Successfully assigned default/p to a"
    assert event["source"]["component"] == "mine"
    assert "nodeName" not in (await server.get(PODS, "foreign"))["spec"]


async def test_an_important_pod_gets_the_room_of_another(server: Cluster) -> None:
    await server.hollow("a", capacity=SMALL)
    await server.create(PRIORITY_CLASSES, {"metadata": {"name": "urgent"}, "value": 1000})
    await server.start_parts([Scheduler])
    await server.create(PODS, pod("low", cpu="800m"))
    await scheduled(server, 1)
    await server.create(PODS, pod("high", cpu="800m", priorityClassName="urgent"))
    found = await server.until(
        PODS, lambda pods: [one["spec"].get("nodeName") for one in pods] == ["a"]
    )
    [high] = found
    assert high["metadata"]["name"] == "high"
    [event] = await events(server, "Preempted")
    assert event["involvedObject"]["name"] == "low"
    assert event["message"] == f"Preempted by pod {high['metadata']['uid']} on node a"
    assert "nominatedNodeName" not in high["status"]


async def test_gates_hold_a_pod_back(server: Cluster) -> None:
    await server.hollow("a")
    await server.start_parts([Scheduler])
    made = await server.create(PODS, pod("gated", schedulingGates=[{"name": "example.test/x"}]))
    [condition] = made["status"]["conditions"]
    assert condition["reason"] == "SchedulingGated"
    await server.create(PODS, pod("free"))
    assert await scheduled(server, 1) == {"free": "a"}
    gates = {"spec": {"schedulingGates": None}}
    await server.client.patch(PODS.path_of(made), gates, kind=MERGE_PATCH)
    assert (await scheduled(server, 2))["gated"] == "a"


async def bind_claim(server: Cluster, name: str, volume_name: str) -> None:
    """Complete the binding of a claim, as its controller does."""
    changes = {
        "metadata": {"annotations": {BIND_COMPLETED: "yes"}},
        "spec": {"volumeName": volume_name},
    }
    await server.client.patch(CLAIMS.path("default", name), changes, kind=MERGE_PATCH)


async def test_a_volume_is_made_for_the_node_before_the_pod_goes_there(server: Cluster) -> None:
    await server.hollow("a", capacity=SMALL)
    await server.hollow("b")
    await server.start_parts([Scheduler])
    for resource, value in (storage_class("fast"), claim("data", "fast")):
        await server.create(resource, value)
    await server.create(PODS, pod("p", cpu="4", volumes=uses("data")))

    def chosen(found: list[Object]) -> bool:
        return any(SELECTED_NODE in (one["metadata"].get("annotations") or {}) for one in found)

    [found] = await server.until(CLAIMS, chosen)
    assert found["metadata"]["annotations"][SELECTED_NODE] == "b"
    assert "nodeName" not in (await server.get(PODS, "p"))["spec"]
    resource, value = volume("v", "fast", of="data", nodes=("b",))
    value["spec"]["claimRef"]["uid"] = found["metadata"]["uid"]
    await server.create(resource, value)
    await bind_claim(server, "data", "v")
    assert await scheduled(server, 1) == {"p": "b"}


async def test_a_volume_that_cannot_be_made_is_told_and_tried_elsewhere(server: Cluster) -> None:
    await server.hollow("a")
    await server.start_parts([Scheduler])
    for resource, value in (storage_class("fast"), claim("data", "fast")):
        await server.create(resource, value)
    await server.create(PODS, pod("p", volumes=uses("data")))

    def chosen(found: list[Object]) -> bool:
        return any(SELECTED_NODE in (one["metadata"].get("annotations") or {}) for one in found)

    await server.until(CLAIMS, chosen)
    await server.hollow("b")
    cordoned = {"spec": {"unschedulable": True}}
    await server.client.patch(NODES.path(name="a"), cordoned, kind=MERGE_PATCH)
    # A provisioner that has no room there takes the choice back.
    unchosen = {"metadata": {"annotations": {SELECTED_NODE: None}}}
    await server.client.patch(CLAIMS.path("default", "data"), unchosen, kind=MERGE_PATCH)
    [event] = await events(server, "FailedScheduling")
    why = 'binding volumes: provisioning failed for PVC "data"'
    assert event["message"] == f'running PreBind plugin "VolumeBinding": {why}'

    def elsewhere(found: list[Object]) -> bool:
        annotations = found[0]["metadata"].get("annotations") or {}
        return annotations.get(SELECTED_NODE) == "b"

    await server.until(CLAIMS, elsewhere)


async def test_a_volume_that_is_there_is_taken_and_only_once(server: Cluster) -> None:
    await server.hollow("a", "b")
    await server.start_parts([Scheduler])
    manual = storage_class("manual", provisioner="kubernetes.io/no-provisioner")
    for resource, value in (manual, claim("one", "manual"), claim("two", "manual")):
        await server.create(resource, value)
    resource, value = volume("v", "manual", nodes=("b",))
    made = await server.create(resource, value)
    await server.client.patch(
        VOLUMES.path_of(made, "status"), {"status": {"phase": "Available"}}, kind=MERGE_PATCH
    )
    for name in ("one", "two"):
        await server.create(PODS, pod(name, volumes=uses(name)))
    [found] = await server.until(VOLUMES, lambda found: "claimRef" in found[0]["spec"])
    winner = found["spec"]["claimRef"]["name"]
    await bind_claim(server, winner, "v")
    assert await scheduled(server, 1) == {winner: "b"}
    loser = {"one": "two", "two": "one"}[winner]
    [event] = [
        one for one in await events(server, "FailedScheduling")
        if one["involvedObject"]["name"] == loser
    ]  # fmt: skip
    assert "node(s) didn't find available persistent volumes to bind" in event["message"]


async def test_wherever_it_is_killed_each_pod_gets_one_node(server: Cluster) -> None:
    await server.hollow("a", "b", "c")
    nodes: dict[str, set[str]] = {}
    pods = await server.watch(PODS)

    def note(before: Object | None, after: Object | None) -> None:
        if after is not None and after["spec"].get("nodeName"):
            nodes.setdefault(after["metadata"]["name"], set()).add(after["spec"]["nodeName"])

    pods.listen(note)
    chance = random.Random(7)
    for turn in range(3):
        host = await server.start_parts([Scheduler])
        for index in range(8):
            await server.create(PODS, pod(f"p{turn}-{index}", cpu="100m"))
        for _ in range(chance.randrange(1, 40)):
            await asyncio.sleep(0)
        await server.stop(host)
    await server.start_parts([Scheduler])
    assert len(await scheduled(server, 24)) == 24
    assert all(len(found) == 1 for found in nodes.values())


async def test_two_schedulers_at_once_bind_each_pod_once(server: Cluster) -> None:
    await server.hollow("a", "b")
    for _ in range(2):
        await server.start_parts([Scheduler])
    for index in range(10):
        await server.create(PODS, pod(f"p{index}", cpu="100m"))
    assert len(await scheduled(server, 10)) == 10
    # Who came late was refused, and that is nothing to tell of.
    for event in await server.listed(EVENTS):
        assert event["reason"] in ("Scheduled",), event["message"]


async def test_a_refused_binding_is_told_and_tried_again_later(
    server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await server.hollow("a")
    create, times = server.client.create, list[float]()

    async def refuse(path: str, body: object, **more: object) -> Object:
        if path.endswith("/binding"):
            times.append(asyncio.get_running_loop().time())
        if len(times) == 1 and path.endswith("/binding"):
            raise ApiError(403, "Forbidden", "bindings are not for you")
        return await create(path, body, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(server.client, "create", refuse)
    await server.start_parts([Scheduler])
    await server.create(PODS, pod("p"))
    assert await scheduled(server, 1) == {"p": "a"}
    assert times[1] - times[0] >= 1.0
    [event, *_] = await events(server, "FailedScheduling")
    assert "bindings are not for you" in event["message"]


async def test_a_binding_without_an_answer_is_looked_up(
    server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await server.hollow("a")
    create, lost = server.client.create, list[str]()

    async def lose(path: str, body: object, **more: object) -> Object:
        answer = await create(path, body, **more)  # type: ignore[arg-type]
        if path.endswith("/binding"):
            lost.append(path)
            raise ApiError(0, "Timeout", "no answer")
        return answer

    monkeypatch.setattr(server.client, "create", lose)
    await server.start_parts([Scheduler])
    await server.create(PODS, pod("p"))
    assert await scheduled(server, 1) == {"p": "a"}
    await events(server, "Scheduled")
    assert len(lost) == 1


async def test_pods_that_fit_nowhere_cost_few_requests(server: Cluster) -> None:
    await server.hollow("a")
    calls: list[str] = []
    server.client.on_answer.append(lambda method, status: calls.append(method))
    await server.start_parts([Scheduler])
    for index in range(20):
        await server.create(PODS, pod(f"p{index}", cpu="100"))

    def told(found: list[Object]) -> bool:
        return sum(bool(one.get("status", {}).get("conditions")) for one in found) == 20

    await server.until(PODS, told)
    await events(server, "FailedScheduling", 20)
    calls.clear()
    # What changes nothing for them wakes none of them.
    for index in range(5):
        await server.create(PODS, pod(f"small{index}"))
    await scheduled(server, 5)
    await events(server, "Scheduled", 5)
    assert calls.count("PATCH") <= 10
