from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kubeletpy.cri.node import NodeFacts
from kubeletpy.cri.resources import container_resources
from kubeletpy.resources.policy import ResourcePolicy
from kubeletpy.resources.swap import swap_bytes

from ..api.pods import make_pod, with_container

GI = 2**30
LIMITED = ResourcePolicy(swap_behavior="LimitedSwap", swap_accounted=True, swap_bytes=4 * GI)


@pytest.mark.parametrize(
    ("resources", "more", "expected"),
    [
        ({"requests": {"memory": "2Gi"}}, {}, GI),
        ({"requests": {"memory": "2Gi"}, "limits": {"memory": "4Gi"}}, {}, GI),
        # No request, a limit that is the request, Guaranteed, BestEffort, critical: none.
        ({"requests": {"cpu": "1"}}, {}, 0),
        ({"requests": {"memory": "2Gi", "cpu": "1"}, "limits": {"memory": "2Gi"}}, {}, 0),
        ({"limits": {"memory": "2Gi", "cpu": "1"}}, {}, 0),
        ({}, {}, 0),
        ({"requests": {"memory": "2Gi"}}, {"priority": 2_000_000_000}, 0),
        # More than the node has.
        ({"requests": {"memory": "9Gi"}}, {}, 0),
    ],
)
def test_share_of_the_swap(resources: dict[str, Any], more: dict[str, Any], expected: int) -> None:
    pod = make_pod(**with_container(resources=resources), **more)
    container = pod.spec.containers[0]
    assert swap_bytes(pod, container, LIMITED, 2, 8 * GI) == expected
    assert swap_bytes(pod, container, LIMITED, 1, 8 * GI) == 0
    assert swap_bytes(pod, container, ResourcePolicy(swap_bytes=GI), 2, 8 * GI) == 0


def test_what_the_runtime_is_told() -> None:
    pod = make_pod(**with_container(resources={"requests": {"memory": "2Gi"},
                                               "limits": {"memory": "4Gi"}}))  # fmt: skip
    container = pod.spec.containers[0]
    node = NodeFacts(name="n", memory_bytes=8 * GI, resources=LIMITED, cgroup_version=2)
    second = container_resources(pod, container, node)
    assert second.unified["memory.swap.max"] == str(GI)
    assert second.memory_swap_limit_in_bytes == 0
    first = container_resources(pod, container, replace(node, cgroup_version=1))
    assert first.memory_swap_limit_in_bytes == 4 * GI
    assert not first.unified
