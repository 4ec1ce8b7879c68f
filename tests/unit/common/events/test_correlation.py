"""Which events are written, and how."""

from __future__ import annotations

from typing import Any

from kubeletpy_common.events.correlation import BURST, COMBINED, Correlator


def event(reason: str = "Failed", message: str = "no", name: str = "web") -> dict[str, Any]:
    return {
        "metadata": {"name": f"{name}.{reason}.{message}", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": name, "uid": name},
        "type": "Warning", "reason": reason, "message": message, "count": 1,
        "firstTimestamp": "2026-01-01T00:00:00Z", "source": {"component": "kubelet"},
    }  # fmt: skip


def test_the_same_again_counts_up_the_one_that_is_there() -> None:
    correlator = Correlator()
    first, second, third = (correlator.observe(event(), now) for now in (0.0, 1.0, 2.0))
    assert first is not None
    assert second is not None
    assert third is not None
    assert [one.again for one in (first, second, third)] == [False, True, True]
    assert [one.event["count"] for one in (first, second, third)] == [1, 2, 3]
    assert len({one.event["metadata"]["name"] for one in (first, second, third)}) == 1
    assert third.event["firstTimestamp"] == first.event["firstTimestamp"]


def test_an_event_that_vanished_is_made_anew() -> None:
    correlator = Correlator()
    first = correlator.observe(event(), 0.0)
    assert first
    correlator.missing(first.key)
    again = correlator.observe(event(), 1.0)
    assert again is not None
    assert (again.again, again.event["count"]) == (False, 1)


def test_many_similar_ones_are_combined() -> None:
    correlator = Correlator()
    writes = [correlator.observe(event(message=str(number)), number) for number in range(12)]
    texts = [write.event["message"] for write in writes if write]
    assert texts[:9] == [str(number) for number in range(9)]
    assert texts[9:] == [f"{COMBINED}{number}" for number in (9, 10, 11)]
    assert [write.event["count"] for write in writes[9:] if write] == [1, 2, 3]
    assert [write.again for write in writes[9:] if write] == [False, True, True]


def test_similar_ones_long_ago_do_not_count() -> None:
    correlator = Correlator()
    for number in range(9):
        correlator.observe(event(message=str(number)), number)
    late = correlator.observe(event(message="late"), 700.0)
    assert late is not None
    assert late.event["message"] == "late"


def test_a_storm_of_one_object_is_held_and_others_pass() -> None:
    correlator = Correlator()
    passed = [correlator.observe(event(reason=f"R{one}"), 0.0) is not None for one in range(40)]
    assert passed == [True] * BURST + [False] * (40 - BURST)
    assert correlator.observe(event(name="other"), 0.0)
    assert correlator.observe(event(reason="later"), 300.5)
    assert not correlator.observe(event(reason="too soon"), 301.0)
