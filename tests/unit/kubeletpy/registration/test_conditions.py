from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubeletpy.registration.conditions import aggregate, conditions, differ

T0 = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
T1 = T0 + timedelta(minutes=1)


def by_type(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["type"]: one for one in found}


def test_a_new_node() -> None:
    found, events = conditions((), (), ["container runtime is down"], T0)
    assert [one["type"] for one in found] == [
        "MemoryPressure", "DiskPressure", "PIDPressure", "Ready",
    ]  # fmt: skip
    ready = by_type(found)["Ready"]
    assert (ready["status"], ready["reason"], ready["message"]) == (
        "False", "KubeletNotReady", "container runtime is down",
    )  # fmt: skip
    assert ready["lastTransitionTime"] == "2026-01-02T03:04:05Z"
    # Of Ready an event tells only when it changes.
    assert events == ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID"]


@pytest.mark.parametrize(
    ("pressure", "faults", "name", "status", "reason", "event"),
    [
        (["MemoryPressure"], [], "MemoryPressure", "True", "KubeletHasInsufficientMemory",
         "NodeHasInsufficientMemory"),
        (["DiskPressure"], [], "DiskPressure", "True", "KubeletHasDiskPressure",
         "NodeHasDiskPressure"),
        (["PIDPressure"], [], "PIDPressure", "True", "KubeletHasInsufficientPID",
         "NodeHasInsufficientPID"),
        ([], ["a"], "Ready", "False", "KubeletNotReady", "NodeNotReady"),
    ],
)  # fmt: skip
def test_a_change_and_back(
    pressure: list[str], faults: list[str], name: str, status: str, reason: str, event: str
) -> None:
    before, _ = conditions((), (), (), T0)
    found, events = conditions(before, pressure, faults, T1)
    one = by_type(found)[name]
    assert (one["status"], one["reason"]) == (status, reason)
    assert one["lastTransitionTime"] == one["lastHeartbeatTime"] == "2026-01-02T03:05:05Z"
    assert events == [event]
    assert differ(before, found)
    back, events = conditions(found, (), (), T1 + timedelta(seconds=1))
    assert len(events) == 1
    assert by_type(back)[name]["lastTransitionTime"] == "2026-01-02T03:05:06Z"


def test_a_heart_beat_is_no_change() -> None:
    before, _ = conditions((), (), (), T0)
    found, events = conditions(before, (), (), T1)
    assert not events
    assert not differ(before, found)
    assert by_type(found)["Ready"]["lastTransitionTime"] == "2026-01-02T03:04:05Z"
    assert by_type(found)["Ready"]["lastHeartbeatTime"] == "2026-01-02T03:05:05Z"


def test_conditions_of_others_stay() -> None:
    other = {"type": "NetworkUnavailable", "status": "False"}
    found, _ = conditions([other], (), (), T0)
    assert other in found


def test_reasons_are_joined_as_in_go() -> None:
    assert aggregate(["a"]) == "a"
    assert aggregate(["a", "b", "a"]) == "[a, b]"
