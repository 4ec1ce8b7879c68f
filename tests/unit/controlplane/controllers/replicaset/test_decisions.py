"""Which pods go first, what the status says, how fast pods are made again."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controlplane.controllers.replicaset import pace, ranking, status
from controlplane.engine.controller import timestamp
from controlplane.engine.resources import Object

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def ago(seconds: float) -> str:
    return timestamp(NOW - timedelta(seconds=seconds))


def pod(
    name: str, *, node: str = "a", phase: str = "Running", ready: float | None = 1000.0,
    cost: str | None = None, restarts: int = 0, age: float = 5000.0, **more: Any,
) -> Object:  # fmt: skip
    """Return a pod; ``ready``: seconds since it is, None: it is not."""
    annotations = {} if cost is None else {ranking.COST: cost}
    condition = {"type": "Ready", "status": "False" if ready is None else "True",
                 "lastTransitionTime": ago(ready or 0)}  # fmt: skip
    return {
        "metadata": {"name": name, "uid": name, "creationTimestamp": ago(age),
                     "annotations": annotations, "labels": more.pop("labels", {})},
        "spec": {"nodeName": node, "containers": [], **more},
        "status": {"phase": phase, "conditions": [condition],
                   "containerStatuses": [{"name": "c", "restartCount": restarts}]},
    }  # fmt: skip


SIDECAR: Any = {"initContainers": [{"name": "s", "restartPolicy": "Always"}]}


def restarted_sidecar(name: str) -> Object:
    value = pod(name, **SIDECAR)
    value["status"]["initContainerStatuses"] = [{"name": "s", "restartCount": 3}]
    return value


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pod("z", node=""), pod("a", ready=None, phase="Pending")),
        (pod("z", phase="Pending"), pod("a", phase="Unknown", ready=None)),
        (pod("z", phase="Unknown"), pod("a", ready=None, cost="-5")),
        (pod("z", ready=None, cost="9"), pod("a", cost="-9")),
        (pod("z", cost="-1"), pod("a")),
        (pod("z"), pod("a", cost="1", node="crowded")),
        (pod("z", node="crowded", ready=9000), pod("a", ready=1)),
        (pod("z", ready=10), pod("a", ready=1000, restarts=9)),
        (pod("z", restarts=2, age=9000), pod("a", restarts=1, age=1)),
        (restarted_sidecar("z"), pod("a", **SIDECAR)),
        (pod("z", age=10), pod("a", age=5000)),
        (pod("z", ready=None, age=10), pod("a", ready=None, age=5000)),
        # Alike in magnitude: by uid.
        (pod("a", ready=1000), pod("z", ready=900)),
        (pod("a", age=1000), pod("z", age=900)),
        # Not valid, so no cost at all.
        (pod("z", ready=10, cost="+7"), pod("a", ready=1000, cost="007")),
        (pod("z", ready=10, cost="9999999999"), pod("a", ready=1000)),
    ],
)
def test_which_of_two_goes_first(first: Object, second: Object) -> None:
    crowd = [pod("x", node="crowded"), pod("y", node="crowded")]
    for pods in ([first, second], [second, first]):
        assert ranking.first_to_go(pods, [*crowd, *pods], 1, NOW) == [first]


def test_pods_that_ended_crowd_no_node() -> None:
    one, other = pod("z", node="a", ready=10), pod("a", node="b", ready=1000)
    ended = [pod("x", node="b", phase="Failed"), pod("y", node="b", phase="Succeeded")]
    assert ranking.first_to_go([other, one], ended, 1, NOW) == [one]


def test_the_order_does_not_depend_on_the_order_of_coming() -> None:
    pods = [
        pod(f"{number}", node=("", "a", "b")[number % 3], ready=(None, 5, 500)[number // 3 % 3],
            restarts=number // 9 % 2, age=10 * 7**(number % 5))
        for number in range(60)
    ]  # fmt: skip
    wanted = ranking.first_to_go(pods, [], 30, NOW)
    for seed in range(5):
        random.Random(seed).shuffle(pods)
        assert ranking.first_to_go(pods, [], 30, NOW) == wanted


def owner(**more: Any) -> Object:
    template = {"metadata": {"labels": {"app": "x", "tier": "y"}}, "spec": {}}
    return {"metadata": {"generation": 3}, "spec": {"replicas": 2, "template": template, **more}}


def test_the_status_counts() -> None:
    labels = {"app": "x", "tier": "y", "more": "z"}
    pods = [pod("a", labels=labels), pod("b", ready=5), pod("c", ready=None, labels={"app": "x"})]
    assert status.status_of(owner(minReadySeconds=10), pods, 1, NOW, None) == {
        "replicas": 3, "fullyLabeledReplicas": 1, "readyReplicas": 2, "availableReplicas": 1,
        "observedGeneration": 3, "terminatingReplicas": 1,
    }  # fmt: skip
    assert status.status_of(owner(), [], 0, NOW, None) == {
        "replicas": 0, "observedGeneration": 3, "terminatingReplicas": 0}  # fmt: skip
    assert "terminatingReplicas" not in status.status_of(owner(), [], None, NOW, None)


def test_the_condition_of_a_failure_stays_until_it_is_over() -> None:
    value = owner()
    other = {"type": "Other", "status": "True"}
    value["status"] = {"conditions": [other]}
    failure = status.failure_of(value, "FailedCreate", "exceeded quota", NOW)
    assert failure == {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
                       "message": "exceeded quota",
                       "lastTransitionTime": "2026-01-01T12:00:00Z"}  # fmt: skip
    value["status"] = status.status_of(value, [], 0, NOW, failure)
    assert value["status"]["conditions"] == [other, failure]
    later = status.failure_of(value, "FailedDelete", "other", NOW + timedelta(seconds=9))
    assert later == failure
    value["status"] = status.status_of(value, [], 0, NOW, later)
    assert value["status"]["conditions"] == [other, failure]
    assert status.status_of(value, [], 0, NOW, None)["conditions"] == [other]


def test_pods_are_made_at_once_unless_they_fail() -> None:
    one = pace.Pace(0.0)
    assert one.allowed(1000, 0, 0.0) == (1000, None)
    assert one.allowed(1000, 0, 0.1) == (1000, None)
    # One that was evicted does not hold up the others.
    assert one.allowed(1000, 1, 0.2) == (1000, None)


def test_pods_that_fail_again_and_again_are_made_slowly() -> None:
    one, now, made = pace.Pace(0.0), 0.0, 0
    while now < 600.0:
        count, pause = one.allowed(1000, 1000 + made, now)
        made += count
        assert pause is not None
        assert one.slow(now) is not None
        assert pause > 0
        now += max(pause, 0.01)
    assert made <= pace.BURST + 600 * pace.RATE + 1
    # Once they stay, all is as before.
    left = one.slow(now)
    assert left is not None
    assert one.slow(now + left - 1) == pytest.approx(1.0)
    assert one.slow(now + left) is None
    assert one.allowed(1000, 0, now + left) == (1000, None)


def test_what_the_server_refuses_is_tried_ever_later() -> None:
    one, now, pauses = pace.Pace(0.0), 100.0, []
    for _ in range(14):
        pauses.append(one.refused(1, 5, now, None))
        assert one.held(1, 5, now) == pytest.approx(pauses[-1])
        now += pauses[-1]
        assert one.held(1, 5, now) is None
    assert pauses[:3] == pytest.approx([0.05, 0.1, 0.2])
    assert pauses[-1] == pytest.approx(60.0)
    one.refused(1, 5, now, None)
    # Something is different: another specification, or room.
    assert one.held(2, 5, now) is None
    assert one.held(1, 4, now) is None
    assert one.held(1, 6, now) is not None
    one.made()
    assert one.refused(1, 5, now, None) == pytest.approx(0.05)
    assert one.refused(1, 5, now, 7.0) == pytest.approx(7.0)
