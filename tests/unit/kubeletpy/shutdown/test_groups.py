from __future__ import annotations

from typing import Any

import pytest

from kubeletpy.api.meta import ObjectMeta
from kubeletpy.api.pod import Pod, PodSpec
from kubeletpy.settings.configuration import convert
from kubeletpy.shutdown.groups import CRITICAL, Group, grace, groups, members, requested

PERIODS = {"shutdownGracePeriod": "30s", "shutdownGracePeriodCriticalPods": "10s"}
BY_PRIORITY = {
    "shutdownGracePeriodByPodPriority": [
        {"priority": 1000, "shutdownGracePeriodSeconds": 60},
        {"priority": -5, "shutdownGracePeriodSeconds": 5},
        {"priority": 100000, "shutdownGracePeriodSeconds": 10},
    ]
}


def pod(name: str, priority: int | None, own: int | None = None) -> Pod:
    spec = PodSpec(priority=priority, termination_grace_period_seconds=own)
    return Pod(metadata=ObjectMeta(name=name), spec=spec)


@pytest.mark.parametrize(
    ("fields", "found", "seconds"),
    [
        ({}, (), 0),
        (PERIODS, (Group(0, 20), Group(CRITICAL, 10)), 30),
        ({"shutdownGracePeriod": "5s"}, (Group(0, 5), Group(CRITICAL, 0)), 5),
        (BY_PRIORITY, (Group(-5, 5), Group(1000, 60), Group(100000, 10)), 75),
    ],
)
def test_groups(fields: dict[str, Any], found: tuple[Group, ...], seconds: int) -> None:
    assert groups(convert(fields)) == found
    assert requested(found) == seconds


def test_pods_are_in_the_group_of_their_priority() -> None:
    pods = [pod("lowest", -9), pod("low", 0), pod("none", None), pod("at", 1000),
            pod("between", 5000), pod("high", 2 * CRITICAL // 2)]  # fmt: skip
    found = members(groups(convert(BY_PRIORITY)), pods)
    assert [[one.metadata.name for one in each] for _, each in found] == [
        ["lowest", "low", "none"], ["at", "between"], ["high"],
    ]  # fmt: skip


@pytest.mark.parametrize(("own", "seconds"), [(None, 20), (30, 20), (3, 3), (0, 0)])
def test_a_pod_gets_its_own_time_but_not_more_than_its_group(own: int | None, seconds: int) -> None:
    assert grace(Group(0, 20), pod("p", 0, own)) == seconds
