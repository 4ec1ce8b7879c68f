"""StatefulSets against an API server, their pods on nodes without machines."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.controllers import history
from controlplane.engine.ownership import controller_of
from controlplane.engine.resources import (
    CLAIMS,
    PODS,
    QUOTAS,
    REVISIONS,
    STATEFUL_SETS,
    Object,
)
from kubeletpy_common.apiclient.client import MERGE_PATCH
from tests.cluster.statefulset.sets import (
    CLAIM,
    EVENTS,
    NAME,
    Watcher,
    change,
    done,
    image,
    names,
    owned,
    web,
)
from tests.support.cluster import Cluster, cluster, pod_template
from tests.support.hollow import ended, running


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


async def test_pods_come_and_go_in_order(server: Cluster) -> None:
    watcher = Watcher()
    pods = await server.watch(PODS)
    pods.listen(watcher.check_order)
    pods.listen(watcher.changed)
    await server.hollow("one")
    await server.start(NAME)
    await server.create(
        STATEFUL_SETS, web(volumeClaimTemplates=[CLAIM], ordinals={"start": 5})
    )  # fmt: skip
    [made] = await server.until(STATEFUL_SETS, done(3))
    assert watcher.order == ["+web-5", "+web-6", "+web-7"]
    for pod in await server.listed(PODS):
        name = pod["metadata"]["name"]
        assert pod["spec"]["hostname"] == name
        assert pod["spec"]["subdomain"] == "web"
        volumes = {one["name"]: one for one in pod["spec"]["volumes"]}
        assert volumes["data"]["persistentVolumeClaim"]["claimName"] == f"data-{name}"
        labels = pod["metadata"]["labels"]
        assert labels["controller-revision-hash"] == made["status"]["updateRevision"]
        assert labels["statefulset.kubernetes.io/pod-name"] == name
        assert labels["apps.kubernetes.io/pod-index"] == name.removeprefix("web-")
    await change(server, replicas=0)
    await server.until(STATEFUL_SETS, done(0))
    assert watcher.order[3:] == ["-web-7", "-web-6", "-web-5"]
    assert not watcher.faults
    # Claims stay, by default, and are nobody's.
    claims = await server.listed(CLAIMS)
    assert names(claims) == ["data-web-5", "data-web-6", "data-web-7"]
    assert not any(claim["metadata"].get("ownerReferences") for claim in claims)

    def all_told(found: list[Object]) -> bool:
        messages = {(one["reason"], one["message"]) for one in found}
        return {
            ("SuccessfulCreate",
             "Create Claim data-web-5 Pod web-5 in StatefulSet web success"),
            ("SuccessfulCreate", "Create Pod web-5 in StatefulSet web successful"),
            ("SuccessfulDelete", "Delete Pod web-5 in StatefulSet web successful"),
        } <= messages  # fmt: skip

    await server.until(EVENTS, all_told)


async def test_update_partition_and_back(server: Cluster) -> None:
    await server.hollow("one")
    await server.start(NAME)
    await server.create(STATEFUL_SETS, web(podManagementPolicy="Parallel", revisionHistoryLimit=1))
    [made] = await server.until(STATEFUL_SETS, done(3))
    first = made["status"]["currentRevision"]
    rolling = {"rollingUpdate": {"partition": 2}}
    await change(server, updateStrategy=rolling, template=image("example.test/app:2"))
    [made] = await server.until(STATEFUL_SETS, done(3, updated=1))
    second = made["status"]["updateRevision"]
    assert made["status"]["currentRevision"] == first
    revisions = {pod["metadata"]["name"]: pod["metadata"]["labels"]["controller-revision-hash"]
                 for pod in await server.listed(PODS)}  # fmt: skip
    assert revisions == {"web-0": first, "web-1": first, "web-2": second}
    # A pod below the partition that ends comes back as it was.
    await server.client.delete(PODS.path("default", "web-0"))
    await server.until(STATEFUL_SETS, done(3, updated=1))
    back = await server.until(PODS, lambda found: "web-0" in names(found) and len(found) == 3)
    assert {pod["metadata"]["labels"]["controller-revision-hash"] for pod in back
            if pod["metadata"]["name"] == "web-0"} == {first}  # fmt: skip
    await change(server, updateStrategy={"rollingUpdate": {"partition": 0}})
    await server.until(STATEFUL_SETS, done(3))
    # Back to the first template: the same revision, with a new number.
    await change(server, template=image("example.test/app:1"))
    [made] = await server.until(STATEFUL_SETS, done(3))
    assert made["status"]["currentRevision"] == first
    numbers = {one["metadata"]["name"]: one["revision"] for one in await server.listed(REVISIONS)}
    assert numbers == {first: 3, second: 2}
    # One of the past is kept.
    await change(server, template=image("example.test/app:3"))
    [made] = await server.until(STATEFUL_SETS, done(3))
    found = await server.until(REVISIONS, lambda found: len(found) == 2)
    assert {one["revision"] for one in found} == {3, 4}


async def test_many_are_updated_at_once_with_max_unavailable(server: Cluster) -> None:
    await server.hollow("one")
    await server.start(NAME)
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}
    spec = web(4, podManagementPolicy="Parallel", updateStrategy=rolling)
    await server.create(STATEFUL_SETS, spec)
    await server.until(STATEFUL_SETS, done(4))
    fewest: list[int] = []
    pods = await server.watch(PODS)
    pods.listen(lambda *_: fewest.append(
        sum("deletionTimestamp" not in pod["metadata"]
            and pod["status"].get("phase") == "Running" for pod in pods)))  # fmt: skip
    await change(server, template=image("example.test/app:2"))
    await server.until(STATEFUL_SETS, done(4))
    assert min(fewest) == 2


async def test_an_update_gets_past_pods_that_never_worked(server: Cluster) -> None:
    def decide(pod: Object) -> Object | None:
        bad = pod["spec"]["containers"][0]["image"].endswith("bad")
        return {"phase": "Pending"} if bad else running(pod)

    await server.hollow("one", decide=decide)
    await server.start(NAME)
    await server.create(STATEFUL_SETS, web(podManagementPolicy="Parallel"))
    await server.until(STATEFUL_SETS, done(3))
    await change(server, template=image("bad"))
    await server.until(PODS, lambda found: any(
        pod["spec"]["containers"][0]["image"] == "bad" for pod in found))  # fmt: skip
    await change(server, template=image("example.test/app:2"))
    await server.until(STATEFUL_SETS, done(3))


async def test_failed_pods_are_made_anew_and_slowly_if_they_fail_again(server: Cluster) -> None:
    made = 0

    def decide(pod: Object) -> Object | None:
        nonlocal made
        made += pod["metadata"]["name"] == "web-0"
        return ended(pod, 1) if made < 3 else running(pod)

    await server.hollow("one", decide=decide)
    await server.start(NAME)
    await server.create(STATEFUL_SETS, web(1))
    begun = asyncio.get_running_loop().time()
    await server.until(STATEFUL_SETS, done(1))
    assert made == 3
    # At once, then after a second.
    assert 0.9 < asyncio.get_running_loop().time() - begun < 10.0


@pytest.mark.parametrize("scaled", [True, False])
async def test_claims_go_with_pods_or_with_the_set(server: Cluster, scaled: bool) -> None:
    await server.hollow("one")
    await server.start(NAME)
    policy = {"whenScaled": "Delete" if scaled else "Retain", "whenDeleted": "Delete"}
    spec = web(3, volumeClaimTemplates=[CLAIM], podManagementPolicy="Parallel",
               persistentVolumeClaimRetentionPolicy=policy)  # fmt: skip
    set_ = await server.create(STATEFUL_SETS, spec)
    await server.until(STATEFUL_SETS, done(3))
    uid = set_["metadata"]["uid"]
    await server.until(CLAIMS, lambda found: len(found) == 3 and all(
        (controller_of(claim) or {}).get("uid") == uid for claim in found))  # fmt: skip
    await change(server, replicas=1)
    await server.until(STATEFUL_SETS, done(1))

    def gone(found: list[Object]) -> list[str]:
        return names([one for one in found if "deletionTimestamp" in one["metadata"]])

    if scaled:
        await server.until(CLAIMS, lambda found: names(found) == ["data-web-0"] or gone(found) == [
            "data-web-1", "data-web-2"])  # fmt: skip
    else:
        found = await server.listed(CLAIMS)
        assert {(controller_of(claim) or {}).get("uid") for claim in found} == {uid}
    await server.client.delete(STATEFUL_SETS.path("default", "web"))
    await server.until(CLAIMS, lambda found: len(gone(found)) == len(found))


async def test_pods_are_adopted_and_released(server: Cluster) -> None:
    await server.hollow("one")
    orphan = pod_template()["spec"]
    for name in ("web-1", "web-01", "other"):
        await server.create(PODS, {"metadata": {"name": name, "labels": {"app": "web"}},
                                   "spec": orphan})  # fmt: skip
    await server.start(NAME)
    made = await server.create(STATEFUL_SETS, web(2, podManagementPolicy="Parallel"))

    def adopted(found: list[Object]) -> bool:
        pods = owned(found, made)
        labels = [pod["metadata"]["labels"].get("apps.kubernetes.io/pod-index") for pod in pods]
        return names(pods) == ["web-0", "web-1"] and sorted(map(str, labels)) == ["0", "1"]

    found = await server.until(PODS, adopted)
    assert names(found) == ["other", "web-0", "web-01", "web-1"]
    # Without its label it is let go; its name is taken until it is gone.
    changes = {"metadata": {"labels": {"app": "debug"}}}
    await server.client.patch(PODS.path("default", "web-0"), changes, kind=MERGE_PATCH)
    await server.until(PODS, lambda found: "web-0" not in names(owned(found, made)))
    taken = 'Create Pod web-0 in StatefulSet web failed error: pods "web-0" already exists'
    await server.until(EVENTS, lambda found: any(
        (one["reason"], one["message"]) == ("FailedCreate", taken) for one in found))  # fmt: skip
    await server.client.delete(PODS.path("default", "web-0"), {"gracePeriodSeconds": 0})
    await server.until(PODS, lambda found: names(owned(found, made)) == ["web-0", "web-1"])


async def test_a_name_of_a_revision_that_is_taken(server: Cluster) -> None:
    await server.hollow("one")
    made = await server.create(STATEFUL_SETS, web(1))
    digest = history.hash_of(history.data_of(made), 0)
    taken = {"metadata": {"name": f"web-{digest}"}, "data": {"spec": {}}, "revision": 1}
    await server.create(REVISIONS, taken)
    await server.start(NAME)
    [made] = await server.until(STATEFUL_SETS, done(1))
    assert made["status"]["collisionCount"] == 1
    assert made["status"]["currentRevision"] != f"web-{digest}"


async def test_a_quota_that_is_used_up_is_told_and_not_tried_all_the_time(
    server: Cluster,
) -> None:
    await server.hollow("one")
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "2"}}}
    await server.create(QUOTAS, quota)
    await server.until(QUOTAS, lambda found: found[0].get("status", {}).get("hard"))
    calls: list[str] = []
    server.client.on_answer.append(lambda method, status: calls.append(f"{method} {status}"))
    await server.start(NAME)
    await server.create(STATEFUL_SETS, web(20, podManagementPolicy="Parallel"))

    def is_told(found: list[Object]) -> bool:
        return any(one["reason"] == "FailedCreate" and " failed error: pods " in one["message"]
                   and "exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2"
                   in one["message"] for one in found)  # fmt: skip

    await server.until(EVENTS, is_told)
    await server.until(STATEFUL_SETS, lambda found: found[0]["status"].get("readyReplicas") == 2)
    calls.clear()
    await asyncio.sleep(0.6)
    # One attempt each time, with ever longer pauses: 20 pods would be 20 each.
    assert calls.count("POST 403") <= 6
    await server.client.patch(QUOTAS.path("default", "few"), {"spec": {"hard": {"pods": "60"}}},
                              kind=MERGE_PATCH)  # fmt: skip
    await server.until(STATEFUL_SETS, done(20))


async def test_killed_again_and_again_it_goes_on(server: Cluster) -> None:
    watcher = Watcher()
    (await server.watch(PODS)).listen(watcher.changed)
    await server.hollow("one")
    dice = random.Random(7)
    made = await server.create(
        STATEFUL_SETS,
        web(6, volumeClaimTemplates=[CLAIM], podManagementPolicy="Parallel",
            persistentVolumeClaimRetentionPolicy={"whenDeleted": "Delete"}),
    )  # fmt: skip
    for number in range(8):
        host = await server.start(NAME)
        await asyncio.sleep(dice.uniform(0.0, 0.06))
        await server.stop(host)
        if number == 3:
            await change(server, template=image("example.test/app:2"), replicas=4)
    await server.start(NAME)
    await server.until(STATEFUL_SETS, done(4))
    pods = await server.pods(4, app="web")
    assert names(owned(pods, made)) == [f"web-{number}" for number in range(4)]
    assert {pod["spec"]["containers"][0]["image"] for pod in pods} == {"example.test/app:2"}
    assert len(await server.listed(REVISIONS)) == 2
    assert not watcher.faults

    def owned_by_it(claims: list[Any]) -> bool:
        # Those of pods that went meanwhile may have none: their owner is set once a pod is there.
        mine = [one for one in claims if one["metadata"]["name"].endswith(tuple(names(pods)))]
        owners = {(controller_of(claim) or {}).get("uid") for claim in mine}
        return len(mine) == 4 and owners == {made["metadata"]["uid"]}

    await server.until(CLAIMS, owned_by_it)
