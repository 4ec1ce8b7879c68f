from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from proxy.health.state import Health, eligible
from proxy.model.objects import Node
from proxy.model.portal import Family

V4, V6 = Family.V4, Family.V6


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def test_before_the_first_sync_all_is_well() -> None:
    clock = Clock()
    health = Health(60, clock)
    health.queued(V4)
    clock.now += 1000
    assert health.report(True) == (True, {
        "lastUpdated": "2023-11-14T22:30:00Z", "currentTime": "2023-11-14T22:30:00Z",
        "nodeEligible": True, "healthy": True,
    })  # fmt: skip


def test_a_family_that_does_not_keep_up_is_unhealthy_until_it_does() -> None:
    clock = Clock()
    health = Health(60, clock)
    health.updated(V4)
    health.updated(V6)
    clock.now += 10
    health.queued(V6)
    clock.now += 30
    health.queued(V6)
    assert health.healthy
    clock.now += 30
    well, body = health.report()
    assert not well
    assert "nodeEligible" not in body
    assert body["lastUpdated"] == "2023-11-14T22:13:20Z"
    assert {name: each["healthy"] for name, each in body["status"].items()} == {
        "IPv4": True, "IPv6": False,
    }  # fmt: skip
    health.updated(V6)
    assert health.report()[0]


def test_a_node_that_goes_gets_no_traffic_though_the_proxy_is_healthy() -> None:
    health = Health(60, Clock())
    well, body = health.report(False)
    assert not well
    assert (body["healthy"], body["nodeEligible"]) == (True, False)
    assert body["lastUpdated"] == "0001-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"spec": {"taints": [{"key": "other", "effect": "NoSchedule"}]}}, True),
        ({"spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler"}]}}, False),
        ({"metadata": {"name": "x", "deletionTimestamp": "2026-01-01T00:00:00Z"}}, False),
    ],
)
def test_who_is_eligible(fields: dict[str, Any], expected: bool) -> None:
    data = {"metadata": {"name": "x"}} | fields
    assert eligible(msgspec.json.decode(json.dumps(data), type=Node)) is expected


def test_a_node_that_is_not_known_is_not_eligible() -> None:
    assert not eligible(None)
