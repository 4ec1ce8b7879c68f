"""What is decided for a Job, from plain data."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.controllers.job import facts, tracking
from controlplane.controllers.job.backoff import Record, remaining_of_index
from controlplane.controllers.job.decisions import deadline_in, end_of, is_complete, plan_of
from controlplane.controllers.job.indexes import Indexes, of_numbers, parsed
from controlplane.controllers.job.podtemplate import named, pod_of, prefix_of
from controlplane.controllers.job.policies import enough, meaning_of
from controlplane.controllers.job.situation import Situation, observe
from controlplane.engine.controller import timestamp
from controlplane.engine.resources import Object

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def job(status: Object | None = None, **spec: Any) -> Object:
    given_spec = {"parallelism": 1, "completions": 1, "backoffLimit": 6, **spec}
    pod = {"restartPolicy": "Never", "containers": [{"name": "main"}]}
    given_spec.setdefault("template", {"metadata": {"labels": {"a": "b"}}, "spec": pod})
    return {
        "kind": "Job", "apiVersion": "batch/v1", "spec": given_spec, "status": status or {},
        "metadata": {"name": "j", "namespace": "d", "uid": "u"},
    }  # fmt: skip


def indexed(status: Object | None = None, **spec: Any) -> Object:
    return job(status, completionMode="Indexed", **spec)


def pod(
    name: str, phase: str = "Running", index: int | None = None, *, code: int = 1,
    ago: float = 0.0, **more: Any,
) -> Object:  # fmt: skip
    meta: dict[str, Any] = {
        "name": name, "namespace": "d", "uid": name, "finalizers": [facts.FINALIZER],
        "creationTimestamp": timestamp(NOW - timedelta(hours=1)), **more.pop("meta", {}),
    }  # fmt: skip
    annotations = dict(more.pop("annotations", {}))
    if index is not None:
        annotations[facts.INDEX] = str(index)
    if more.pop("deleting", False):
        meta["deletionTimestamp"] = timestamp(NOW)
    status: dict[str, Any] = {"phase": phase, **more}
    if phase in ("Failed", "Succeeded"):
        ended = {"exitCode": code if phase == "Failed" else 0,
                 "finishedAt": timestamp(NOW - timedelta(seconds=ago))}  # fmt: skip
        status["containerStatuses"] = [{"name": "main", "state": {"terminated": ended}}]
    spec = {"nodeName": "n", "containers": [{"name": "main"}]}
    return {"metadata": {**meta, "annotations": annotations}, "spec": spec, "status": status}


def seen(value: Object, *pods: Object, record: Record | None = None) -> Situation:
    return observe(value, list(pods), record or Record(), NOW)


@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)), st.integers(1, 61))
def test_indexes_are_sets(one: set[int], other: set[int], below: int) -> None:
    left, right = of_numbers(one), of_numbers(other)
    assert {number for number in range(62) if number in left} == one
    assert len(left) == len(one)
    assert left | right == of_numbers(one | other)
    assert left.common(right) == len(one & other)
    assert parsed(str(left), below) == of_numbers(number for number in one if number < below)
    free = [number for number in range(below) if number not in one]
    for count in (0, 1, 5, 100):
        assert left.missing(count, below) == free[:count]


@pytest.mark.parametrize(
    ("text", "below", "wanted"),
    [
        ("", 5, ""), ("1,3-5,7", 10, "1,3-5,7"), ("1,3-5,7", 5, "1,3,4"), ("0,1,2", 9, "0-2"),
        ("x,2", 9, "2"), ("3-x", 9, ""), ("0-1", 9, "0,1"),
    ],
)  # fmt: skip
def test_indexes_as_a_status_writes_them(text: str, below: int, wanted: str) -> None:
    assert str(parsed(text, below)) == wanted


def _rule(action: str, operator: str = "In", values: tuple[int, ...] = (1,), **more: Any) -> Object:
    return {"action": action,
            "onExitCodes": {"operator": operator, "values": list(values), **more}}  # fmt: skip


_GONE = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
_DISRUPTED = {"type": "DisruptionTarget", "status": "True"}


@pytest.mark.parametrize(
    ("rules", "failed", "counts", "action"),
    [
        ([], pod("p", "Failed"), True, ""),
        ([_rule("Ignore")], pod("p", "Failed"), False, "Ignore"),
        ([_rule("Count")], pod("p", "Failed"), True, "Count"),
        ([_rule("FailIndex")], pod("p", "Failed"), True, "FailIndex"),
        ([_rule("FailJob")], pod("p", "Failed"), True, "FailJob"),
        ([_rule("FailJob", values=(2,)), _rule("Ignore")], pod("p", "Failed"), False, "Ignore"),
        ([_rule("Ignore", "NotIn")], pod("p", "Failed"), True, ""),
        ([_rule("Ignore", "NotIn")], pod("p", "Failed", code=9), False, "Ignore"),
        ([_rule("Ignore", containerName="side")], pod("p", "Failed"), True, ""),
        ([_rule("Ignore", "NotIn")], pod("p", "Succeeded"), True, ""),
        ([_GONE], pod("p", "Failed", conditions=[_DISRUPTED]), False, "Ignore"),
        ([_GONE], pod("p", "Failed"), True, ""),
    ],
)  # fmt: skip
def test_what_a_failure_means(
    rules: list[Object], failed: Object, counts: bool, action: str
) -> None:
    meaning = meaning_of(job(podFailurePolicy={"rules": rules}), failed)
    assert (meaning.counts, meaning.action) == (counts, action)
    assert bool(meaning.message) == (action == "FailJob")


@pytest.mark.parametrize(
    ("rules", "succeeded", "message"),
    [
        ([{"succeededCount": 2}], "0,5", "Matched rules at index 0"),
        ([{"succeededCount": 3}], "0,5", ""),
        ([{"succeededIndexes": "0-2"}], "0-2,7", "Matched rules at index 0"),
        ([{"succeededIndexes": "0-2"}], "0,1", ""),
        ([{"succeededIndexes": "0-2", "succeededCount": 1}], "2,9", "Matched rules at index 0"),
        ([{"succeededCount": 9}, {"succeededIndexes": "1"}], "1", "Matched rules at index 1"),
        ([{"succeededCount": 0}], "", ""),
    ],
)
def test_which_successes_are_enough(rules: list[Object], succeeded: str, message: str) -> None:
    value = indexed(completions=10, successPolicy={"rules": rules})
    assert enough(value, parsed(succeeded, 10)) == message


def test_pauses_double_from_the_last_failure_up_to_ten_minutes() -> None:
    record, waits = Record(), []
    for number in range(8):
        record = record.after([], [pod(str(number), "Failed")])
        waits.append(record.remaining(NOW))
    assert waits == [10, 20, 40, 80, 160, 320, 600, 600]
    assert record.remaining(NOW + timedelta(seconds=599)) == 1
    assert record.remaining(NOW + timedelta(days=1)) == 0
    # The clock was set back.
    assert record.remaining(NOW - timedelta(days=1)) == 600
    better = record.after([pod("s", "Succeeded", ago=5)], [pod("f", "Failed", ago=9)])
    assert better == Record()
    worse = record.after([pod("s", "Succeeded", ago=9)], [pod("f", "Failed", ago=5)])
    assert (worse.failures, worse.remaining(NOW)) == (1, 5)


def test_an_index_waits_for_itself() -> None:
    before = pod("p", "Failed", 3, annotations={facts.FAILURES: "1", facts.IGNORED_FAILURES: "1"})
    assert remaining_of_index(before, NOW) == 40
    assert remaining_of_index(None, NOW) == 0


_LATER = timestamp(NOW - timedelta(seconds=100))


@pytest.mark.parametrize(
    ("value", "pods", "kind", "reason"),
    [
        (job(), [], "", ""),
        (job({"failed": 7}), [], "FailureTarget", "BackoffLimitExceeded"),
        (job({"failed": 6}), [pod("p", "Failed")], "FailureTarget", "BackoffLimitExceeded"),
        (job({"failed": 6, "uncountedTerminatedPods": {"failed": ["p"]}}), [pod("p", "Failed")],
         "FailureTarget", "BackoffLimitExceeded"),
        (job({"failed": 6}), [pod("p", "Failed", meta={"finalizers": []})], "", ""),
        (job({"failed": 6}, podFailurePolicy={"rules": [_rule("Ignore")]}),
         [pod("p", "Failed")], "", ""),
        (job(podFailurePolicy={"rules": [_rule("FailJob")]}), [pod("p", "Failed")],
         "FailureTarget", "PodFailurePolicy"),
        (job({"startTime": _LATER}, activeDeadlineSeconds=100), [], "FailureTarget",
         "DeadlineExceeded"),
        (job({"startTime": _LATER}, activeDeadlineSeconds=101), [], "", ""),
        (job({"startTime": _LATER}, activeDeadlineSeconds=1, suspend=True), [], "", ""),
        (indexed(completions=4, backoffLimitPerIndex=0, maxFailedIndexes=0),
         [pod("p", "Failed", 1)], "FailureTarget", "MaxFailedIndexesExceeded"),
        (indexed({"completedIndexes": "0"}, completions=2, backoffLimitPerIndex=0),
         [pod("p", "Failed", 1)], "FailureTarget", "FailedIndexes"),
        (indexed({"completedIndexes": "0"}, completions=2, backoffLimitPerIndex=1),
         [pod("p", "Failed", 1)], "", ""),
        (indexed({"completedIndexes": "0"}, completions=2, backoffLimitPerIndex=1,
                 podFailurePolicy={"rules": [_rule("FailIndex")]}),
         [pod("p", "Failed", 1)], "FailureTarget", "FailedIndexes"),
        (indexed(completions=4, successPolicy={"rules": [{"succeededCount": 1}]}),
         [pod("p", "Succeeded", 1)], "SuccessCriteriaMet", "SuccessPolicy"),
        (job({"conditions": [{"type": "FailureTarget", "status": "True", "reason": "R",
                              "message": "m"}]}), [], "Failed", "R"),
        (job({"failed": 9, "conditions": [{"type": "SuccessCriteriaMet", "status": "True",
                                           "reason": "R", "message": "m"}]}),
         [], "SuccessCriteriaMet", "R"),
    ],
)  # fmt: skip
def test_why_a_job_ends(value: Object, pods: list[Object], kind: str, reason: str) -> None:
    end = end_of(seen(value, *pods))
    assert ("", "") if end is None else (end.kind, end.reason) == (kind, reason)
    assert (end is None) == (kind == "")


@pytest.mark.parametrize(("limit", "restarts", "ends"), [(0, 0, False), (0, 1, True), (2, 1, False),
                                                         (2, 2, True)])  # fmt: skip
def test_restarts_count_where_containers_are_restarted(
    limit: int, restarts: int, ends: bool
) -> None:
    template = {"spec": {"restartPolicy": "OnFailure", "containers": []}}
    runs = pod("p", containerStatuses=[{"name": "main", "restartCount": restarts}])
    found = seen(job(backoffLimit=limit, template=template), runs)
    assert (end_of(found) is not None) == ends


@pytest.mark.parametrize(
    ("value", "pods", "create", "delete"),
    [
        (job(parallelism=3, completions=5), [], [None] * 3, []),
        (job({"succeeded": 4}, parallelism=3, completions=5), [], [None], []),
        (job(parallelism=3, completions=None), [pod("a")], [None] * 2, []),
        (job({"succeeded": 1}, parallelism=3, completions=None), [pod("a")], [], []),
        (job(parallelism=1, completions=5), [pod("a"), pod("b", "Pending")], [], ["b"]),
        (job(suspend=True), [pod("a")], [], ["a"]),
        (job(parallelism=2, completions=2), [pod("a", meta={"finalizers": []})], [], ["a"]),
        # Replaced as soon as it is being deleted, or when it is gone.
        (job(parallelism=1), [pod("a", deleting=True)], [None], []),
        (job(parallelism=1, podReplacementPolicy="Failed"), [pod("a", deleting=True)], [], []),
        (indexed({"completedIndexes": "0"}, parallelism=2, completions=5), [pod("a", index=2)],
         [1], []),
        (indexed(parallelism=9, completions=5), [pod("a", index=2), pod("b", "Pending", 2)],
         [], ["b"]),
        (indexed(parallelism=9, completions=2), [pod("a", index=1), pod("b", index=2), pod("c")],
         [], ["b", "c"]),
        (indexed(parallelism=3, completions=3, podReplacementPolicy="Failed"),
         [pod("a", index=0, deleting=True)], [1, 2], []),
        (indexed({"failedIndexes": "0"}, parallelism=2, completions=3, backoffLimitPerIndex=0),
         [], [1, 2], []),
        (job(parallelism=0, completions=5), [pod("a")], [], ["a"]),
    ],
)  # fmt: skip
def test_what_is_made_and_what_goes(
    value: Object, pods: list[Object], create: list[int | None], delete: list[str]
) -> None:
    if value["spec"].get("completions", 0) is None:
        del value["spec"]["completions"]
    # A pod that is being deleted is a failure, whose pause is over.
    plan = plan_of(observe(value, pods, Record(), NOW + timedelta(hours=1)))
    assert plan.create == create
    assert sorted(one["metadata"]["name"] for one in plan.delete) == delete


def test_nothing_is_made_during_a_pause() -> None:
    plan = plan_of(seen(job(), pod("p", "Failed", ago=4)))
    assert (plan.create, plan.wait) == ([], 6)
    value = indexed(completions=3, parallelism=3, backoffLimitPerIndex=2)
    plan = plan_of(seen(value, pod("p", "Failed", 1, ago=4)))
    assert (plan.create, plan.wait) == ([0, 2], 6)


def test_the_end_of_what_has_no_number_of_completions() -> None:
    value = job({"succeeded": 1})
    del value["spec"]["completions"]
    assert is_complete(seen(value), 0)
    assert not is_complete(seen(value), 1)


def test_a_deadline() -> None:
    assert deadline_in(job(activeDeadlineSeconds=10), NOW) is None
    value = job({"startTime": timestamp(NOW)}, activeDeadlineSeconds=10)
    assert deadline_in(value, NOW) == 10


def test_a_pod_of_an_index() -> None:
    template: Object = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {
            "initContainers": [{"name": "i"}],
            "containers": [{"name": "c", "env": [{"name": "JOB_COMPLETION_INDEX", "value": "x"}]}],
        },
    }
    value = indexed(template=template, backoffLimitPerIndex=3, completions=9)
    before = pod("p", "Failed", 7, annotations={facts.FAILURES: "1"})
    made = pod_of(value, 7, before)
    meta, spec = made["metadata"], made["spec"]
    assert meta["generateName"] == "j-7-"
    assert meta["labels"] == {"a": "b", facts.INDEX: "7"}
    assert meta["annotations"] == {facts.INDEX: "7", facts.FAILURES: "2"}
    assert meta["finalizers"] == [facts.FINALIZER]
    assert spec["hostname"] == "j-7"
    assert spec["initContainers"][0]["env"] == [{
        "name": "JOB_COMPLETION_INDEX",
        "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{facts.INDEX}']"}},
    }]  # fmt: skip
    assert spec["containers"][0]["env"] == [{"name": "JOB_COMPLETION_INDEX", "value": "x"}]
    assert template["spec"]["initContainers"] == [{"name": "i"}]
    value["spec"]["podFailurePolicy"] = {"rules": [_rule("Ignore")]}
    again = pod_of(value, 7, before)["metadata"]["annotations"]
    assert again[facts.FAILURES] == again[facts.IGNORED_FAILURES] == "1"


def test_names_of_pods_follow_from_what_there_is() -> None:
    value = indexed(completions=9)
    first = named(value, [0, 1], lambda name: False)
    assert first == named(value, [0, 1], lambda name: False)
    assert all(re.fullmatch(rf"j-{number}-[a-z2-9]{{5}}", name) for number, name in
               enumerate(first))  # fmt: skip
    again = named(value, [0, 1], {first[0]}.__contains__)
    assert again[0] != first[0]
    assert again[1] == first[1]
    many = named(job(), [None] * 1000, lambda name: False)
    assert len(set(many)) == 1000
    # What is asked for while some are there is what was missing of them.
    there = set(many) - {many[3], many[700]}
    assert named(job(), [None, None], there.__contains__) == [many[3], many[700]]


def test_a_long_name_keeps_the_index() -> None:
    assert prefix_of("x" * 63, 1234) == "x" * 52 + "-1234-"


def test_a_failed_pod_stays_until_its_index_has_another() -> None:
    value = indexed(completions=2, parallelism=2, backoffLimitPerIndex=2)
    failed = pod("old", "Failed", 0)
    alone = seen(value, failed)
    assert tracking.mark(alone, tracking.started(value, NOW), None).release == []
    both = seen(value, failed, pod("new", index=0))
    assert tracking.mark(both, tracking.started(value, NOW), None).release == [failed]


def test_each_pod_is_counted_once() -> None:
    value = job({"succeeded": 1, "uncountedTerminatedPods": {"succeeded": ["a", "gone"]}},
                completions=9)  # fmt: skip
    pods = [pod("a", "Succeeded"), pod("b", "Succeeded"), pod("c", "Failed"),
            pod("d", "Failed", meta={"finalizers": []}), pod("e")]  # fmt: skip
    status = tracking.started(value, NOW)
    marked = tracking.mark(seen(value, *pods), status, None)
    assert status["uncountedTerminatedPods"] == {"succeeded": ["a", "b"], "failed": ["c"]}
    assert status["succeeded"] == 2
    assert [one["metadata"]["name"] for one in marked.release] == ["a", "b", "c"]
    tracking.settle(status, {"b"})
    assert (status["succeeded"], status["failed"]) == (3, 1)
    assert tracking.tidy(status)["uncountedTerminatedPods"] == {"succeeded": ["b"]}


def test_only_so_many_are_counted_at_once() -> None:
    value = job(completions=900)
    pods = [pod(str(number), "Succeeded") for number in range(600)]
    marked = tracking.mark(seen(value, *pods), tracking.started(value, NOW), None)
    assert len(marked.release) == 500
    assert not marked.all_seen


def test_an_index_without_pods_is_none() -> None:
    assert not Indexes()
    assert facts.index_of(pod("p", annotations={facts.INDEX: "-1"})) is None
    assert facts.index_of(pod("p", annotations={facts.INDEX: "²"})) is None
