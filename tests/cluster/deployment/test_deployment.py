"""Deployments against the API server, their pods on nodes without machines."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.controllers.podtemplates import HASH_LABEL, hash_of
from controlplane.engine.ownership import controller_of
from controlplane.engine.resources import (
    DEPLOYMENTS,
    NAMESPACES,
    PODS,
    REPLICA_SETS,
    Object,
    Resource,
)
from kubeletpy_common.apiclient.client import MERGE_PATCH, STRATEGIC_PATCH
from kubeletpy_common.apiclient.errors import ApiError
from tests.support.cluster import Cluster, cluster, pod_template
from tests.support.hollow import running

NAMES = ("deployment-controller", "replicaset-controller")
EVENTS = Resource("v1", "events", "Event")
REVISION = "deployment.kubernetes.io/revision"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


def template_of(image: str, app: str = "web") -> Object:
    template = pod_template(app=app)
    template["spec"] |= {"nodeName": "one", "terminationGracePeriodSeconds": 0}
    template["spec"]["containers"][0]["image"] = f"example.test/app:{image}"
    return template


def deployment(replicas: int, image: str = "1", **spec: Any) -> Object:
    return {"metadata": {"name": "web"}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
        "template": template_of(image), **spec}}  # fmt: skip


def rolling(surge: int | str, unavailable: int | str) -> Object:
    bounds = {"maxSurge": surge, "maxUnavailable": unavailable}
    return {"type": "RollingUpdate", "rollingUpdate": bounds}


async def change(server: Cluster, **spec: Any) -> Object:
    return await server.client.patch(
        DEPLOYMENTS.path("default", "web"), {"spec": spec}, kind=STRATEGIC_PATCH
    )


def condition(value: Object, kind: str) -> Object | None:
    found: list[Object] = value["status"].get("conditions") or []
    return next((one for one in found if one["type"] == kind), None)


async def until_reason(server: Cluster, kind: str, reason: str) -> Object:
    """Wait until a condition of the Deployment has a reason; return the Deployment."""

    def fits(found: list[Object]) -> bool:
        return bool(found) and (condition(found[0], kind) or {}).get("reason") == reason

    return (await server.until(DEPLOYMENTS, fits))[0]


async def complete(server: Cluster, image: str, replicas: int) -> Object:
    """Wait until all pods are of an image, available, and the Deployment says so."""

    def fits(found: list[Object]) -> bool:
        status = found[0]["status"] if found else {}
        names = ("replicas", "updatedReplicas", "availableReplicas")
        return (
            bool(found)
            and status.get("observedGeneration") == found[0]["metadata"]["generation"]
            and all(status.get(name, 0) == replicas for name in names)
            and (condition(found[0], "Progressing") or {}).get("reason") == "NewReplicaSetAvailable"
            and not status.get("terminatingReplicas")
        )

    value = (await server.until(DEPLOYMENTS, fits))[0]
    pods = await server.pods(replicas, app="web")
    assert {pod["spec"]["containers"][0]["image"] for pod in pods} <= {f"example.test/app:{image}"}
    return value


async def images(server: Cluster) -> dict[str, Object]:
    """Return the ReplicaSets by image."""
    return {
        one["spec"]["template"]["spec"]["containers"][0]["image"].rpartition(":")[2]: one
        for one in await server.listed(REPLICA_SETS)
    }


async def events(server: Cluster, count: int) -> list[str]:
    """Wait until so many events of the Deployment are there; return what they say."""

    def of_it(found: list[Object]) -> list[Object]:
        return [one for one in found if one["involvedObject"]["kind"] == "Deployment"]

    found = of_it(await server.until(EVENTS, lambda all_: len(of_it(all_)) >= count))
    found.sort(key=lambda one: one["metadata"]["name"])
    return [f"{one['reason']}: {one['message']}" for one in found]


async def test_a_rollout_and_the_way_back(server: Cluster) -> None:
    await server.start(*NAMES)
    await server.hollow("one")
    value = await server.create(DEPLOYMENTS, deployment(4, strategy=rolling(1, 1)))
    value = await complete(server, "1", 4)
    assert value["metadata"]["annotations"][REVISION] == "1"
    assert condition(value, "Available") == condition(value, "Available") | {  # type: ignore[operator]
        "status": "True", "reason": "MinimumReplicasAvailable",
        "message": "Deployment has minimum availability."}  # fmt: skip
    (first,) = await server.listed(REPLICA_SETS)
    hashed = first["metadata"]["labels"][HASH_LABEL]
    assert first["metadata"]["name"] == f"web-{hashed}"
    assert first["spec"]["selector"]["matchLabels"] == {"app": "web", HASH_LABEL: hashed}
    assert first["metadata"]["annotations"] == {
        REVISION: "1", "deployment.kubernetes.io/desired-replicas": "4",
        "deployment.kubernetes.io/max-replicas": "5"}  # fmt: skip
    found = condition(value, "Progressing")
    assert found is not None
    assert found["message"] == f'ReplicaSet "web-{hashed}" has successfully progressed.'
    lowest, highest = 4, 4
    pods = await server.watch(PODS)

    def follow(*_: object) -> None:
        nonlocal lowest, highest
        ready = sum(
            one["status"].get("phase") == "Running" and "deletionTimestamp" not in one["metadata"]
            for one in pods
        )
        active = sum("deletionTimestamp" not in one["metadata"] for one in pods)
        lowest, highest = min(lowest, ready), max(highest, active)

    pods.listen(follow)
    lowest, highest = 4, 4
    await change(server, template=template_of("2"))
    value = await complete(server, "2", 4)
    assert value["metadata"]["annotations"][REVISION] == "2"
    assert lowest >= 3
    assert highest <= 5
    second = (await images(server))["2"]["metadata"]["name"]
    said = await events(server, 3)
    assert said[0] == f"ScalingReplicaSet: Scaled up replica set web-{hashed} from 0 to 4"
    assert said[1].startswith(f"ScalingReplicaSet: Scaled up replica set {second} from 0 to ")
    assert any(f"Scaled down replica set web-{hashed} from 4 to " in one for one in said)
    # As `kubectl rollout undo` does it: the former template is declared again.
    await change(server, template=template_of("1"))
    value = await complete(server, "1", 4)
    assert value["metadata"]["annotations"][REVISION] == "3"
    back = (await images(server))["1"]
    assert back["metadata"]["uid"] == first["metadata"]["uid"]
    assert back["metadata"]["annotations"][REVISION] == "3"
    assert back["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] == "1"


async def test_recreate_starts_nothing_before_all_is_gone(server: Cluster) -> None:
    await server.start(*NAMES)
    await server.hollow("one")
    await server.create(DEPLOYMENTS, deployment(3, strategy={"type": "Recreate"}))
    await complete(server, "1", 3)
    pods = await server.watch(PODS)
    seen: set[frozenset[str]] = set()
    pods.listen(lambda *_: seen.add(frozenset(
        one["spec"]["containers"][0]["image"] for one in pods)))  # fmt: skip
    await change(server, template=template_of("2"))
    await complete(server, "2", 3)
    assert all(len(one) < 2 for one in seen)


async def test_a_paused_deployment_scales_and_rolls_out_later(server: Cluster) -> None:
    await server.start(*NAMES)
    await server.hollow("one")
    await server.create(DEPLOYMENTS, deployment(2))
    await complete(server, "1", 2)
    await change(server, paused=True)
    value = await until_reason(server, "Progressing", "DeploymentPaused")
    found = condition(value, "Progressing")
    assert found is not None
    assert (found["status"], found["message"]) == ("Unknown", "Deployment is paused")
    await change(server, template=template_of("2"), replicas=5)
    await server.until(DEPLOYMENTS, lambda all_: all_[0]["status"].get("readyReplicas") == 5)
    assert set(await images(server)) == {"1"}
    await change(server, paused=False)
    await complete(server, "2", 5)


async def test_history_is_kept_as_long_as_declared(server: Cluster) -> None:
    await server.start(*NAMES)
    await server.hollow("one")
    await server.create(DEPLOYMENTS, deployment(1, revisionHistoryLimit=2))
    for image in ("1", "2", "3", "4", "5"):
        await change(server, template=template_of(image))
        await complete(server, image, 1)
    await server.until(REPLICA_SETS, lambda all_: len(all_) == 3)
    assert sorted(await images(server)) == ["3", "4", "5"]
    await change(server, revisionHistoryLimit=0)
    await server.until(REPLICA_SETS, lambda all_: len(all_) == 1)


async def test_an_image_that_never_runs_is_told_after_the_deadline(server: Cluster) -> None:
    await server.start(*NAMES)

    def decide(pod: Object) -> Object | None:
        works = pod["spec"]["containers"][0]["image"].endswith(":1")
        return running(pod) if works else {"phase": "Pending"}

    await server.hollow("one", decide=decide)
    spec: Any = {"strategy": rolling(1, 0), "progressDeadlineSeconds": 2}
    await server.create(DEPLOYMENTS, deployment(3, **spec))
    await complete(server, "1", 3)
    await change(server, template=template_of("missing"))
    value = await until_reason(server, "Progressing", "ProgressDeadlineExceeded")
    name = (await images(server))["missing"]["metadata"]["name"]
    found = condition(value, "Progressing")
    assert found is not None
    assert found["message"] == f'ReplicaSet "{name}" has timed out progressing.'
    assert found["status"] == "False"
    # What works stays, and what does not is not made more often.
    assert value["status"]["availableReplicas"] == 3
    assert len(await server.listed(PODS)) == 4
    # Another template takes over at once.
    await change(server, template=template_of("1"))
    await complete(server, "1", 3)


async def test_scaling_in_the_middle_of_a_rollout_keeps_the_proportions(server: Cluster) -> None:
    await server.start(*NAMES)

    def decide(pod: Object) -> Object | None:
        works = pod["spec"]["containers"][0]["image"].endswith(":1")
        return running(pod) if works else {"phase": "Pending"}

    await server.hollow("one", decide=decide)
    await server.create(DEPLOYMENTS, deployment(10, strategy=rolling(3, 2)))
    await complete(server, "1", 10)
    await change(server, template=template_of("missing"))
    await server.pods(13, app="web")

    def sizes(found: list[Object]) -> dict[str, int]:
        return {one["spec"]["template"]["spec"]["containers"][0]["image"][-1]:
                one["spec"]["replicas"] for one in found}  # fmt: skip

    await server.until(REPLICA_SETS, lambda all_: sizes(all_) == {"1": 8, "g": 5})
    # The example of Kubernetes' documentation: 5 more, 3 for the old one and 2 for the new one.
    await change(server, replicas=15)
    await server.until(REPLICA_SETS, lambda all_: sizes(all_) == {"1": 11, "g": 7})


async def test_a_name_that_is_taken_is_gone_around(server: Cluster) -> None:
    wanted = deployment(1)
    made = await server.create(DEPLOYMENTS, wanted)
    name = f"web-{hash_of(made['spec']['template'])}"
    thief = {"metadata": {"name": name}, "spec": {
        "replicas": 0, "selector": {"matchLabels": {"app": "thief"}},
        "template": pod_template(app="thief")}}  # fmt: skip
    await server.create(REPLICA_SETS, thief)
    await server.hollow("one")
    await server.start(*NAMES)
    value = await complete(server, "1", 1)
    assert value["status"]["collisionCount"] == 1
    names = {one["metadata"]["name"] for one in await server.listed(REPLICA_SETS)}
    assert names == {name, f"web-{hash_of(made['spec']['template'], 1)}"}


async def test_replica_sets_are_adopted_and_released(server: Cluster) -> None:
    await server.hollow("one")
    orphan = {"metadata": {"name": "orphan", "labels": {"app": "web"}}, "spec": {
        "replicas": 2, "selector": {"matchLabels": {"app": "web"}},
        "template": template_of("1")}}  # fmt: skip
    made = await server.create(REPLICA_SETS, orphan)
    await server.start(*NAMES)
    await server.pods(2, app="web")
    value = await server.create(DEPLOYMENTS, deployment(2))
    value = await complete(server, "1", 2)
    (adopted,) = await server.listed(REPLICA_SETS)
    assert adopted["metadata"]["uid"] == made["metadata"]["uid"]
    assert controller_of(adopted)["uid"] == value["metadata"]["uid"]  # type: ignore[index]
    await server.client.patch(
        REPLICA_SETS.path("default", "orphan"), {"metadata": {"labels": {"app": "other"}}},
        kind=MERGE_PATCH,
    )  # fmt: skip
    found = await server.until(REPLICA_SETS, lambda all_: len(all_) == 2 and any(
        controller_of(one) is None for one in all_))  # fmt: skip
    assert [one["metadata"]["name"] for one in found if not controller_of(one)] == ["orphan"]


async def test_a_quota_stops_a_rollout_and_is_told(server: Cluster) -> None:
    quotas = Resource("v1", "resourcequotas", "ResourceQuota")
    quota = await server.create(
        quotas, {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "2"}}}
    )
    await server.client.patch(
        quotas.path_of(quota, "status"),
        {"status": {"hard": {"pods": "2"}, "used": {"pods": "0"}}}, kind=MERGE_PATCH,
    )  # fmt: skip
    await server.start(*NAMES)
    await server.hollow("one")
    await server.create(DEPLOYMENTS, deployment(4))
    value = await until_reason(server, "ReplicaFailure", "FailedCreate")
    found = condition(value, "ReplicaFailure")
    assert found is not None
    assert "exceeded quota: few" in found["message"]
    await server.client.delete(quotas.path_of(quota))
    value = await complete(server, "1", 4)
    assert condition(value, "ReplicaFailure") is None


async def test_a_replica_set_that_is_refused_is_told(
    server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = await server.start(*NAMES)
    client = host.context.client
    real, refused = client.create, 0

    async def create(path: str, body: object, **more: object) -> Object:
        nonlocal refused
        if path.endswith("replicasets") and refused < 3:
            refused += 1
            raise ApiError(403, "Forbidden", "exceeded quota")
        return await real(path, body)

    monkeypatch.setattr(client, "create", create)
    await server.hollow("one")
    await server.client.request("POST", DEPLOYMENTS.path("default"), deployment(1))
    said = await events(server, 1)
    assert said[0].startswith('ReplicaSetCreateError: Failed to create new replica set "web-')
    assert said[0].endswith('": exceeded quota')
    await complete(server, "1", 1)
    assert refused == 3


async def test_an_old_rollback_by_annotation(server: Cluster) -> None:
    await server.start(*NAMES)
    await server.hollow("one")
    await server.create(DEPLOYMENTS, deployment(1))
    await complete(server, "1", 1)
    await change(server, template=template_of("2"))
    await complete(server, "2", 1)
    name = "deprecated.deployment.rollback.to"
    for revision in ("7", "0"):
        await server.client.patch(
            DEPLOYMENTS.path("default", "web"), {"metadata": {"annotations": {name: revision}}},
            kind=MERGE_PATCH,
        )  # fmt: skip
        await server.until(DEPLOYMENTS, lambda all_: name not in all_[0]["metadata"]["annotations"])
    value = await complete(server, "1", 1)
    assert value["metadata"]["annotations"][REVISION] == "3"
    said = await events(server, 6)
    assert "DeploymentRollbackRevisionNotFound: Unable to find the revision to rollback to." in said
    assert 'DeploymentRollback: Rolled back deployment "web" to revision 1' in said


async def test_killed_at_any_point_a_history_of_edits_ends_as_declared(server: Cluster) -> None:
    chance = random.Random(11)
    await server.hollow("one")
    await server.create(DEPLOYMENTS, deployment(1, strategy=rolling("50%", "50%")))
    wanted, image = 1, "1"
    for _ in range(5):
        host = await server.start(*NAMES)
        for _ in range(3):
            action = chance.choice(("scale", "image", "pod", "set", "wait"))
            if action == "scale":
                wanted = chance.randrange(1, 12)
                await change(server, replicas=wanted)
            elif action == "image":
                image = chance.choice("123")
                await change(server, template=template_of(image))
            elif action in ("pod", "set"):
                resource = PODS if action == "pod" else REPLICA_SETS
                found = await server.listed(resource)
                if found:
                    try:
                        await server.client.delete(resource.path_of(chance.choice(found)))
                    except ApiError as error:
                        assert error.not_found  # noqa: PT017 - it went by itself
            await asyncio.sleep(chance.random() * 0.06)
        await server.stop(host)
    await server.start(*NAMES)
    value = await complete(server, image, wanted)
    sets = await server.listed(REPLICA_SETS)
    assert {controller_of(one)["uid"] for one in sets} == {value["metadata"]["uid"]}  # type: ignore[index]
    assert sum(one["spec"]["replicas"] for one in sets) == wanted
    owners = {one["metadata"]["uid"] for one in sets}
    assert {controller_of(one)["uid"] for one in await server.listed(PODS)} <= owners  # type: ignore[index]


async def test_an_ending_namespace_is_left_alone(server: Cluster) -> None:
    await server.start(*NAMES)
    await server.create(NAMESPACES, {"metadata": {"name": "gone"}})
    held = deployment(1)
    held["metadata"]["finalizers"] = ["example.test/hold"]
    await server.create(DEPLOYMENTS, held, "gone")
    await server.until(REPLICA_SETS, lambda all_: len(all_) == 1)
    pods = await server.watch(PODS)
    highest = 0

    def follow(*_: object) -> None:
        nonlocal highest
        highest = max(highest, len(pods))

    pods.listen(follow)
    await server.client.delete(NAMESPACES.path("", "gone"))
    await server.until(REPLICA_SETS, lambda all_: not all_)
    await server.until(PODS, lambda all_: not all_)
    assert highest <= 1
