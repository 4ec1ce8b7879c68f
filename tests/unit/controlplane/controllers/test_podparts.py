"""Pods made from templates, what is read of pods, and batches of requests."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.controllers import amounts, podcontrol, pods, podtemplates
from controlplane.engine.resources import REPLICA_SETS, Object
from kubeletpy_common.apiclient.errors import ApiError

NOW = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)


def pod(
    phase: str = "Running", ready: str = "True", since: str = "12:00:00", **meta: Any
) -> Object:
    condition = {"type": "Ready", "status": ready, "lastTransitionTime": f"2026-01-01T{since}Z"}
    return {"metadata": {"name": "p", "namespace": "n", **meta},
            "status": {"phase": phase, "conditions": [condition]}}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "total", "down", "up"),
    [
        (3, 10, 3, 3),
        (None, 10, 0, 0),
        ("25%", 10, 2, 3),
        ("25%", 8, 2, 2),
        ("0%", 10, 0, 0),
        ("100%", 7, 7, 7),
        ("1%", 1, 0, 1),
        ("150%", 2, 3, 3),
        ("29%", 100, 29, 29),
    ],
)
def test_amounts(value: int | str | None, total: int, down: int, up: int) -> None:
    assert amounts.scaled(value, total, up=False) == down
    assert amounts.scaled(value, total, up=True) == up


@pytest.mark.parametrize("value", ["3", "%", "a%", "-5%", "1.5%", ""])
def test_amounts_that_are_none(value: str) -> None:
    with pytest.raises(ValueError, match="neither"):
        amounts.scaled(value, 10, up=True)


def test_what_is_active_and_what_is_terminating() -> None:
    going = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    for phase, ended in (("Pending", False), ("Running", False), ("Unknown", False), ("", False),
                         ("Succeeded", True), ("Failed", True)):  # fmt: skip
        assert pods.is_active(pod(phase)) is not ended
        assert pods.has_ended(pod(phase)) is ended
        assert not pods.is_active(pod(phase, **going))
        assert pods.is_terminating(pod(phase, **going)) is not ended
        assert not pods.is_terminating(pod(phase))
    assert pods.phase_of({"metadata": {}}) == "Pending"


@pytest.mark.parametrize(
    ("ready", "since", "min_ready", "available", "wait"),
    [
        ("True", "12:00:00", 0, True, None),
        ("True", "12:00:00", 30, True, None),
        ("True", "12:00:00", 31, False, 1.0),
        ("True", "12:00:29", 10, False, 9.0),
        pytest.param("True", "13:00:00", 10, False, 10.0, id="the clock was put back"),
        ("False", "12:00:00", 0, False, None),
        ("False", "12:00:00", 10, False, None),
        ("Unknown", "12:00:00", 0, False, None),
    ],
)
def test_when_a_pod_is_available(
    ready: str, since: str, min_ready: int, available: bool, wait: float | None
) -> None:
    value = pod(ready=ready, since=since)
    assert pods.is_available(value, min_ready, NOW) is available
    assert pods.next_available([value], min_ready, NOW) == wait


def test_a_ready_pod_of_which_nobody_said_since_when() -> None:
    value = pod()
    del value["status"]["conditions"][0]["lastTransitionTime"]
    assert pods.is_available(value, 0, NOW)
    assert not pods.is_available(value, 5, NOW)
    assert pods.next_available([value, pod(since="12:00:28")], 5, NOW) == 3.0


def test_orphans_are_found_by_namespace() -> None:
    assert pods.orphan_of(pod()) == ["n"]
    assert pods.orphan_of(pod(ownerReferences=[{"uid": "1"}])) == ["n"]
    assert pods.orphan_of(pod(ownerReferences=[{"uid": "1", "controller": True}])) == []


OWNER: Object = {"metadata": {"name": "web-5d", "namespace": "n", "uid": "u1"}}
TEMPLATE: Object = {
    "metadata": {"labels": {"app": "web"}, "annotations": {"a": "b"}, "finalizers": ["x/y"]},
    "spec": {"containers": [{"name": "main", "image": "i"}]},
}


def test_a_pod_from_a_template() -> None:
    made = podtemplates.pod_from(TEMPLATE, OWNER, REPLICA_SETS)
    assert made == {
        "metadata": {
            "namespace": "n", "generateName": "web-5d-", "labels": {"app": "web"},
            "annotations": {"a": "b"}, "finalizers": ["x/y"],
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d",
                                 "uid": "u1", "controller": True, "blockOwnerDeletion": True}],
        },
        "spec": TEMPLATE["spec"],
    }  # fmt: skip
    made["metadata"]["labels"]["more"] = "x"
    made["spec"]["nodeName"] = "x"
    assert "more" not in TEMPLATE["metadata"]["labels"]
    assert "nodeName" not in TEMPLATE["spec"]


def test_a_name_as_long_as_can_be_has_no_dash() -> None:
    owner = {"metadata": {"name": "a" * 253, "namespace": "n", "uid": "u"}}
    meta = podtemplates.pod_from({"spec": {}}, owner, REPLICA_SETS)["metadata"]
    assert meta["generateName"] == "a" * 253
    assert meta["labels"] == {}
    assert podtemplates.name_of("a" * 253, "bcd") == "a" * 249 + "-bcd"
    assert podtemplates.name_of("web", "bcd") == "web-bcd"


def test_a_hash_stays_what_it_is() -> None:
    # Other versions and processes must find the same: it names objects that are there.
    assert podtemplates.hash_of({"b": 1, "a": [2]}) == podtemplates.hash_of({"a": [2], "b": 1})
    assert podtemplates.hash_of({"a": 1}) == "d7ffcc88c"
    found = {podtemplates.hash_of({"a": 1}, number) for number in (None, 0, 1, 2)}
    assert len(found) == 4


@given(st.integers(), st.one_of(st.none(), st.integers(0, 9)))
def test_a_hash_is_usable_in_names(value: int, collisions: int | None) -> None:
    found = podtemplates.hash_of({"a": value % 2**63}, collisions)
    assert 0 < len(found) <= 10
    assert set(found) <= set(podtemplates.ALPHABET)


def test_templates_are_compared_without_their_hash() -> None:
    labels = {"app": "web", podtemplates.HASH_LABEL: "x"}
    meta = {**TEMPLATE["metadata"], "creationTimestamp": None, "labels": labels}
    hashed = {**TEMPLATE, "metadata": meta}
    assert podtemplates.same_template(TEMPLATE, hashed)
    assert podtemplates.same_template({"metadata": {"labels": {}}, "spec": {}}, {"spec": {}})
    other = {**TEMPLATE, "spec": {"containers": [{"name": "main", "image": "j"}]}}
    assert not podtemplates.same_template(TEMPLATE, other)
    other = {**TEMPLATE, "metadata": {"labels": {"app": "web"}}}
    assert not podtemplates.same_template(TEMPLATE, other)


@pytest.mark.parametrize(
    ("count", "fails", "done", "tried"),
    [
        (0, set(), 0, 0),
        (1, set(), 1, 1),
        (10, set(), 10, 10),
        (1000, set(), 1000, 1000),
        (1000, {0}, 0, 1),
        (1000, {2}, 2, 3),
        (1000, {1, 2}, 1, 3),
        (1000, {100}, 126, 127),
    ],
)
async def test_a_slow_start(count: int, fails: set[int], done: int, tried: int) -> None:
    numbers: list[int] = []
    busy = highest = 0

    async def call(number: int) -> None:
        nonlocal busy, highest
        numbers.append(number)
        busy += 1
        highest = max(highest, busy)
        await asyncio.sleep(0)
        busy -= 1
        if number in fails:
            raise ApiError(403, "Forbidden", f"number {number}")

    found, error = await podcontrol.slow_start(count, call)
    assert (found, len(numbers)) == (done, tried)
    assert sorted(numbers) == list(range(tried))
    assert (error is not None) == bool(fails)
    assert highest <= podcontrol.AT_ONCE


def test_an_ending_namespace_is_told_from_other_refusals() -> None:
    causes = [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]
    error = ApiError(403, "Forbidden", "x", details={"causes": causes})
    assert podcontrol.is_namespace_ending(error)
    assert not podcontrol.is_namespace_ending(ApiError(403, "Forbidden", "exceeded quota"))
