"""What is special about pods: what may change, what is shown, how they end."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from controlplane.api.resource import Context
from controlplane.kinds.strategies.pods.quality import quality_class
from controlplane.kinds.strategies.pods.strategy import PodStrategy

POD = PodStrategy()
NOW = "2026-01-01T00:00:00Z"


def _pod(**spec: Any) -> dict[str, Any]:
    containers = [{"name": "a", "image": "b:1"}]
    pod = {
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {"containers": containers, **copy.deepcopy(spec)},
    }
    POD.default(pod)
    POD.prepare_create(pod, Context(now=NOW))
    return pod


def _named(causes: list[Any]) -> list[tuple[str, str]]:
    return [(cause.reason.removeprefix("FieldValue"), cause.field) for cause in causes]


def _changed(pod: dict[str, Any], **spec: Any) -> list[tuple[str, str]]:
    new = copy.deepcopy(pod)
    for key, value in spec.items():
        if value is None:
            del new["spec"][key]
        else:
            new["spec"][key] = copy.deepcopy(value)
    POD.default(new)
    return _named(POD.validate(new, pod))


_TOLERATION = {"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
_LONGER = {**_TOLERATION, "tolerationSeconds": 9}
_GATED = {"schedulingGates": [{"name": "g"}], "nodeSelector": {"a": "b"}}


@pytest.mark.parametrize(
    ("before", "change", "expected"),
    [
        ({}, {}, []),
        (
            {},
            {"containers": [{"name": "a", "image": "c:2"}]},
            [],
        ),
        ({}, {"nodeName": "n"}, [("Forbidden", "spec")]),
        ({}, {"restartPolicy": "Never"}, [("Forbidden", "spec")]),
        ({}, {"activeDeadlineSeconds": 5}, []),
        ({"activeDeadlineSeconds": 5}, {"activeDeadlineSeconds": 4}, []),
        (
            {"activeDeadlineSeconds": 5},
            {"activeDeadlineSeconds": 6},
            [("Invalid", "spec.activeDeadlineSeconds")],
        ),
        (
            {"activeDeadlineSeconds": 5},
            {"activeDeadlineSeconds": None},
            [("Invalid", "spec.activeDeadlineSeconds")],
        ),
        (
            {},
            {"containers": [{"name": "a", "image": "b:1"}, {"name": "c", "image": "d"}]},
            [("Forbidden", "spec.containers")],
        ),
        ({}, {"tolerations": [_TOLERATION]}, []),
        (
            {"tolerations": [_TOLERATION]},
            {"tolerations": [{**_TOLERATION, "tolerationSeconds": 9}]},
            [],
        ),
        ({"tolerations": [_TOLERATION]}, {"tolerations": []}, [("Forbidden", "spec.tolerations")]),
        (_GATED, {"schedulingGates": []}, []),
        (_GATED, {"nodeSelector": {"a": "b", "c": "d"}}, []),
        (_GATED, {"nodeSelector": {"c": "d"}}, [("Invalid", "spec.nodeSelector")]),
        (
            _GATED,
            {"schedulingGates": [{"name": "h"}]},
            [("Forbidden", "spec.schedulingGates[0].name")],
        ),
        ({}, {"nodeSelector": {"a": "b"}}, [("Forbidden", "spec")]),
    ],
)
def test_little_of_a_pod_may_change(
    before: dict[str, Any], change: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert _changed(_pod(**before), **change) == expected


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ([{}], "BestEffort"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}}], "Guaranteed"),
        ([{"limits": {"cpu": "1", "memory": "1Gi"}}, {}], "Burstable"),
        ([{"limits": {"cpu": "1"}}], "Burstable"),
        ([{"requests": {"cpu": "0"}}], "BestEffort"),
    ],
)
def test_quality_of_service(resources: list[dict[str, Any]], expected: str) -> None:
    containers = [
        {"name": f"c{index}", "image": "b", "resources": one} for index, one in enumerate(resources)
    ]
    assert quality_class(_pod(containers=containers)["spec"]) == expected


def _state(**state: Any) -> dict[str, Any]:
    more: dict[str, Any] = {
        key: state.pop(key) for key in ("ready", "restartCount", "started") if key in state
    }
    return {"name": "a", "ready": False, "restartCount": 0, **more, "state": state}


_RUNNING = _state(running={}, ready=True)
_COMPLETED = _state(terminated={"reason": "Completed"})
_CRASHING = _state(waiting={"reason": "CrashLoopBackOff"}, restartCount=3)
_READY = [{"type": "Ready", "status": "True"}]


@pytest.mark.parametrize(
    ("status", "cells"),
    [
        ({"phase": "Pending"}, ["0/1", "Pending", "0"]),
        ({"phase": "Running", "containerStatuses": [_RUNNING]}, ["1/1", "Running", "0"]),
        (
            {
                "phase": "Running",
                "containerStatuses": [
                    _state(waiting={"reason": "CrashLoopBackOff"}, restartCount=3)
                ],
            },
            ["0/1", "CrashLoopBackOff", "3"],
        ),
        (
            {
                "phase": "Succeeded",
                "containerStatuses": [_state(terminated={"reason": "Completed"})],
            },
            ["0/1", "Completed", "0"],
        ),
        (
            {
                "phase": "Running",
                "conditions": _READY,
                "containerStatuses": [_COMPLETED, _RUNNING],
            },
            ["1/1", "Running", "0"],
        ),
        (
            {"phase": "Failed", "containerStatuses": [_state(terminated={"exitCode": 3})]},
            ["0/1", "ExitCode:3", "0"],
        ),
        ({"phase": "Failed", "reason": "Evicted"}, ["0/1", "Evicted", "0"]),
    ],
)
def test_the_word_for_a_state(status: dict[str, Any], cells: list[str]) -> None:
    pod = {**_pod(), "status": status}
    assert POD.row(pod)[:3] == cells


def test_the_word_while_it_starts() -> None:
    init = [{"name": "a", "image": "b"}, {"name": "c", "image": "b"}]
    pod = _pod(initContainers=init, containers=[{"name": "m", "image": "b"}])
    pod["status"]["initContainerStatuses"] = [
        _state(terminated={"exitCode": 0}, restartCount=2),
        {"name": "c", "restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}},
    ]
    assert POD.row(pod)[:3] == ["0/1", "Init:1/2", "2"]
    pod["status"]["initContainerStatuses"][1]["state"] = {"waiting": {"reason": "ErrImagePull"}}
    assert POD.row(pod)[1] == "Init:ErrImagePull"
    pod["metadata"]["deletionTimestamp"] = NOW
    assert POD.row(pod)[1] == "Terminating"


@pytest.mark.parametrize(
    ("spec", "phase", "asked", "expected"),
    [
        ({}, "Pending", None, 0),
        ({"nodeName": "n"}, "Running", None, 30),
        ({"nodeName": "n"}, "Running", 5, 5),
        ({"nodeName": "n"}, "Succeeded", None, 0),
        ({"nodeName": "n", "terminationGracePeriodSeconds": 7}, "Running", None, 7),
        ({"nodeName": "n", "terminationGracePeriodSeconds": -3}, "Running", None, 1),
    ],
)
def test_how_long_a_deletion_waits(
    spec: dict[str, Any], phase: str, asked: int | None, expected: int
) -> None:
    pod = {**_pod(**spec), "status": {"phase": phase}}
    assert POD.deletion_grace(pod, asked) == expected


def test_a_container_that_ended_for_good_does_not_run_again() -> None:
    old = _pod(restartPolicy="OnFailure")
    old["status"]["containerStatuses"] = [_state(terminated={"exitCode": 0})]
    new = copy.deepcopy(old)
    new["status"]["containerStatuses"] = [_state(running={})]
    assert _named(POD.validate_status(new, old)) == [
        ("Forbidden", "status.containerStatuses[0].state")
    ]
    old["status"]["containerStatuses"] = [_state(terminated={"exitCode": 1})]
    assert POD.validate_status(new, old) == []


def test_the_single_address_and_the_list_agree() -> None:
    old = _pod()
    new = copy.deepcopy(old)
    new["status"] = {"podIP": "10.0.0.2", "phase": "Running"}
    POD.prepare_status(new, old, Context(now=NOW))
    assert new["status"]["podIPs"] == [{"ip": "10.0.0.2"}]
    assert new["status"]["qosClass"] == "BestEffort"
    assert POD.fields(new)["status.podIP"] == "10.0.0.2"


def test_a_resize_changes_resources_alone() -> None:
    resources = {"requests": {"cpu": "1"}}
    old = _pod(containers=[{"name": "a", "image": "b", "resources": resources}])
    new = copy.deepcopy(old)
    new["spec"]["containers"][0] |= {"image": "c", "resources": {"requests": {"cpu": "2"}}}
    context = Context(now=NOW, subresource="resize")
    POD.prepare_update(new, old, context)
    assert new["spec"]["containers"][0]["image"] == "b"
    assert new["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "2"}}
    assert POD.validate_subresource(new, old, "resize") == []
    assert POD.is_new_generation(new, old)
    new["spec"]["containers"][0]["resources"] = {}
    assert ("Forbidden", "spec.containers[0].resources.requests") in _named(
        POD.validate_subresource(new, old, "resize")
    )
