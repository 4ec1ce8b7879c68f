"""ReplicaSets and ReplicationControllers against the API server."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from controlplane.controllers.replicaset import pace
from controlplane.engine.ownership import controller_of
from controlplane.engine.resources import (
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    Object,
    Resource,
)
from kubeletpy_common.apiclient.client import MERGE_PATCH
from kubeletpy_common.apiclient.errors import ApiError
from tests.support.cluster import Cluster, cluster, pod_template
from tests.support.histories import forgiving
from tests.support.hollow import ended

NAMES = ("replicaset-controller", "replicationcontroller-controller")
BOTH = pytest.mark.parametrize("resource", [REPLICA_SETS, REPLICATION_CONTROLLERS])
EVENTS = Resource("v1", "events", "Event")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


def owner(resource: Resource, replicas: int, name: str = "web", **spec: Any) -> Object:
    selector: Any = {"app": name}
    template = pod_template(app=name)
    template["spec"]["nodeName"] = "one"
    if resource is REPLICA_SETS:
        selector = {"matchLabels": selector}
    return {"metadata": {"name": name}, "spec": {
        "replicas": replicas, "selector": selector, "template": template, **spec}}  # fmt: skip


async def change(server: Cluster, resource: Resource, name: str, **spec: Any) -> Object:
    return await server.client.patch(
        resource.path("default", name), {"spec": spec}, kind=MERGE_PATCH
    )


async def told(server: Cluster, resource: Resource, **status: Any) -> Object:
    """Wait until the only owner's status has these values; return it."""

    def fits(found: list[Object]) -> bool:
        seen = [{name: one["status"].get(name, 0) for name in status} for one in found]
        return bool(seen) and all(one == status for one in seen)

    return (await server.until(resource, fits))[0]


@BOTH
async def test_pods_are_made_and_deleted(server: Cluster, resource: Resource) -> None:
    await server.start(*NAMES)
    await server.hollow("one")
    await server.create(resource, owner(resource, 20))
    value = await told(server, resource, replicas=20, readyReplicas=20, availableReplicas=20,
                       fullyLabeledReplicas=20)  # fmt: skip
    pods = await server.pods(20, app="web")
    for pod in pods:
        reference = controller_of(pod)
        assert reference is not None
        assert reference["kind"] == resource.kind
        assert reference["uid"] == value["metadata"]["uid"]
        assert reference["blockOwnerDeletion"]
        assert pod["metadata"]["generateName"] == "web-"
    await change(server, resource, "web", replicas=3)
    value = await told(server, resource, replicas=3, availableReplicas=3)
    assert value["status"]["observedGeneration"] == value["metadata"]["generation"]
    await server.pods(3, app="web")
    if resource is REPLICA_SETS:
        await told(server, resource, terminatingReplicas=0)
    else:
        assert "terminatingReplicas" not in value["status"]
    pod = (await server.listed(PODS))[0]
    await server.client.delete(PODS.path_of(pod))
    await server.until(PODS, lambda all_: len(all_) == 3 and pod["metadata"]["name"] not in {
        one["metadata"]["name"] for one in all_})  # fmt: skip
    await change(server, resource, "web", replicas=0)
    await told(server, resource, replicas=0, readyReplicas=0)
    await server.pods(0)


@BOTH
async def test_pods_are_adopted_and_released(server: Cluster, resource: Resource) -> None:
    await server.start(*NAMES)
    orphan = {"metadata": {"name": "orphan", "labels": {"app": "web"}},
              **{"spec": pod_template()["spec"]}}  # fmt: skip
    made = await server.create(PODS, orphan)
    value = await server.create(resource, owner(resource, 2))
    pods = await server.pods(2, app="web")
    assert made["metadata"]["uid"] in {pod["metadata"]["uid"] for pod in pods}
    assert {controller_of(pod)["uid"] for pod in pods} == {value["metadata"]["uid"]}  # type: ignore[index]
    # One that does not fit any more is left alone, and another takes its place.
    await server.client.patch(
        PODS.path("default", "orphan"), {"metadata": {"labels": {"app": "debug"}}}, kind=MERGE_PATCH
    )
    await server.pods(2, app="web")
    found = await server.until(PODS, lambda all_: len(all_) == 3 and any(
        not controller_of(one) for one in all_))  # fmt: skip
    assert [one["metadata"]["name"] for one in found if not controller_of(one)] == ["orphan"]
    # Back again it is one too many.
    await server.client.patch(
        PODS.path("default", "orphan"), {"metadata": {"labels": {"app": "web"}}}, kind=MERGE_PATCH
    )
    await server.until(PODS, lambda all_: len(all_) == 2)
    await told(server, resource, replicas=2)


async def test_two_owners_of_the_same_labels_keep_to_their_own(server: Cluster) -> None:
    await server.start(*NAMES)
    one, other = owner(REPLICA_SETS, 3), owner(REPLICA_SETS, 4)
    other["metadata"]["name"] = "other"
    uids = {}
    for value in (one, other):
        made = await server.create(REPLICA_SETS, value)
        uids[made["metadata"]["name"]] = made["metadata"]["uid"]
    await server.pods(7, app="web")
    orphan = {"metadata": {"name": "orphan", "labels": {"app": "web"}},
              "spec": pod_template()["spec"]}  # fmt: skip
    await server.create(PODS, orphan)
    pods = await server.until(PODS, lambda all_: len(all_) == 7 and all(map(controller_of, all_)))
    owners = [controller_of(pod)["uid"] for pod in pods]  # type: ignore[index]
    assert (owners.count(uids["web"]), owners.count(uids["other"])) == (3, 4)


async def test_a_pod_is_available_once_it_was_ready_for_long_enough(server: Cluster) -> None:
    await server.start(*NAMES)
    await server.hollow("one")
    await server.create(REPLICA_SETS, owner(REPLICA_SETS, 2, minReadySeconds=2))
    value = await told(server, REPLICA_SETS, readyReplicas=2)
    assert "availableReplicas" not in value["status"]
    await told(server, REPLICA_SETS, availableReplicas=2)


async def test_a_quota_that_is_used_up_is_told_and_not_tried_all_the_time(
    server: Cluster,
) -> None:
    quotas = Resource("v1", "resourcequotas", "ResourceQuota")
    quota = await server.create(
        quotas, {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "5"}}}
    )
    status = {"hard": {"pods": "5"}, "used": {"pods": "0"}}
    await server.client.patch(quotas.path_of(quota, "status"), {"status": status}, kind=MERGE_PATCH)
    host = await server.start(*NAMES)
    tried: list[str] = []
    real = host.context.writer.create

    async def create(resource: Resource, value: Object) -> Object:
        if resource is PODS:
            tried.append(str(value["metadata"]["generateName"]))
        return await real(resource, value)

    host.context.writer.create = create  # type: ignore[method-assign]
    await server.create(REPLICA_SETS, owner(REPLICA_SETS, 100))
    value = await told(server, REPLICA_SETS, replicas=5)
    value = (await server.until(REPLICA_SETS, lambda all_: all_[0]["status"].get("conditions")))[0]
    condition = value["status"]["conditions"][0]
    assert (condition["type"], condition["reason"]) == ("ReplicaFailure", "FailedCreate")
    assert "exceeded quota: few" in condition["message"]
    found = await server.until(EVENTS, lambda all_: any(
        one["reason"] == "FailedCreate" for one in all_))  # fmt: skip
    event = next(one for one in found if one["reason"] == "FailedCreate")
    assert event["message"].startswith('Error creating: pods "web-')
    assert event["source"]["component"] == "replicaset-controller"
    # 1, 2, 4 and the first refusal; then ever less often, whatever happens to its pods.
    for number in range(20):
        pod = (await server.listed(PODS))[0]
        changes = {"metadata": {"labels": {"number": str(number)}}}
        await server.client.patch(PODS.path_of(pod), changes, kind=MERGE_PATCH)
    assert len(tried) < 20
    # With room all is well again.
    await server.client.delete(quotas.path_of(quota))
    await told(server, REPLICA_SETS, replicas=100)
    value = await told(server, REPLICA_SETS, conditions=0)


async def test_many_pods_that_fail_are_replaced_slowly(
    server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "BURST", 10)
    await server.start(*NAMES)
    await server.hollow("one", decide=lambda pod: ended(pod, 1, reason="OutOfcpu"))
    await server.create(REPLICA_SETS, owner(REPLICA_SETS, 20))
    begun = time.monotonic()
    found = await server.until(REPLICA_SETS, lambda all_: all_[0]["status"].get("conditions"))
    condition = found[0]["status"]["conditions"][0]
    assert (condition["type"], condition["reason"]) == ("ReplicaFailure", "FailedPods")
    # All of them, ten at once, and two more, one each second.
    await server.until(PODS, lambda all_: len(all_) >= 32)
    assert len(await server.listed(PODS)) <= 31 + (time.monotonic() - begun) * pace.RATE


async def test_an_ending_namespace_gets_no_pods_and_no_events(
    server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = await server.start(*NAMES)
    tried: list[str] = []

    async def create(path: str, body: object, **_: object) -> Object:
        tried.append(path)
        causes = [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]
        raise ApiError(403, "Forbidden", "it ends", details={"causes": causes})

    monkeypatch.setattr(host.context.client, "create", create)
    await server.client.request(
        "POST", REPLICA_SETS.path("default"), owner(REPLICA_SETS, 3)
    )  # fmt: skip
    value = await told(server, REPLICA_SETS, observedGeneration=1)
    assert "conditions" not in value["status"]
    assert tried == ["/api/v1/namespaces/default/pods"]
    assert not any(queue.counts.retried for queue in host.queues())


async def test_killed_at_any_point_it_ends_as_declared(server: Cluster) -> None:
    chance = random.Random(7)
    await server.hollow("one")
    await server.create(REPLICA_SETS, owner(REPLICA_SETS, 0))
    wanted = 0
    for _ in range(6):
        host = await server.start(*NAMES)
        wanted = chance.randrange(60)
        await change(server, REPLICA_SETS, "web", replicas=wanted)
        if chance.random() < 0.5 and (pods := await server.listed(PODS)):
            # The controller may have had the same thought.
            path = PODS.path_of(chance.choice(pods))
            await forgiving(partial(server.client.delete, path, {"gracePeriodSeconds": 0}))
        await asyncio.sleep(chance.random() * 0.08)
        await server.stop(host)
    await server.start(*NAMES)
    pods = await server.pods(wanted, app="web")
    assert all(map(controller_of, pods))
    await told(server, REPLICA_SETS, replicas=wanted)
    assert len(await server.listed(PODS)) == wanted


async def test_answers_that_are_lost_make_no_pod_too_many(
    server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = await server.start(*NAMES)
    client, chance = host.context.client, random.Random(5)
    real = client.request

    async def request(method: str, path: str, *args: Any, **more: Any) -> dict[str, Any]:
        answer = await real(method, path, *args, **more)
        if method != "GET" and "/pods" in path and chance.random() < 0.1:
            raise ApiError(0, "Timeout", "the answer was lost")
        return answer

    monkeypatch.setattr(client, "request", request)
    await server.create(REPLICA_SETS, owner(REPLICA_SETS, 40))
    highest = 0

    def follow(*_: object) -> None:
        nonlocal highest
        highest = max(highest, len(pods))

    pods = await server.watch(PODS)
    pods.listen(follow)
    await told(server, REPLICA_SETS, replicas=40)
    assert highest == 40
