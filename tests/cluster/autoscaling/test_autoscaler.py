"""Autoscalers against an API server, with metrics of a small extension server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.engine.controller import now, timestamp
from controlplane.engine.resources import (
    AUTOSCALERS,
    CONFIG_MAPS,
    PODS,
    REPLICATION_CONTROLLERS,
    Object,
    Resource,
)
from kubeletpy_common.apiclient.errors import ApiError
from tests.support.cluster import Cluster, cluster
from tests.support.extension import Extension, extension, reason, register
from tests.support.hollow import running

NAME = "horizontal-pod-autoscaler-controller"
EVENTS = Resource("v1", "events", "Event")
QUICK = {
    "horizontal_pod_autoscaler_sync_period": 0.2,
    "horizontal_pod_autoscaler_downscale_stabilization": 0.0,
    "horizontal_pod_autoscaler_cpu_initialization_period": 0.0,
    "horizontal_pod_autoscaler_initial_readiness_delay": 0.0,
}
METRICS = "/apis/metrics.k8s.io/v1beta1"
CUSTOM = "/apis/custom.metrics.k8s.io/v1beta2"
EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


@pytest.fixture
async def sample(server: Cluster, tmp_path: Path) -> AsyncIterator[Extension]:
    """All three metrics APIs, behind one Service."""
    trust = await server.get(CONFIG_MAPS, "extension-apiserver-authentication", "kube-system")
    trusted = trust["data"]["requestheader-client-ca-file"]
    async with extension(tmp_path, trusted, "sample.default.svc") as made:
        for path in (METRICS, CUSTOM, EXTERNAL):
            made.answers[path] = {"kind": "APIResourceList", "resources": []}
        await register(server, made.port, made.bundle, group="metrics.k8s.io", version="v1beta1")
        for path in (CUSTOM, EXTERNAL):
            _, _, group, version = path.split("/")
            spec = {
                "group": group, "version": version, "groupPriorityMinimum": 100,
                "versionPriority": 200, "insecureSkipTLSVerify": True,
                "service": {"namespace": "default", "name": "sample"},
            }  # fmt: skip
            value = {"metadata": {"name": f"{version}.{group}"}, "spec": spec}
            await server.create(API_SERVICES, value)
        for path in (METRICS, CUSTOM, EXTERNAL):
            _, _, group, version = path.split("/")
            await reason(server, f"{version}.{group}", "Passed")
        yield made


API_SERVICES = Resource("apiregistration.k8s.io/v1", "apiservices", "APIService", namespaced=False)


async def target(server: Cluster, replicas: int, name: str = "web", **labels: str) -> Object:
    """Make a target and its pods, which run and ask for one CPU each."""
    labels = labels or {"app": name}
    container = {"name": "main", "image": "x", "resources": {"requests": {"cpu": "1"}}}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    made = await server.create(REPLICATION_CONTROLLERS, {
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": labels, "template": template},
    })  # fmt: skip
    status = {"replicas": replicas}
    path = REPLICATION_CONTROLLERS.path_of(made, "status")
    await server.client.patch(path, {"status": status})
    for number in range(replicas):
        pod = {"metadata": {"name": f"{name}-{number}", "labels": labels},
               "spec": {"containers": [container], "nodeName": "n"}}  # fmt: skip
        made = await server.create(PODS, pod)
        await server.client.patch(PODS.path_of(made, "status"), {"status": running(made)})
    return made


def measured(name: str, *values: str) -> Object:
    """Return PodMetrics of the pods of a target."""
    items = [
        {"metadata": {"name": f"{name}-{number}", "namespace": "default"}, "window": "15s",
         "timestamp": timestamp(now()), "containers": [{"name": "main", "usage": {"cpu": value}}]}
        for number, value in enumerate(values)
    ]  # fmt: skip
    return {"kind": "PodMetricsList", "metadata": {}, "items": items}


def autoscaler(name: str = "web", most: int = 10, **spec: Any) -> Object:
    reference = {"apiVersion": "v1", "kind": "ReplicationController", "name": "web"}
    utilization = {"type": "Utilization", "averageUtilization": 50}
    resource = {"name": "cpu", "target": utilization}
    return {"metadata": {"name": name}, "spec": {
        "scaleTargetRef": reference, "minReplicas": 1, "maxReplicas": most,
        "metrics": [{"type": "Resource", "resource": resource}], **spec}}  # fmt: skip


def told(value: Object) -> dict[str, tuple[str, str]]:
    """Return status and reason of each condition."""
    listed = value.get("status", {}).get("conditions") or ()
    return {one["type"]: (one["status"], one["reason"]) for one in listed}


async def replicas(server: Cluster, count: int, name: str = "web") -> None:
    await server.until(REPLICATION_CONTROLLERS, lambda found: any(
        one["metadata"]["name"] == name and one["spec"]["replicas"] == count
        for one in found))  # fmt: skip


async def condition(server: Cluster, kind: str, status: str, reason: str) -> Object:
    """Wait for a condition of an autoscaler; return the autoscaler."""
    found = await server.until(AUTOSCALERS, lambda all: any(
        told(one).get(kind) == (status, reason) for one in all))  # fmt: skip
    return next(one for one in found if told(one).get(kind) == (status, reason))


async def event(server: Cluster, reason: str) -> str:
    """Wait for an event; return its message."""
    found = await server.until(EVENTS, lambda all: any(one["reason"] == reason for one in all))
    return str(next(one for one in found if one["reason"] == reason)["message"])


async def test_pods_that_use_much_become_more_and_then_fewer(
    server: Cluster, sample: Extension
) -> None:
    await target(server, 2)
    path = f"{METRICS}/namespaces/default/pods"
    sample.answers[path] = measured("web", "1", "500m")
    await server.create(AUTOSCALERS, autoscaler())
    host = await server.start(NAME, **QUICK)
    await replicas(server, 3)
    text = "New size: 3; reason: cpu resource utilization (percentage of request) above target"
    assert await event(server, "SuccessfulRescale") == text
    found = await server.until(AUTOSCALERS, lambda all: bool(
        all[0].get("status", {}).get("lastScaleTime")))  # fmt: skip
    status = found[0]["status"]
    assert status["currentMetrics"] == [{"type": "Resource", "resource": {
        "name": "cpu", "current": {"averageUtilization": 75, "averageValue": "750m"}}}]  # fmt: skip
    assert told(found[0])["ScalingActive"] == ("True", "ValidMetricFound")
    sample.answers[path] = measured("web", "100m", "100m")
    await replicas(server, 1)
    # Only where it changed was it told.
    await condition(server, "ScalingLimited", "False", "DesiredWithinRange")
    await server.until(AUTOSCALERS, lambda all: all[0]["status"].get("desiredReplicas") == 1)
    counted, prefix = server.counted(host), "horizontal_pod_autoscaler_controller"
    assert counted[f"{prefix}_reconciliations_total/scale_up/none"] == 1
    assert counted[f"{prefix}_reconciliations_total/scale_down/none"] == 1
    assert counted[f"{prefix}_metric_computation_total/scale_up/none/Resource"] == 1
    assert counted[f"{prefix}_desired_replicas/default/web"] == 1
    assert counted[f"{prefix}_num_horizontal_pod_autoscalers"] == 1
    query = [asked for asked, _, _ in sample.asked if asked.startswith(path)]
    assert set(query) == {f"{path}?labelSelector=app%3Dweb"} or set(query) == {
        f"{path}?labelSelector=app=web"
    }


@pytest.mark.parametrize(
    ("metric", "path", "items", "wanted"),
    [
        ({"type": "Pods", "pods": {
            "metric": {"name": "rps"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
         f"{CUSTOM}/namespaces/default/pods/*/rps",
         [{"describedObject": {"name": f"web-{n}"}, "value": "20", "timestamp": "x"}
          for n in (0, 1)],
         {"type": "Pods", "pods": {"metric": {"name": "rps"}, "current": {"averageValue": "20"}}}),
        ({"type": "Object", "object": {
            "metric": {"name": "rps"}, "target": {"type": "Value", "value": "10"},
            "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "front"}}},
         f"{CUSTOM}/namespaces/default/services/front/rps", [{"value": "20"}],
         {"type": "Object", "object": {
             "metric": {"name": "rps"}, "current": {"value": "20"},
             "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "front"}}}),
        ({"type": "External", "external": {
            "metric": {"name": "queue", "selector": {"matchLabels": {"of": "me"}}},
            "target": {"type": "AverageValue", "averageValue": "10"}}},
         f"{EXTERNAL}/namespaces/default/queue", [{"value": "15"}, {"value": "24500m"}],
         {"type": "External", "external": {
             "metric": {"name": "queue", "selector": {"matchLabels": {"of": "me"}}},
             "current": {"averageValue": "19750m"}}}),
        ({"type": "ContainerResource", "containerResource": {
            "name": "cpu", "container": "main",
            "target": {"type": "AverageValue", "averageValue": "250m"}}},
         f"{METRICS}/namespaces/default/pods", measured("web", "500m", "500m")["items"],
         {"type": "ContainerResource", "containerResource": {
             "name": "cpu", "container": "main", "current": {"averageValue": "500m"}}}),
    ],
    ids=["pods", "object", "external", "container"],
)  # fmt: skip
async def test_every_kind_of_metric(
    server: Cluster, sample: Extension, metric: Any, path: str, items: Any, wanted: Any
) -> None:
    await target(server, 2)
    sample.answers[path] = {"kind": "List", "items": items}
    await server.create(AUTOSCALERS, autoscaler(metrics=[metric]))
    await server.start(NAME, **QUICK)
    await replicas(server, 4)
    found = await server.until(AUTOSCALERS, lambda all: bool(
        all[0].get("status", {}).get("currentMetrics")))  # fmt: skip
    assert found[0]["status"]["currentMetrics"] == [wanted]


async def test_rules_of_an_autoscaler(server: Cluster, sample: Extension) -> None:
    await target(server, 2)
    path = f"{METRICS}/namespaces/default/pods"
    sample.answers[path] = measured("web", "8", "8")
    policy = {"type": "Pods", "value": 1, "periodSeconds": 1}
    up = {"policies": [policy], "selectPolicy": "Max", "stabilizationWindowSeconds": 0}
    behavior = {"scaleUp": up, "scaleDown": {"selectPolicy": "Disabled"}}
    await server.create(AUTOSCALERS, autoscaler(most=4, behavior=behavior))
    seen: list[int] = []
    informer = await server.watch(REPLICATION_CONTROLLERS)
    informer.listen(lambda before, one: seen.append(one["spec"]["replicas"]) if one else None)
    await server.start(NAME, **QUICK)
    await replicas(server, 4)
    assert list(dict.fromkeys(seen)) == [2, 3, 4]
    await condition(server, "ScalingLimited", "True", "TooManyReplicas")
    sample.answers[path] = measured("web", "0", "0")
    await condition(server, "ScalingLimited", "True", "ScaleDownLimit")
    assert (await server.get(REPLICATION_CONTROLLERS, "web"))["spec"]["replicas"] == 4


async def test_no_metrics_is_told_and_nothing_is_scaled(server: Cluster) -> None:
    await target(server, 2)
    await server.create(AUTOSCALERS, autoscaler())
    host = await server.start(NAME, **QUICK)
    found = await condition(server, "ScalingActive", "False", "FailedGetResourceMetric")
    text = (
        "failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch "
        "metrics from resource metrics API: the server could not find the requested resource "
        "(get pods.metrics.k8s.io)"
    )
    messages = {one["type"]: one["message"] for one in found["status"]["conditions"]}
    assert messages["ScalingActive"] == (f"the HPA was unable to compute the replica count: {text}")
    assert await event(server, "FailedGetResourceMetric") == text
    assert await event(server, "FailedComputeMetricsReplicas") == (
        f"invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric "
        f"value: {text}"
    )
    # It does not look more often because it fails.
    part = host.parts[0]
    counts = part.queue.counts  # type: ignore[attr-defined]
    before = counts.done
    await asyncio.sleep(1)
    assert counts.done - before <= 6
    assert counts.retried == 0


@pytest.mark.parametrize(
    ("count", "spec", "wanted", "why"),
    [
        (5, {"maxReplicas": 3}, 3, "Current number of replicas above Spec.MaxReplicas"),
        (1, {"minReplicas": 4}, 4, "Current number of replicas below Spec.MinReplicas"),
    ],
)
async def test_bounds_need_no_metrics(
    server: Cluster, count: int, spec: Any, wanted: int, why: str
) -> None:
    await target(server, count)
    await server.create(AUTOSCALERS, autoscaler(**spec))
    await server.start(NAME, **QUICK)
    await replicas(server, wanted)
    assert await event(server, "SuccessfulRescale") == f"New size: {wanted}; reason: {why}"


async def test_what_was_scaled_to_zero_by_hand_is_left_alone(server: Cluster) -> None:
    await target(server, 0)
    await server.create(AUTOSCALERS, autoscaler())
    await server.start(NAME, **QUICK)
    found = await condition(server, "ScalingActive", "False", "ScalingDisabled")
    assert found["status"]["currentReplicas"] == 0


async def test_pods_have_one_autoscaler(server: Cluster, sample: Extension) -> None:
    await target(server, 2)
    sample.answers[f"{METRICS}/namespaces/default/pods"] = measured("web", "500m", "500m")
    await server.create(AUTOSCALERS, autoscaler("a"))
    await server.create(AUTOSCALERS, autoscaler("b"))
    await server.start(NAME, **QUICK)
    text = "pods by selector app=web are controlled by multiple HPAs: [default/a default/b]"
    assert await event(server, "AmbiguousSelector") == text
    await condition(server, "ScalingActive", "False", "AmbiguousSelector")
    await server.client.delete(AUTOSCALERS.path("default", "b"))
    await condition(server, "ScalingActive", "True", "ValidMetricFound")


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ({"apiVersion": "v1", "kind": "ReplicationController", "name": "none"},
         'replicationcontrollers "none" not found'),
        ({"apiVersion": "apps/v1", "kind": "Wonder", "name": "x"},
         'no matches for kind "Wonder" in group "apps"'),
    ],
)  # fmt: skip
async def test_a_target_that_is_not_there(server: Cluster, reference: Any, text: str) -> None:
    await server.create(AUTOSCALERS, autoscaler(scaleTargetRef=reference))
    await server.start(NAME, **QUICK)
    found = await condition(server, "AbleToScale", "False", "FailedGetScale")
    [one] = found["status"]["conditions"]
    assert (
        one["message"] == f"the HPA controller was unable to get the target's current scale: {text}"
    )
    assert await event(server, "FailedGetScale") == text


async def test_killed_at_any_point_it_ends_where_it_should(
    server: Cluster, sample: Extension
) -> None:
    await target(server, 2)
    path = f"{METRICS}/namespaces/default/pods"
    sample.answers[path] = measured("web", "2", "2")
    await server.create(AUTOSCALERS, autoscaler())
    chance = random.Random(7)
    for _ in range(8):
        host = await server.start(NAME, **QUICK)
        await asyncio.sleep(chance.uniform(0, 0.05))
        await server.stop(host)
    await server.start(NAME, **QUICK)
    # Two pods at 200 % of what they ask for, aimed at 50 %: eight, by steps of two at most.
    await replicas(server, 8)
    await server.until(AUTOSCALERS, lambda found: any(
        one["status"]["desiredReplicas"] == 8 for one in found))  # fmt: skip


async def test_a_refused_scale_is_told(server: Cluster, sample: Extension) -> None:
    """Who may not scale says so, and tries again in its own time."""
    await target(server, 2)
    sample.answers[f"{METRICS}/namespaces/default/pods"] = measured("web", "2", "2")
    client, real = server.client, server.client.update

    async def update(path: str, body: object, **more: Any) -> dict[str, Any]:
        if path.endswith("/scale"):
            raise ApiError(403, "Forbidden", "no more of these")
        return await real(path, body, **more)

    client.update = update  # type: ignore[method-assign]
    await server.create(AUTOSCALERS, autoscaler())
    await server.start(NAME, **QUICK)
    text = "New size: 4; reason: cpu resource utilization (percentage of request) above target; "
    assert await event(server, "FailedRescale") == f"{text}error: no more of these"
    await condition(server, "AbleToScale", "False", "FailedUpdateScale")
