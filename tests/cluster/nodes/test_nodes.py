"""Nodes that are lost, and their pods, against a real API server; no machine is needed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.engine.controller import micro_timestamp, now, timestamp
from controlplane.engine.resources import JOBS, LEASES, NODES, PODS, Object, Resource
from kubeletpy_common.apiclient.client import MERGE_PATCH, STRATEGIC_PATCH
from tests.support.cluster import Cluster, cluster
from tests.support.hollow import node, running

EVENTS = Resource("v1", "events", "Event")
GRACE: dict[str, Any] = {"node_monitor_grace_period": 1.0, "node_eviction_rate": 1000.0}
LIFECYCLE = "node-lifecycle-controller"
EVICTION = "taint-eviction-controller"
COLLECTOR = "pod-garbage-collector-controller"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


async def make(server: Cluster, *names: str, **more: Any) -> None:
    for name in names:
        await server.client.create(NODES.path(), node(name, **more))
        await say(server, name)


async def say(server: Cluster, name: str, ready: str = "True") -> None:
    """Write the status of a node, as its kubelet would."""
    status = node(name)["status"]
    status["conditions"][0]["status"] = ready
    await server.client.patch(
        NODES.path(name=name, subresource="status"), {"status": status}, kind=STRATEGIC_PATCH
    )


async def pod(server: Cluster, name: str, place: str = "a", **spec: Any) -> Object:
    """Make a pod that runs and is ready."""
    containers = [{"name": "c", "image": "example.test/app:1"}]
    value = {"metadata": {"name": name}, "spec": {"nodeName": place, "containers": containers,
                                                  **spec}}  # fmt: skip
    made = await server.create(PODS, value)
    return await server.client.patch(
        PODS.path_of(made, "status"), {"status": running(made)}, kind=STRATEGIC_PATCH
    )


async def beat(server: Cluster, *names: str) -> None:
    """Renew the Leases of nodes, until cancelled."""
    while True:
        for name in names:
            spec = {"holderIdentity": name, "renewTime": micro_timestamp(now())}
            lease = {"apiVersion": LEASES.group_version, "kind": "Lease", "spec": spec,
                     "metadata": {"name": name, "namespace": "kube-node-lease"}}  # fmt: skip
            path = LEASES.path("kube-node-lease")
            try:
                await server.client.patch(f"{path}/{name}", {"spec": spec}, kind=MERGE_PATCH)
            except Exception:
                await server.client.create(path, lease)
        await asyncio.sleep(0.1)


async def speak(server: Cluster, *names: str) -> None:
    """Write that nodes are ready, until cancelled: one that was taken for lost comes back."""
    while True:
        for name in names:
            await say(server, name)
        await asyncio.sleep(0.1)


def condition(value: Object, kind: str) -> Object:
    return next(one for one in value["status"]["conditions"] if one["type"] == kind)


def taints(value: Object) -> set[tuple[str, str]]:
    found = value["spec"].get("taints") or ()
    return {(one["key"].removeprefix("node.kubernetes.io/"), one["effect"]) for one in found}


async def until_node(server: Cluster, name: str, *wanted: tuple[str, str]) -> Object:
    """Wait until a node has exactly these taints."""

    def fitting(found: list[Object]) -> list[Object]:
        return [one for one in found if one["metadata"]["name"] == name
                and taints(one) == set(wanted)]  # fmt: skip

    return fitting(await server.until(NODES, fitting))[0]


async def messages(server: Cluster, reason: str, name: str) -> set[str]:
    """Wait for events of a reason about an object; return what they say."""

    def fitting(found: list[Object]) -> set[str]:
        return {one["message"] for one in found
                if one["reason"] == reason and one["involvedObject"]["name"] == name}  # fmt: skip

    return fitting(await server.until(EVENTS, fitting))


LOST = (("unreachable", "NoSchedule"), ("unreachable", "NoExecute"))


async def test_a_node_that_is_silent_is_lost_until_it_speaks(server: Cluster) -> None:
    await make(server, "a", "b")
    beating = server.tasks.create_task(beat(server, "a", "b"))
    await pod(server, "p")
    await server.start(LIFECYCLE, **GRACE)
    assert await messages(server, "RegisteredNode", "a") == {
        "Node a event: Registered Node a in Controller"
    }
    # Longer than the grace period: leases are enough.
    await asyncio.sleep(1.3)
    assert condition(await server.get(NODES, "a"), "Ready")["status"] == "True"
    beating.cancel()
    # One that a slow machine had taken for lost comes back: with all lost, none is emptied.
    server.tasks.create_task(beat(server, "b"))
    server.tasks.create_task(speak(server, "b"))
    lost = await until_node(server, "a", *LOST)
    found = condition(lost, "Ready")
    assert (found["status"], found["reason"]) == ("Unknown", "NodeStatusUnknown")
    assert condition(lost, "DiskPressure")["reason"] == "NodeStatusNeverUpdated"
    assert await messages(server, "NodeNotReady", "a") == {"Node a status is now: NodeNotReady"}
    pods = await server.until(PODS, lambda pods: condition(pods[0], "Ready")["status"] == "False")
    assert pods[0]["status"]["phase"] == "Running"
    assert await messages(server, "NodeNotReady", "p") == {"Node is not ready"}
    await say(server, "a", "False")
    await until_node(server, "a", ("not-ready", "NoSchedule"), ("not-ready", "NoExecute"))
    server.tasks.create_task(beat(server, "a"))
    server.tasks.create_task(speak(server, "a"))
    await until_node(server, "a")
    await until_node(server, "b")
    assert condition(await server.get(NODES, "b"), "Ready")["status"] == "True"


async def test_when_all_nodes_are_lost_none_is_emptied(server: Cluster) -> None:
    await make(server, "a", "b")
    await server.start(LIFECYCLE, **GRACE)
    for name in "ab":
        await until_node(server, name, ("unreachable", "NoSchedule"))
    server.tasks.create_task(beat(server, "b"))
    server.tasks.create_task(speak(server, "b"))
    await until_node(server, "b")
    await until_node(server, "a", *LOST)


async def test_a_controller_that_is_killed_goes_on_where_it_was(server: Cluster) -> None:
    dice = random.Random(3)
    await make(server, "a", "b", "c")
    for number in range(6):
        await pod(server, f"p{number}")
    server.tasks.create_task(speak(server, "b", "c"))
    options = {**GRACE, "node_monitor_grace_period": 0.4}
    for _ in range(4):
        host = await server.start(LIFECYCLE, **options)
        await asyncio.sleep(0.38 + dice.random() * 0.06)
        await server.stop(host)
    await server.start(LIFECYCLE, **options)
    await until_node(server, "a", *LOST)
    await server.until(PODS, lambda pods: all(
        condition(one, "Ready")["status"] == "False" for one in pods))  # fmt: skip
    for name in "bc":
        await until_node(server, name)


async def test_conditions_and_cordons_are_taints(server: Cluster) -> None:
    await make(server, "a", "b")
    server.tasks.create_task(beat(server, "a", "b"))
    await pod(server, "p", "b")
    await server.start(LIFECYCLE)
    status = {"conditions": [{"type": "DiskPressure", "status": "True"}]}
    path = NODES.path(name="a")
    await server.client.patch(f"{path}/status", {"status": status}, kind=STRATEGIC_PATCH)
    await server.client.patch(path, {"spec": {"unschedulable": True}}, kind=MERGE_PATCH)
    await until_node(server, "a", ("disk-pressure", "NoSchedule"), ("unschedulable", "NoSchedule"))
    await server.client.patch(path, {"spec": {"unschedulable": None}}, kind=MERGE_PATCH)
    found = await until_node(server, "a", ("disk-pressure", "NoSchedule"))
    assert found["metadata"]["labels"]["beta.kubernetes.io/os"] == "linux"
    # Of a kubelet that speaks pods are as ready as it says.
    await say(server, "b", "False")
    await until_node(server, "b", ("not-ready", "NoSchedule"), ("not-ready", "NoExecute"))
    assert condition((await server.listed(PODS))[0], "Ready")["status"] == "True"


async def test_pods_leave_when_they_do_not_tolerate_it_any_more(server: Cluster) -> None:
    await make(server, "a")
    stays = [{"operator": "Exists"}]
    key = "example.test/gone"
    short = [{"key": key, "operator": "Exists", "effect": "NoExecute",
              "tolerationSeconds": 1}]  # fmt: skip
    long = [{"key": key, "operator": "Exists", "effect": "NoExecute",
             "tolerationSeconds": 3600}]  # fmt: skip
    await pod(server, "stays", tolerations=stays)
    await pod(server, "waits", tolerations=long)
    await pod(server, "short", tolerations=short, terminationGracePeriodSeconds=0)
    goes = await pod(server, "goes")
    await server.start(EVICTION)
    taint = {"key": key, "effect": "NoExecute", "timeAdded": timestamp(now())}
    await server.client.patch(NODES.path(name="a"), {"spec": {"taints": [taint]}}, kind=MERGE_PATCH)
    await server.until(PODS, lambda pods: not any(
        one["metadata"]["name"] == "short" for one in pods))  # fmt: skip
    found = {one["metadata"]["name"]: one for one in await server.listed(PODS)}
    assert set(found) == {"stays", "waits", "goes"}
    assert "deletionTimestamp" in found["goes"]["metadata"]
    assert "deletionTimestamp" not in found["waits"]["metadata"]
    target = condition(found["goes"], "DisruptionTarget")
    assert (target["reason"], target["message"]) == (
        "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint",
    )  # fmt: skip
    assert target["observedGeneration"] == goes["metadata"]["generation"]
    assert await messages(server, "TaintManagerEviction", "goes") == {
        "Marking for deletion Pod default/goes"
    }
    await server.client.patch(NODES.path(name="a"), {"spec": {"taints": None}}, kind=MERGE_PATCH)
    assert await messages(server, "TaintManagerEviction", "waits") == {
        "Cancelling deletion of Pod default/waits"
    }


async def test_pods_of_a_node_that_is_gone_go_after_it(server: Cluster) -> None:
    await make(server, "a", "b")
    rule = {"action": "Ignore",
            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}  # fmt: skip
    template = {"spec": {"nodeName": "a", "restartPolicy": "Never",
                         "containers": [{"name": "c", "image": "example.test/app:1"}]}}  # fmt: skip
    await server.start("job-controller")
    spec = {"template": template, "backoffLimit": 0, "podFailurePolicy": {"rules": [rule]}}
    await server.create(JOBS, {"metadata": {"name": "j"}, "spec": spec})
    first = (await server.pods(1))[0]
    await pod(server, "lone")
    await server.start(COLLECTOR, pod_gc_quarantine=0.3)
    seen: list[Object] = []
    (await server.watch(PODS)).listen(lambda _, found: seen.append(found) if found else None)
    await server.client.delete(NODES.path(name="a"))
    await server.until(PODS, lambda pods: not any(
        one["metadata"]["uid"] == first["metadata"]["uid"] for one in pods))  # fmt: skip
    lost = next(one for one in reversed(seen)
                if one["metadata"]["uid"] == first["metadata"]["uid"])  # fmt: skip
    assert lost["status"]["phase"] == "Failed"
    target = condition(lost, "DisruptionTarget")
    assert (target["reason"], target["message"]) == (
        "DeletionByPodGC", "PodGC: node no longer exists",
    )  # fmt: skip
    # It is none of the failures that the Job may have: another pod is to come.
    await server.until(JOBS, lambda jobs: "active" not in jobs[0]["status"])
    found = await server.get(JOBS, "j")
    assert not found["status"].get("conditions")
    assert "failed" not in found["status"]


async def test_pods_that_nobody_can_end_go_at_once(server: Cluster) -> None:
    await make(server, "a")
    await say(server, "a", "Unknown")
    out = {"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute", "value": "x"}
    made = await pod(server, "p")
    await server.client.delete(PODS.path_of(made))
    await server.start(COLLECTOR)
    held = {"metadata": {"name": "held", "finalizers": ["example.test/held"]},
            "spec": {"containers": [{"name": "c", "image": "example.test/app:1"}]}}  # fmt: skip
    made = await server.create(PODS, held)
    await server.client.delete(PODS.path_of(made))
    await server.client.patch(NODES.path(name="a"), {"spec": {"taints": [out]}}, kind=MERGE_PATCH)
    left = await server.until(
        PODS, lambda pods: len(pods) == 1 and pods[0]["status"]["phase"] == "Failed"
    )
    assert left[0]["metadata"]["name"] == "held"


async def test_only_so_many_pods_that_ended_are_kept(server: Cluster) -> None:
    await make(server, "a")
    for number in range(5):
        made = await pod(server, f"p{number}")
        await server.client.patch(PODS.path_of(made, "status"),
                                  {"status": {"phase": "Succeeded"}}, kind=MERGE_PATCH)  # fmt: skip
    await pod(server, "runs")
    await server.start(COLLECTOR, terminated_pod_gc_threshold=2)
    await server.until(PODS, lambda pods: len(pods) == 3)
    names = {one["metadata"]["name"] for one in await server.listed(PODS)}
    assert names == {"runs", "p3", "p4"}


async def test_each_node_gets_ranges_of_its_own(server: Cluster) -> None:
    options = {"allocate_node_cidrs": True, "cluster_cidr": "10.1.0.0/22,fd00::/60"}
    await make(server, "a", "b")
    ranges: dict[str, list[str]] = {}
    for number in range(4):
        host = await server.start("node-ipam-controller", **options)
        await server.client.create(NODES.path(), node(f"n{number}"))
        await asyncio.sleep(0.01 * number)
        await server.stop(host)
    await server.start("node-ipam-controller", **options)
    # Four ranges are for six nodes.
    names = set()
    for found in await server.until(NODES, lambda nodes: sum(
            bool(one["spec"].get("podCIDRs")) for one in nodes) == 4):  # fmt: skip
        ranges[found["metadata"]["name"]] = found["spec"].get("podCIDRs") or []
        names.add(found["metadata"]["name"])
    have = sorted(one[0] for one in ranges.values() if one)
    assert have == [f"10.1.{number}.0/24" for number in range(4)]
    poor = min(name for name, found in ranges.items() if not found)
    assert await messages(server, "CIDRNotAvailable", poor) == {
        f"Node {poor} status is now: CIDRNotAvailable"
    }
    rich = next(name for name, found in ranges.items() if found)
    await server.client.delete(NODES.path(name=rich))
    await server.until(NODES, lambda nodes: len(nodes) == 5 and sum(
        bool(one["spec"].get("podCIDRs")) for one in nodes) == 4)  # fmt: skip
