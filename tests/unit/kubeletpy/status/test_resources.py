from __future__ import annotations

from typing import Any

import pytest

from kubeletpy.api.container import ResourceRequirements
from kubeletpy.api.quantity import Quantity
from kubeletpy.api.status import PodCondition, PodStatus
from kubeletpy.pods.actions import decide
from kubeletpy.pods.plan import Desired
from kubeletpy.pods.state import Observed, RuntimeLimits
from kubeletpy.resize.plan import Actual
from kubeletpy.resources.limits import Limits
from kubeletpy.status.generate import Node, pod_status

from ..pods.build import NOW, box, container, desired, observed, record

RESOURCES = ResourceRequirements(
    requests={"cpu": Quantity("100m"), "memory": Quantity("64Mi")},
    limits={"cpu": Quantity("200m"), "memory": Quantity("64Mi")},
)


def status_of(one: Desired, state: Observed, previous: PodStatus | None = None) -> PodStatus:
    return pod_status(one, state, decide(one, state, NOW), node=Node(), now=NOW, previous=previous)


def shown(resources: ResourceRequirements | None) -> dict[str, dict[str, str]]:
    assert resources is not None
    return {
        name: {key: str(amount) for key, amount in amounts.items()}
        for name, amounts in (("requests", resources.requests), ("limits", resources.limits))
    }


@pytest.mark.parametrize(
    ("limits", "requests_cpu", "limits_cpu", "limits_memory"),
    [
        # What the runtime says, where it says something.
        (RuntimeLimits(153, 30_000, 100_000, 128 * 2**20), "150m", "300m", "128Mi"),
        (RuntimeLimits(), "100m", "200m", "64Mi"),
        (None, "100m", "200m", "64Mi"),
    ],
)
def test_what_a_running_container_has(
    limits: Any, requests_cpu: str, limits_cpu: str, limits_memory: str
) -> None:
    one = desired(container("a", resources=RESOURCES))
    status = status_of(one, observed(box(), record("a", "running", limits=limits)))
    (found,) = status.container_statuses
    assert shown(found.resources) == {
        "requests": {"cpu": requests_cpu, "memory": "64Mi"},
        "limits": {"cpu": limits_cpu, "memory": limits_memory},
    }
    assert {name: str(amount) for name, amount in found.allocated_resources.items()} == {
        "cpu": "100m", "memory": "64Mi",
    }  # fmt: skip


def test_the_smallest_amounts_are_shown_as_allocated() -> None:
    tiny = ResourceRequirements(requests={"cpu": Quantity("1m")}, limits={"cpu": Quantity("5m")})
    one = desired(container("a", resources=tiny))
    limits = RuntimeLimits(2, 1000, 100_000)
    status = status_of(one, observed(box(), record("a", "running", limits=limits)))
    assert shown(status.container_statuses[0].resources) == {
        "requests": {"cpu": "1m"}, "limits": {"cpu": "5m"},
    }  # fmt: skip


def test_a_container_without_resources_shows_none() -> None:
    limits = RuntimeLimits(2, 0, 100_000)
    status = status_of(desired("a"), observed(box(), record("a", "running", limits=limits)))
    assert status.container_statuses[0].resources == ResourceRequirements()


def test_the_pod_as_a_whole() -> None:
    one = desired(
        container("a", resources=RESOURCES),
        resources=ResourceRequirements(
            requests={"cpu": Quantity("1")}, limits={"cpu": Quantity("2")}
        ),
    )
    actual = Actual(pod=Limits(1536, 250_000, 100_000, 2**30), wanted=Limits(1024))
    status = status_of(one, observed(box(), record("a", "running"), actual=actual))
    assert shown(status.resources) == {
        "requests": {"cpu": "1500m", "memory": "64Mi"},
        "limits": {"cpu": "2500m", "memory": "1Gi"},
    }
    assert str(status.allocated_resources["cpu"]) == "1"
    pending = status_of(one, observed(box(), record("a", "created")))
    assert shown(pending.resources)["requests"] == {"cpu": "1", "memory": "64Mi"}


def test_conditions_of_a_resize_come_and_go() -> None:
    pending = PodCondition(type="PodResizePending", status="True", reason="Deferred")
    one, running = desired("a"), record("a", "running")
    first = status_of(one, observed(box(), running, actual=Actual(conditions=(pending,))))
    assert first.conditions[-1] == pending
    second = status_of(one, observed(box(), running), first)
    assert "PodResizePending" not in {each.type for each in second.conditions}
