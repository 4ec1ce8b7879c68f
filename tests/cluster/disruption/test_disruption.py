"""PodDisruptionBudgets and evictions against an API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from controlplane.controllers.disruption.controller import DisruptionController
from controlplane.engine.controller import Context, now, timestamp
from controlplane.engine.resources import BUDGETS, PODS, STATEFUL_SETS, Object, Resource
from kubeletpy_common.apiclient.client import MERGE_PATCH, STRATEGIC_PATCH
from kubeletpy_common.apiclient.errors import ApiError
from tests.cluster.statefulset.sets import done, web
from tests.support.cluster import Cluster, cluster, pod_template

NAME = "disruption-controller"
EVENTS = Resource("v1", "events", "Event")
DEFINITIONS = Resource("apiextensions.k8s.io/v1", "customresourcedefinitions",
                       "CustomResourceDefinition", namespaced=False)  # fmt: skip
CROWDS = Resource("example.test/v1", "crowds", "Crowd")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


def budget(app: str = "web", **spec: Any) -> Object:
    return {"metadata": {"name": app},
            "spec": {"selector": {"matchLabels": {"app": app}}, **spec}}  # fmt: skip


def tells(**wanted: Any) -> Callable[[list[Object]], bool]:
    def check(found: list[Object]) -> bool:
        return bool(found) and {
            name: found[0].get("status", {}).get(name) for name in wanted
        } == wanted  # fmt: skip

    return check


async def evict(server: Cluster, name: str) -> ApiError | None:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    try:
        await server.client.create(PODS.path("default", name, "eviction"), body)
    except ApiError as error:
        return error
    return None


async def condition(server: Cluster, kind: str = "DisruptionAllowed") -> Object:
    [found] = await server.listed(BUDGETS)
    made: Object = next(one for one in found["status"]["conditions"] if one["type"] == kind)
    return made


async def test_evictions_keep_to_the_budget(server: Cluster) -> None:
    await server.hollow("one")
    await server.start(NAME, "statefulset-controller")
    await server.create(STATEFUL_SETS, web(4, podManagementPolicy="Parallel"))
    await server.create(BUDGETS, budget(maxUnavailable="25%"))
    await server.until(STATEFUL_SETS, done(4))
    await server.until(BUDGETS, tells(currentHealthy=4, desiredHealthy=3, expectedPods=4,
                                      disruptionsAllowed=1, observedGeneration=1))  # fmt: skip
    assert (await condition(server))["reason"] == "SufficientPods"
    # All at once: the budget is enough for one.
    answers = await asyncio.gather(*(evict(server, f"web-{number}") for number in range(4)))
    refused = [answer for answer in answers if answer is not None]
    assert len(refused) == 3
    assert {answer.code for answer in refused} == {429}
    assert {answer.details["causes"][0]["reason"] for answer in refused} == {"DisruptionBudget"}
    # The set makes it anew, and then the next may go.
    await server.until(BUDGETS, tells(currentHealthy=4, disruptionsAllowed=1, disruptedPods=None))
    assert await evict(server, "web-0") is None
    await server.until(BUDGETS, tells(currentHealthy=4, disruptionsAllowed=1))
    # What is told follows the scale.
    await server.client.patch(
        STATEFUL_SETS.path("default", "web"), {"spec": {"replicas": 2}}, kind=MERGE_PATCH
    )
    await server.until(BUDGETS, tells(currentHealthy=2, expectedPods=2, disruptionsAllowed=1))


async def test_a_pod_that_was_allowed_to_go_and_stays_counts_again(server: Cluster) -> None:
    shift = timedelta(0)

    def made(context: Context) -> DisruptionController:
        context.clock = lambda: now() + shift
        return DisruptionController(context)

    await server.hollow("one")
    for number in range(2):
        await server.create(PODS, {
            "metadata": {"name": f"web-{number}", "labels": {"app": "web"}},
            "spec": {**pod_template()["spec"], "nodeName": "one"}})  # fmt: skip
    host = await server.start_parts([made])
    await server.create(BUDGETS, budget(minAvailable=1))
    await server.until(BUDGETS, tells(currentHealthy=2, disruptionsAllowed=1))
    told = {"status": {"disruptionsAllowed": 0, "disruptedPods": {"web-0": timestamp(now())}}}
    path = BUDGETS.path("default", "web", "status")
    await server.client.patch(path, told, kind=MERGE_PATCH)
    await server.until(BUDGETS, tells(currentHealthy=1, disruptionsAllowed=0))
    await server.stop(host)
    shift = timedelta(minutes=3)
    await server.start_parts([made])
    await server.until(BUDGETS, tells(currentHealthy=2, disruptionsAllowed=1, disruptedPods=None))
    await server.until(EVENTS, lambda found: any(
        one["reason"] == "NotDeleted" and one["involvedObject"]["name"] == "web-0"
        and one["message"] == "Pod was expected by PDB default/web to be deleted but it wasn't"
        for one in found))  # fmt: skip


async def test_the_scale_of_any_kind(server: Cluster) -> None:
    schema = {"type": "object", "properties": {
        part: {"type": "object", "properties": {"replicas": {"type": "integer"}}}
        for part in ("spec", "status")}}  # fmt: skip
    version = {
        "name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}, "scale": {
            "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
    }  # fmt: skip
    names = {"plural": "crowds", "singular": "crowd", "kind": "Crowd", "listKind": "CrowdList"}
    await server.create(DEFINITIONS, {
        "metadata": {"name": "crowds.example.test"},
        "spec": {"group": "example.test", "scope": "Namespaced", "names": names,
                 "versions": [version]},
    })  # fmt: skip
    await server.until(DEFINITIONS, lambda found: any(
        one["type"] == "Established" and one["status"] == "True"
        for one in found[0].get("status", {}).get("conditions", ())))  # fmt: skip
    crowd = await server.create(CROWDS, {"metadata": {"name": "c"}, "spec": {"replicas": 10}})
    reference = {"apiVersion": "example.test/v1", "kind": "Crowd", "name": "c",
                 "uid": crowd["metadata"]["uid"], "controller": True}  # fmt: skip
    await server.hollow("one")
    await server.start(NAME)
    await server.create(BUDGETS, budget(minAvailable="50%"))
    meta = {"name": "web-0", "labels": {"app": "web"}, "ownerReferences": [reference]}
    spec = {**pod_template()["spec"], "nodeName": "one"}
    await server.create(PODS, {"metadata": meta, "spec": spec})
    await server.until(BUDGETS, tells(currentHealthy=1, desiredHealthy=5, expectedPods=10))
    # What has no scale cannot be counted, so nothing may be evicted.
    other = {**reference, "apiVersion": "v1", "kind": "ConfigMap", "uid": "x"}
    meta = {"name": "web-1", "labels": {"app": "web"}, "ownerReferences": [other]}
    await server.create(PODS, {"metadata": meta, "spec": spec})
    await server.until(BUDGETS, lambda found: any(
        one["reason"] == "SyncFailed" for one in found[0]["status"]["conditions"]))  # fmt: skip
    message = "configmaps does not implement the scale subresource"
    assert (await condition(server))["message"] == message
    answer = await evict(server, "web-0")
    assert answer is not None
    assert answer.details["causes"][0]["message"] == (
        "The disruption budget web does not allow evicting pods currently because it failed sync: "
        + message
    )
    await server.until(EVENTS, lambda found: any(
        one["reason"] == "CalculateExpectedPodCountFailed" and one["message"].endswith(message)
        for one in found))  # fmt: skip


async def test_a_stale_condition_is_taken_back(server: Cluster) -> None:
    await server.hollow("one")
    spec = {**pod_template()["spec"], "nodeName": "one"}
    for name in ("stale", "fresh"):
        await server.create(PODS, {"metadata": {"name": name}, "spec": spec})
    await server.until(PODS, lambda found: all(
        pod["status"].get("phase") == "Running" for pod in found) and len(found) == 2)  # fmt: skip
    moments = {"stale": datetime.now(UTC) - timedelta(seconds=119), "fresh": datetime.now(UTC)}
    for name, moment in moments.items():
        target = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
                  "message": "m", "lastTransitionTime": timestamp(moment)}  # fmt: skip
        await server.client.patch(
            PODS.path("default", name, "status"), {"status": {"conditions": [target]}},
            kind=STRATEGIC_PATCH,
        )  # fmt: skip
    await server.start(NAME)

    def state(found: list[Object]) -> dict[str, str]:
        return {
            pod["metadata"]["name"]: one["status"] for pod in found
            for one in pod["status"]["conditions"] if one["type"] == "DisruptionTarget"
        }  # fmt: skip

    assert state(await server.listed(PODS)) == {"stale": "True", "fresh": "True"}
    await server.until(PODS, lambda found: state(found) == {"stale": "False", "fresh": "True"})


async def test_two_budgets_of_a_pod_are_both_told_and_told_of(server: Cluster) -> None:
    await server.hollow("one")
    await server.start(NAME)
    for name in ("one", "two"):
        selector = {"selector": {"matchLabels": {"app": "web"}}, "minAvailable": 1}
        await server.create(BUDGETS, {"metadata": {"name": name}, "spec": selector})
    await server.until(BUDGETS, lambda found: all(
        one.get("status", {}).get("observedGeneration") for one in found) and len(found) == 2
    )  # fmt: skip
    spec = {**pod_template()["spec"], "nodeName": "one"}
    await server.create(PODS, {"metadata": {"name": "p", "labels": {"app": "web"}}, "spec": spec})
    await server.until(BUDGETS, lambda found: all(
        one["status"]["currentHealthy"] == 1 for one in found))  # fmt: skip
    await server.until(EVENTS, lambda found: any(
        one["reason"] == "MultiplePodDisruptionBudgets" for one in found))  # fmt: skip
    answer = await evict(server, "p")
    assert answer is not None
    assert answer.code == 500
