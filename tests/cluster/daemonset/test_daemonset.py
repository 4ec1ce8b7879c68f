"""DaemonSets against an API server, their pods on nodes without machines."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from controlplane.controllers.daemonset.fitting import node_of
from controlplane.engine.ownership import controller_of
from controlplane.engine.resources import (
    DAEMON_SETS,
    NODES,
    PODS,
    QUOTAS,
    REVISIONS,
    Object,
    Resource,
    is_deleting,
)
from kubeletpy_common.apiclient.client import MERGE_PATCH
from tests.support.binder import Binder
from tests.support.cluster import Cluster, cluster, pod_template
from tests.support.hollow import ended, running

NAME = "daemonset-controller"
EVENTS = Resource("v1", "events", "Event")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        made.tasks.create_task(Binder(made.client).run())
        yield made


def log(**spec: Any) -> Object:
    return {
        "metadata": {"name": "log"},
        "spec": {
            "template": pod_template(app="log"), "selector": {"matchLabels": {"app": "log"}}, **spec
        },
    }  # fmt: skip


def done(count: int) -> Callable[[list[Object]], bool]:
    """Return a check that the only set is settled, on so many nodes."""

    def check(found: list[Object]) -> bool:
        if not found:
            return False
        status = found[0].get("status") or {}
        of_nodes = ("desiredNumberScheduled", "currentNumberScheduled", "updatedNumberScheduled",
                    "numberAvailable")  # fmt: skip
        seen = status.get("observedGeneration") == found[0]["metadata"]["generation"]
        return seen and all(status.get(name, 0) == count for name in of_nodes)

    return check


async def change(server: Cluster, **spec: Any) -> Object:
    return await server.client.patch(
        DAEMON_SETS.path("default", "log"), {"spec": spec}, kind=MERGE_PATCH
    )


def image(name: str) -> Object:
    return {"spec": {"containers": [{"name": "main", "image": name}]}}


def nodes_of(pods: list[Object]) -> list[str]:
    return sorted(pod["spec"].get("nodeName", "") for pod in pods if not is_deleting(pod))


async def test_a_pod_on_each_node_that_fits(server: Cluster) -> None:
    await server.hollow("a", "b")
    await server.hollow("c", taints=[{"key": "x", "effect": "NoSchedule"}])
    await server.start(NAME)
    await server.create(DAEMON_SETS, log())
    await server.until(DAEMON_SETS, done(2))
    await server.client.patch(
        NODES.path(name="c"), {"spec": {"taints": [], "unschedulable": True}}, kind=MERGE_PATCH
    )
    await server.until(DAEMON_SETS, done(3))
    taints = [{"key": "y", "effect": "NoExecute"}]
    await server.client.patch(NODES.path(name="a"), {"spec": {"taints": taints}}, kind=MERGE_PATCH)
    await server.until(DAEMON_SETS, done(2))
    await server.until(PODS, lambda found: nodes_of(found) == ["b", "c"])
    await change(server, template={"spec": {"nodeSelector": {"kubernetes.io/hostname": "b"}}})
    await server.until(DAEMON_SETS, done(1))
    await server.until(PODS, lambda found: nodes_of(found) == ["b"])

    def told(found: list[Object]) -> bool:
        seen = [(one["reason"], one["message"][:12], one["source"]["component"]) for one in found]
        return {
            ("SuccessfulCreate", "Created pod:", NAME), ("SuccessfulDelete", "Deleted pod:", NAME)
        } <= set(seen)  # fmt: skip

    await server.until(EVENTS, told)


@pytest.mark.parametrize(
    ("rolling", "fewest", "beside"),
    [({"maxUnavailable": 2}, 3, 0), ({"maxUnavailable": 0, "maxSurge": 2}, 5, 2)],
)
async def test_an_update_keeps_to_its_limits(
    server: Cluster, rolling: Object, fewest: int, beside: int
) -> None:
    await server.hollow(*"abcde")
    await server.start(NAME)
    strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
    await server.create(DAEMON_SETS, log(updateStrategy=strategy))
    await server.until(DAEMON_SETS, done(5))
    seen: list[tuple[int, int]] = []
    pods = await server.watch(PODS)

    def look(*_: object) -> None:
        staying = [pod for pod in pods if not is_deleting(pod)]
        good = [node_of(pod) for pod in staying if pod["status"].get("phase") == "Running"]
        new = [node_of(pod) for pod in staying if pod["status"].get("phase") != "Running"]
        seen.append((len(good), len(set(good) & set(new))))

    pods.listen(look)
    seen.clear()
    await change(server, template=image("example.test/app:2"))
    await server.until(DAEMON_SETS, done(5))
    await server.until(PODS, lambda found: len(found) == 5)
    assert min(good for good, _ in seen) == fewest
    assert max(both for _, both in seen) == beside
    # And back: the first revision is the newest again.
    await change(server, template=image("example.test/app:1"))
    await server.until(DAEMON_SETS, done(5))
    revisions = {
        one["data"]["spec"]["template"]["spec"]["containers"][0]["image"]: one["revision"]
        for one in await server.listed(REVISIONS)
    }
    assert revisions == {"example.test/app:1": 3, "example.test/app:2": 2}


async def test_on_delete_pods_are_updated_by_whoever_deletes_them(server: Cluster) -> None:
    await server.hollow("a", "b")
    await server.start(NAME)
    await server.create(DAEMON_SETS, log(updateStrategy={"type": "OnDelete"}))
    await server.until(DAEMON_SETS, done(2))
    await change(server, template=image("example.test/app:2"))
    [pod, _] = await server.listed(PODS)
    await server.client.delete(PODS.path_of(pod))

    def updated(found: list[Object]) -> bool:
        status = found[0]["status"]
        return bool(status.get("updatedNumberScheduled") == 1 and status["numberAvailable"] == 2)

    await server.until(DAEMON_SETS, updated)


async def test_failed_pods_are_made_anew_with_pauses(server: Cluster) -> None:
    made = 0

    def decide(pod: Object) -> Object | None:
        nonlocal made
        made += 1
        return ended(pod, 1) if made < 3 else running(pod)

    await server.hollow("a", decide=decide)
    await server.start(NAME)
    await server.create(DAEMON_SETS, log())
    begun = asyncio.get_running_loop().time()
    await server.until(DAEMON_SETS, done(1))
    assert made == 3
    assert 0.9 < asyncio.get_running_loop().time() - begun < 10.0
    wanted = "on node a, will try to kill it"
    await server.until(EVENTS, lambda found: any(
        one["reason"] == "FailedDaemonPod" and one["message"].endswith(wanted) for one in found
    ))  # fmt: skip


async def test_a_pod_that_waits_for_a_node_that_is_gone_is_deleted(server: Cluster) -> None:
    await server.hollow("a")
    await server.start(NAME)
    await server.create(DAEMON_SETS, log())
    await server.until(DAEMON_SETS, done(1))
    [made] = await server.listed(DAEMON_SETS)
    [pod] = await server.listed(PODS)
    meta = {"name": "waits", "labels": pod["metadata"]["labels"],
            "ownerReferences": pod["metadata"]["ownerReferences"]}  # fmt: skip
    spec = pod_template()["spec"]
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gone"]}]}
    wanted = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    spec["affinity"] = {"nodeAffinity": wanted}
    await server.create(PODS, {"metadata": meta, "spec": spec})
    await server.until(PODS, lambda found: len(found) == 2)
    await server.until(PODS, lambda found: nodes_of(found) == ["a"])
    assert (controller_of(pod) or {})["uid"] == made["metadata"]["uid"]


async def test_a_quota_that_is_used_up_is_told_and_not_tried_all_the_time(
    server: Cluster,
) -> None:
    await server.hollow(*(f"n{number}" for number in range(30)))
    await server.create(QUOTAS, {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}})
    await server.until(QUOTAS, lambda found: found[0].get("status", {}).get("hard"))
    calls: list[str] = []
    server.client.on_answer.append(lambda method, status: calls.append(f"{method} {status}"))
    await server.start(NAME)
    await server.create(DAEMON_SETS, log())
    await server.until(EVENTS, lambda found: any(
        one["reason"] == "FailedCreate" and one["message"].startswith("Error creating: pods \"log-")
        and one["message"].endswith("used: pods=1, limited: pods=1") for one in found
    ))  # fmt: skip
    calls.clear()
    await asyncio.sleep(1.0)
    assert calls.count("POST 403") <= 8


async def test_killed_again_and_again_it_goes_on(server: Cluster) -> None:
    await server.hollow(*"abcdef")
    dice = random.Random(3)
    made = await server.create(DAEMON_SETS, log())
    for number in range(8):
        host = await server.start(NAME)
        await asyncio.sleep(dice.uniform(0.0, 0.06))
        await server.stop(host)
        if number == 3:
            rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%"}}
            await change(server, template=image("example.test/app:2"), updateStrategy=rolling)
    await server.start(NAME)
    await server.until(DAEMON_SETS, done(6))
    pods = await server.pods(6, app="log")
    assert nodes_of(pods) == list("abcdef")
    assert {(controller_of(pod) or {})["uid"] for pod in pods} == {made["metadata"]["uid"]}
    assert {pod["spec"]["containers"][0]["image"] for pod in pods} == {"example.test/app:2"}
    assert len(await server.listed(REVISIONS)) <= 2
