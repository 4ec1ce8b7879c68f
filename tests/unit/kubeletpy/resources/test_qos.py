from __future__ import annotations

from typing import Any

import pytest

from kubeletpy.resources.qos import qos_class

from ..api.pods import make_pod

FULL = {"limits": {"cpu": "1", "memory": "1Gi"}}


def pod_class(*containers: dict[str, Any], **spec: Any) -> str:
    listed = [
        {"name": f"c{index}", "image": "x:1", "resources": resources}
        for index, resources in enumerate(containers)
    ]
    return qos_class(make_pod(containers=listed, **spec))


@pytest.mark.parametrize(
    ("containers", "expected"),
    [
        ([{}], "BestEffort"),
        ([{"limits": {"cpu": "0"}}], "BestEffort"),
        ([{"requests": {"ephemeral-storage": "1"}}], "BestEffort"),
        ([FULL], "Guaranteed"),
        ([FULL, FULL], "Guaranteed"),
        ([FULL, {}], "Burstable"),
        ([{"limits": {"cpu": "1"}}], "Burstable"),
        ([{"requests": {"cpu": "1", "memory": "1Gi"}}], "Burstable"),
        ([{**FULL, "requests": {"cpu": "500m"}}], "Burstable"),
        ([{**FULL, "requests": {"cpu": "1000m", "memory": "1024Mi"}}], "Guaranteed"),
    ],
)
def test_classes(containers: list[dict[str, Any]], expected: str) -> None:
    assert pod_class(*containers) == expected


def test_init_containers_count() -> None:
    init = {"name": "init", "image": "x"}
    assert pod_class(FULL, initContainers=[init]) == "Burstable"
    assert pod_class(FULL, initContainers=[{**init, "resources": FULL}]) == "Guaranteed"


def test_resources_of_the_pod_decide_alone() -> None:
    assert pod_class({}, resources=FULL) == "Guaranteed"
    assert pod_class(FULL, resources={"requests": {"cpu": "1"}}) == "Burstable"
