"""Sizes of ReplicaSets, revisions, counts and conditions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.controllers.deployment import revisions, rollout, status
from controlplane.engine.controller import timestamp
from controlplane.engine.resources import Object

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def ago(seconds: float) -> str:
    return timestamp(NOW - timedelta(seconds=seconds))


def deployment(
    replicas: int, surge: int | str = "25%", unavailable: int | str = "25%", **more: Any
) -> Object:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {
        "maxSurge": surge, "maxUnavailable": unavailable}}  # fmt: skip
    return {
        "metadata": {"name": "web", "generation": 2, "annotations": more.pop("annotations", {})},
        "status": more.pop("status", {}),
        "spec": {"replicas": replicas, "strategy": strategy, "progressDeadlineSeconds": 600,
                 "template": {"spec": {"image": "new"}}, **more},
    }  # fmt: skip


def replica_set(
    name: str, size: int, available: int | None = None, *, image: str = "old", age: float = 0,
    annotations: dict[str, str] | None = None, **status_: Any,
) -> Object:  # fmt: skip
    available = size if available is None else available
    return {
        "metadata": {"name": name, "uid": name, "creationTimestamp": ago(age), "generation": 1,
                     "annotations": annotations or {}},
        "spec": {"replicas": size, "template": {"spec": {"image": image}}},
        "status": {"replicas": size, "readyReplicas": available, "availableReplicas": available,
                   "observedGeneration": 1, "terminatingReplicas": 0, **status_},
    }  # fmt: skip


RECREATE: Object = {"metadata": {}, "spec": {"replicas": 5, "strategy": {"type": "Recreate"}}}


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "bounds"),
    [
        (10, "25%", "25%", (3, 2)),
        (10, 3, 2, (3, 2)),
        (1, "25%", "25%", (1, 0)),
        (1, 0, "1%", (0, 1)),
        (2, 0, "1%", (0, 1)),
        (4, "0%", "10%", (0, 1)),
        (3, 0, 9, (0, 3)),
        (0, "25%", "25%", (0, 0)),
        (0, 2, 2, (2, 0)),
    ],
)
def test_bounds(
    replicas: int, surge: int | str, unavailable: int | str, bounds: tuple[int, int]
) -> None:
    assert rollout.bounds_of(deployment(replicas, surge, unavailable)) == bounds
    assert rollout.bounds_of(RECREATE) == (0, 0)


def test_the_oldest_with_the_template_is_the_new_one() -> None:
    sets = [replica_set("b", 1, image="new", age=5), replica_set("c", 1, image="new", age=9),
            replica_set("a", 1, age=5), replica_set("d", 1, age=7)]  # fmt: skip
    new, old = rollout.split(deployment(1), sets)
    assert new is sets[1]
    assert [one["metadata"]["name"] for one in old] == ["d", "a", "b"]
    assert rollout.split(deployment(1), sets[2:])[0] is None


@pytest.mark.parametrize(
    ("sizes", "new", "expected"),
    [
        ([10], 0, 3),
        ([10], 3, 3),
        ([8], 3, 5),
        ([0], 5, 10),
        ([13], 0, 0),
        ([], 0, 10),
        ([2, 3], 7, 8),
        ([5], 10, 10),
    ],
)
def test_the_size_of_the_new_one(sizes: list[int], new: int, expected: int) -> None:
    sets = [replica_set(f"old{size}", size) for size in sizes]
    if new:
        sets.append(replica_set("new", new, image="new"))
    assert rollout.size_of_new(deployment(10), sets, new) == expected
    assert rollout.size_of_new(RECREATE, sets, new) == 5


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # (size, available) of each; 10 replicas, at most 13, at least 8.
        ([(10, 10)], (3, 0), [("old0", 8)]),
        ([(8, 8)], (5, 0), []),
        ([(8, 8)], (5, 3), [("old0", 5)]),
        ([(10, 10)], (0, 0), [("old0", 8)]),
        # Those that do not work go first, whatever their age, and as many as may be missing.
        ([(4, 4), (6, 1)], (3, 0), [("old1", 4)]),
        ([(2, 1), (9, 9)], (2, 2), [("old0", 1), ("old0", 0), ("old1", 6)]),
        # Nothing of the new one works: only what nobody misses goes.
        ([(8, 7)], (5, 0), []),
        ([(9, 4)], (4, 0), [("old0", 8)]),
        # Rolled over: the former new one goes at once.
        ([(8, 8), (5, 0)], (0, 0), [("old1", 0)]),
        # The last decision is not carried out yet.
        ([(5, 8)], (5, 5), []),
        ([(0, 0)], (10, 10), []),
    ],
)
def test_old_ones_become_smaller(
    old: list[tuple[int, int]], new: tuple[int, int], expected: list[tuple[str, int]]
) -> None:
    sets = [replica_set(f"old{number}", *one, age=90 - number) for number, one in enumerate(old)]
    newest = replica_set("new", *new, image="new")
    steps = rollout.scale_down_of_old(deployment(10, 3, 2), sets, newest)
    assert [(one.target["metadata"]["name"], one.size) for one in steps] == expected


@given(
    st.integers(1, 30), st.integers(0, 5), st.integers(0, 5),
    st.lists(st.integers(0, 30), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_a_rollout_always_ends_and_keeps_its_bounds(
    replicas: int, surge: int, unavailable: int, sizes: list[int], chance: Any
) -> None:
    value = deployment(replicas, surge, unavailable)
    lowest = replicas - rollout.bounds_of(value)[1]
    new = replica_set("new", 0, image="new")
    old = [replica_set(f"old{n}", size, age=n) for n, size in enumerate(sizes)]
    before = sum(sizes)
    for _ in range(300):
        size = rollout.size_of_new(value, [*old, new], new["spec"]["replicas"])
        if size != new["spec"]["replicas"]:
            new["spec"]["replicas"] = size
        else:
            for step in rollout.scale_down_of_old(value, old, new):
                assert step.size < step.target["spec"]["replicas"]
                step.target["spec"]["replicas"] = step.size
        for one in (*old, new):
            if chance.random() < 0.7:  # its controller got to it
                ready = one["spec"]["replicas"]
                one["status"]["replicas"] = one["status"]["availableReplicas"] = ready
        counts = [one["spec"]["replicas"] for one in (*old, new)]
        assert sum(counts) <= max(before, rollout.highest_of(value))
        available = sum(
            min(one["spec"]["replicas"], one["status"]["availableReplicas"]) for one in (*old, new)
        )
        assert available >= min(before, lowest)
        if not any(counts[:-1]) and counts[-1] == replicas:
            return
    raise AssertionError(f"it does not end: {counts}")


MOST, DESIRED = revisions.MOST, revisions.DESIRED


@pytest.mark.parametrize(
    ("replicas", "before", "sizes", "expected"),
    [
        # Kubernetes' documentation: 10, at most 13, scaled to 15, at most 18.
        (15, 13, [8, 5], [11, 7]),
        (5, 13, [8, 5], [5, 3]),
        (0, 13, [8, 5], [0, 0]),
        (10, 13, [8, 5], [8, 5]),
        (11, 13, [8, 5], [9, 5]),
        (20, 13, [5, 4, 4], [9, 7, 7]),
        # Someone took the annotation away.
        (15, None, [8, 5], [11, 7]),
    ],
)
def test_proportional_scaling(
    replicas: int, before: int | None, sizes: list[int], expected: list[int]
) -> None:
    annotations = {MOST: str(before)} if before is not None else {}
    sets = [replica_set(f"{n}", size, age=90 - n, annotations=annotations)
            for n, size in enumerate(sizes)]  # fmt: skip
    value = deployment(replicas, 3, 2, status={"replicas": 13})
    steps = rollout.proportions(value, [*sets, replica_set("idle", 0)])
    assert {one.target["metadata"]["name"]: one.size for one in steps} == {
        f"{n}": size for n, size in enumerate(expected)}  # fmt: skip
    allowed = replicas + 3 if replicas else 0
    assert sum(one.size for one in steps) == allowed or replicas == 10


def test_which_is_scaled_where_there_is_one() -> None:
    one, idle, newest = replica_set("a", 3), replica_set("b", 0, age=9), replica_set("c", 0)
    assert rollout.active_or_latest(newest, [one, idle]) is one
    assert rollout.active_or_latest(newest, [idle]) is newest
    assert rollout.active_or_latest(None, [idle, newest]) is newest
    assert rollout.active_or_latest(one, [replica_set("d", 1)]) is None
    assert rollout.active_or_latest(None, []) is None


def test_what_counts_as_scaled_and_as_saturated() -> None:
    value = deployment(3)
    assert not rollout.is_scaled(value, [replica_set("a", 3, annotations={DESIRED: "3"})])
    assert rollout.is_scaled(value, [replica_set("a", 3, annotations={DESIRED: "4"})])
    assert not rollout.is_scaled(value, [replica_set("a", 0, annotations={DESIRED: "4"})])
    for text in ("x", "-1", "99999999999", ""):
        assert not rollout.is_scaled(value, [replica_set("a", 3, annotations={DESIRED: text})])
    assert rollout.is_saturated(value, replica_set("a", 3, annotations={DESIRED: "3"}))
    assert not rollout.is_saturated(value, replica_set("a", 3, 2, annotations={DESIRED: "3"}))
    assert not rollout.is_saturated(value, replica_set("a", 3))
    assert not rollout.is_saturated(value, None)


REVISION, HISTORY = revisions.REVISION, revisions.HISTORY
MINE = {"team": "x", "kubectl.kubernetes.io/last-applied-configuration": "{}", REVISION: "9",
        DESIRED: "7"}  # fmt: skip


@pytest.mark.parametrize(
    ("before", "revision", "expected"),
    [
        ({}, 1, {"team": "x", REVISION: "1"}),
        ({REVISION: "3", "team": "y"}, 2, {"team": "x", REVISION: "3"}),
        ({REVISION: "1"}, 4, {"team": "x", REVISION: "4", HISTORY: "1"}),
        ({REVISION: "4", HISTORY: "1"}, 6, {"team": "x", REVISION: "6", HISTORY: "1,4"}),
        ({REVISION: "no"}, 6, {REVISION: "no"}),
    ],
)
def test_annotations_of_the_new_one(
    before: dict[str, str], revision: int, expected: dict[str, str]
) -> None:
    value = deployment(1, annotations=MINE)
    assert revisions.annotations_of_new(value, before, revision) == expected


def test_a_history_is_not_endless() -> None:
    before = {REVISION: "1000", HISTORY: ",".join(str(number) for number in range(600))}
    found = revisions.annotations_of_new(deployment(1), before, 1001)[HISTORY]
    assert len(found) <= 2000
    assert found.endswith(",599,1000")


def test_revisions_are_ordered() -> None:
    sets = [replica_set(f"{n}", 0, annotations={REVISION: text}) for n, text in
            enumerate(("3", "x", "11", "7"))]  # fmt: skip
    assert revisions.latest(sets) == 11
    assert revisions.last_but_one(sets) == 7
    assert revisions.last_but_one(sets[:1]) == 0
    assert revisions.latest([]) == 0


def test_what_is_forgotten() -> None:
    def names(limit: int | None, *sets: Object) -> list[str]:
        found = revisions.to_forget(deployment(1, revisionHistoryLimit=limit), sets)
        return [one["metadata"]["name"] for one in found]

    def old(number: int, size: int = 0, **more: Any) -> Object:
        value = replica_set(f"r{number}", size, annotations={REVISION: str(number)})
        value["status"].update(more)
        return value

    sets = [old(12), old(3), old(2, 1), old(1), old(4)]
    assert names(0, *sets) == ["r1", "r3", "r4", "r12"]
    # Those with pods count, but stay.
    assert names(3, *sets) == ["r1"]
    assert names(5, *sets) == []
    assert names(None, *sets) == []
    assert names(2**31 - 1, *sets) == []
    assert names(0, old(1, replicas=1), old(2, observedGeneration=0)) == []
    going = old(1)
    going["metadata"]["deletionTimestamp"] = ago(1)
    assert names(1, going, old(2)) == []


def test_a_rollback_takes_the_annotations_back() -> None:
    old = replica_set("a", 0, annotations={"cause": "first", REVISION: "1"})
    value = deployment(1, annotations={**MINE, revisions.ROLLBACK: "1"})
    found = revisions.annotations_after_rollback(value, old)
    assert found == {**{name: text for name, text in MINE.items() if name != "team"},
                     "cause": "first"}  # fmt: skip


def test_the_counts() -> None:
    new, old = replica_set("n", 3, 1, image="new", terminatingReplicas=2), replica_set("o", 4, 3)
    made = status.status_of(deployment(5, status={"collisionCount": 2}), new, [old], NOW)
    conditions = made.pop("conditions")
    assert made == {
        "observedGeneration": 2, "replicas": 7, "updatedReplicas": 3, "readyReplicas": 4,
        "availableReplicas": 4, "unavailableReplicas": 3, "terminatingReplicas": 2,
        "collisionCount": 2,
    }  # fmt: skip
    assert [(one["type"], one["status"], one["reason"]) for one in conditions] == [
        ("Available", "True", "MinimumReplicasAvailable")]  # fmt: skip
    del old["status"]["terminatingReplicas"]
    assert "terminatingReplicas" not in status.status_of(deployment(9), new, [old], NOW)
    made = status.status_of(deployment(9), new, [old], NOW)
    assert made["conditions"][0]["message"] == "Deployment does not have minimum availability."


def shown(value: Object, new: Object | None, *old: Object, now: datetime = NOW) -> Object:
    """Return the condition Progressing after a rollout step."""
    made = status.rollout_status(value, new, list(old), now)
    found = status.find(made["conditions"], status.PROGRESSING)
    assert found is not None
    return found


def progressing(reason: str, age: float, value: str = "True") -> Object:
    return {"type": "Progressing", "status": value, "reason": reason, "message": "m",
            "lastUpdateTime": ago(age), "lastTransitionTime": ago(age)}  # fmt: skip


def test_progress() -> None:
    before = {"replicas": 3, "updatedReplicas": 1, "readyReplicas": 3, "availableReplicas": 3,
              "conditions": [progressing("NewReplicaSetCreated", 300)]}  # fmt: skip
    value = deployment(3, status=before)
    # More new ones: it gets on, and the deadline counts from now.
    found = shown(value, replica_set("n", 2, 2, image="new"), replica_set("o", 1))
    assert (found["reason"], found["message"]) == (
        "ReplicaSetUpdated", 'ReplicaSet "n" is progressing.')  # fmt: skip
    assert (found["lastUpdateTime"], found["lastTransitionTime"]) == (ago(0), ago(300))
    # Nothing new.
    same = shown(value, replica_set("n", 1, 1, image="new"), replica_set("o", 2, 2))
    assert same == before["conditions"][0]  # type: ignore[index]
    late = NOW + timedelta(seconds=301)
    found = shown(
        value, replica_set("n", 1, 1, image="new"), replica_set("o", 2, 2), now=late
    )  # fmt: skip
    assert (found["status"], found["reason"]) == ("False", "ProgressDeadlineExceeded")
    assert found["message"] == 'ReplicaSet "n" has timed out progressing.'
    found = shown(value, replica_set("n", 3, image="new"), replica_set("o", 0), now=late)
    assert (found["reason"], found["message"]) == (
        "NewReplicaSetAvailable", 'ReplicaSet "n" has successfully progressed.')  # fmt: skip


def test_what_was_complete_does_not_time_out() -> None:
    done = progressing(status.COMPLETE, 9999)
    counts = {"replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3}
    value = deployment(3, status={**counts, "conditions": [done]})
    assert shown(value, replica_set("n", 3, 1, image="new")) == done
    assert status.seconds_to_deadline(value, NOW) is None
    # Another template begins a rollout of its own.
    value["status"]["updatedReplicas"] = 0
    found = shown(value, replica_set("n", 0, image="new"), replica_set("o", 3))
    assert found == done


def test_without_a_deadline_nothing_is_said_of_progress() -> None:
    value = deployment(3, progressDeadlineSeconds=2**31 - 1)
    value["status"] = {"conditions": [progressing("ReplicaSetUpdated", 1)]}
    made = status.rollout_status(value, replica_set("n", 3, image="new"), [], NOW)
    assert status.find(made["conditions"], status.PROGRESSING) is None
    assert status.seconds_to_deadline(value, NOW) is None
    assert status.pause_change(value, NOW) is None


def test_when_the_deadline_is() -> None:
    value = deployment(3, status={"conditions": [progressing("ReplicaSetUpdated", 590)]})
    assert status.seconds_to_deadline(value, NOW) == pytest.approx(10.1)
    assert status.seconds_to_deadline(value, NOW + timedelta(hours=1)) == pytest.approx(0.1)
    value["status"]["conditions"] = [progressing(status.TIMED_OUT, 700, "False")]
    assert status.seconds_to_deadline(value, NOW) is None


def test_a_replica_set_that_fails_is_shown_the_new_one_first() -> None:
    def failing(name: str, image: str) -> Object:
        failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
                   "message": name, "lastTransitionTime": ago(5)}  # fmt: skip
        return replica_set(name, 1, image=image, conditions=[failure])

    new, old = failing("n", "new"), failing("o", "old")
    for sets, message in (((new, [old]), "n"), ((replica_set("n", 1), [old]), "o")):
        made = status.rollout_status(deployment(2), *sets, NOW)
        found = status.find(made["conditions"], "ReplicaFailure")
        assert found is not None
        assert (found["message"], found["lastUpdateTime"]) == (message, ago(5))
    value = deployment(2, status=made)
    made = status.rollout_status(value, replica_set("n", 1), [], NOW)
    assert status.find(made["conditions"], "ReplicaFailure") is None


def test_pausing_and_resuming_are_told() -> None:
    value = deployment(2, paused=True)
    made = status.pause_change(value, NOW)
    assert made is not None
    assert (made[0]["status"], made[0]["reason"], made[0]["message"]) == (
        "Unknown", "DeploymentPaused", "Deployment is paused")  # fmt: skip
    value["status"]["conditions"] = made
    assert status.pause_change(value, NOW) is None
    value["spec"]["paused"] = False
    resumed = status.pause_change(value, NOW + timedelta(seconds=9))
    assert resumed is not None
    assert (resumed[0]["reason"], resumed[0]["message"]) == (
        "DeploymentResumed", "Deployment is resumed")  # fmt: skip
    assert resumed[0]["lastTransitionTime"] == ago(0)
    value["status"]["conditions"] = [progressing(status.TIMED_OUT, 1, "False")]
    value["spec"]["paused"] = True
    assert status.pause_change(value, NOW) is None
