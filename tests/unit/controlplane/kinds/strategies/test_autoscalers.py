from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.kinds.strategies import STRATEGIES
from controlplane.kinds.strategies.autoscaling.first_version import FirstVersion
from tests.unit.controlplane.server.client import Api, running_api

OLD = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers"
NEW = OLD.replace("/v1/", "/v2/")
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
PREFIX = "autoscaling.alpha.kubernetes.io/"
CPU = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
}
METRICS: list[dict[str, Any]] = [
    {
        "type": "Resource",
        "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}},
    },
    {
        "type": "Pods",
        "pods": {
            "metric": {"name": "m", "selector": {"matchLabels": {"a": "b"}}},
            "target": {"type": "AverageValue", "averageValue": "10"},
        },
    },
    {
        "type": "Object",
        "object": {
            "describedObject": {"kind": "Ingress", "name": "i"},
            "metric": {"name": "r"},
            "target": {"type": "Value", "value": "2k"},
        },
    },
    {
        "type": "External",
        "external": {
            "metric": {"name": "q", "selector": {"matchLabels": {"a": "b"}}},
            "target": {"type": "AverageValue", "averageValue": "3"},
        },
    },
    {
        "type": "ContainerResource",
        "containerResource": {
            "name": "cpu",
            "container": "c",
            "target": {"type": "Utilization", "averageUtilization": 7},
        },
    },
    CPU,
]
RULES = {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 5}]}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path, strategies=STRATEGIES) as made:
        yield made


async def test_one_object_in_two_versions(api: Api) -> None:
    spec = {"scaleTargetRef": TARGET, "maxReplicas": 3, "metrics": METRICS}
    spec["behavior"] = {"scaleUp": RULES}
    made = await api.make("a", NEW, spec=spec)
    _, old = await api.call("GET", f"{OLD}/a")
    assert old["apiVersion"] == "autoscaling/v1"
    assert old["spec"] == {
        "scaleTargetRef": TARGET,
        "minReplicas": 1,
        "maxReplicas": 3,
        "targetCPUUtilizationPercentage": 50,
    }
    others = json.loads(old["metadata"]["annotations"][f"{PREFIX}metrics"])
    assert others[0] == {
        "type": "Resource",
        "resource": {"name": "memory", "targetAverageValue": "1Gi"},
    }
    assert len(others) == len(METRICS) - 1
    behavior = json.loads(old["metadata"]["annotations"][f"{PREFIX}behavior"])
    assert behavior["ScaleUp"]["Policies"] == [{"Type": "Pods", "Value": 1, "PeriodSeconds": 5}]
    old["spec"]["maxReplicas"] = 4
    status, _ = await api.call("PUT", f"{OLD}/a", old)
    new = (await api.call("GET", f"{NEW}/a"))[1]
    assert (status, new["spec"]) == (200, {**made["spec"], "maxReplicas": 4})
    assert "annotations" not in new["metadata"]
    _, listed = await api.call("GET", OLD)
    assert listed["items"][0]["spec"]["targetCPUUtilizationPercentage"] == 50


async def test_an_autoscaler_made_by_version_1_is_kept_as_version_2(api: Api) -> None:
    spec = {"scaleTargetRef": TARGET, "maxReplicas": 3}
    old = await api.make("a", OLD, spec=spec)
    assert old["spec"]["targetCPUUtilizationPercentage"] == 80
    _, new = await api.call("GET", f"{NEW}/a")
    assert new["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 80
    status, error = await api.call(
        "POST", OLD, {"metadata": {"name": "b"}, "spec": {**spec, "maxReplicas": 0}}
    )
    assert (status, error["details"]["causes"][0]["field"]) == (422, "spec.maxReplicas")


@pytest.mark.parametrize("text", ["", "{", "3", "[1]", '{"a": 1}', "null"])
def test_annotations_that_say_nothing_are_none(text: str) -> None:
    value = {
        "metadata": {"annotations": {f"{PREFIX}metrics": text}},
        "spec": {"targetCPUUtilizationPercentage": 50, "maxReplicas": 1},
    }
    assert FirstVersion().to_stored(value)["spec"]["metrics"] == [CPU]
