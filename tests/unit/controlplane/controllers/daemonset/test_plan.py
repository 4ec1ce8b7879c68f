"""Which pods of a DaemonSet are made and deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controlplane.controllers.daemonset import plan as plans
from controlplane.controllers.daemonset.fitting import kept_to
from controlplane.controllers.daemonset.plan import Facts, Plan, by_node
from controlplane.controllers.daemonset.status import status_of
from controlplane.engine.controller import timestamp
from controlplane.engine.resources import Object

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def owner(**rolling: Any) -> Object:
    strategy: Object = {"type": rolling.pop("type", "RollingUpdate")}
    if strategy["type"] == "RollingUpdate":
        strategy["rollingUpdate"] = {"maxUnavailable": 1, "maxSurge": 0, **rolling}
    return {
        "metadata": {"name": "log", "namespace": "default", "uid": "u", "generation": 3},
        "spec": {"template": {"metadata": {}, "spec": {}}, "updateStrategy": strategy,
                 "minReadySeconds": 10},
    }  # fmt: skip


def facts(made: Object, text: str) -> Facts:
    """Return nodes and pods as ``a: new; b: old,notready new; !c: old`` says.

    ``!`` is a node that repels pods, ``-`` one that is gone, ``~`` one where they may stay.
    """
    nodes: dict[str, Object] = {}
    pods: list[Object] = []
    for part in filter(None, (one.strip() for one in text.split(";"))):
        mark = part[0] if part[0] in "!-~" else ""
        name, _, there = part.removeprefix(mark).partition(":")
        effect = {"!": "NoExecute", "~": "NoSchedule"}.get(mark)
        taints = [{"key": "x", "effect": effect}] if effect else []
        if mark != "-":
            nodes[name] = {"metadata": {"name": name}, "spec": {"taints": taints}}
        for number, states in enumerate(there.split()):
            pods.append(_pod(f"{name}{number}", name, set(states.split(",")), number))
    return Facts(made, nodes, by_node(pods), "new", NOW)


def _pod(name: str, node: str, states: set[str], age: int) -> Object:
    phases = {"failed": "Failed", "succeeded": "Succeeded", "waiting": "Pending"}
    phase = next((phase for state, phase in phases.items() if state in states), "Running")
    bad = states & {"notready", "failed", "succeeded", "waiting"}
    since = NOW - timedelta(seconds=1 if "fresh" in states else 100)
    created = timestamp(NOW - timedelta(seconds=1000 - age))
    labels = {"controller-revision-hash": "new" if "new" in states else "old"}
    meta: Object = {"name": name, "creationTimestamp": created, "labels": labels}
    if "deleting" in states:
        meta["deletionTimestamp"] = created
    place: Object = {"affinity": kept_to(None, node)} if "waiting" in states else {"nodeName": node}
    condition = {"type": "Ready", "status": "False" if bad else "True",
                 "lastTransitionTime": timestamp(since)}  # fmt: skip
    return {"metadata": meta, "spec": place, "status": {"phase": phase, "conditions": [condition]}}


def shown(found: Plan) -> str:
    words = [f"+{name}" for name in found.create]
    words += [f"-{pod['metadata']['name']}" for pod in found.delete]
    words += [f"x{pod['metadata']['name']}" for _, pod in found.failed]
    words += [f"o{pod['metadata']['name']}" for _, pod in found.succeeded]
    return " ".join(words)


@pytest.mark.parametrize(
    ("there", "todo"),
    [
        ("a: new; b:", "+b"),
        ("!a:; ~b:; c:", "+c"),
        ("!a: new; ~b: new", "-a0"),
        ("!a: new,deleting", ""),
        ("a: new new new,deleting", "-a1"),
        pytest.param("a: new,waiting new", "-a0", id="one without a node yet goes"),
        ("a: new,failed; b: new,succeeded", "xa0 ob0"),
        ("a: new,failed new", "xa0"),
        ("a: new,failed,deleting", "+a"),
        ("a: new,deleting", ""),
        ("-a: new,waiting; -b: new", "-a0"),
    ],
)
def test_manage(there: str, todo: str) -> None:
    assert shown(plans.manage(facts(owner(), there))) == todo


@pytest.mark.parametrize(
    ("there", "todo"),
    [
        ("a:", "+a"),
        pytest.param("a: old,deleting", "+a", id="one that ends is not waited for"),
        ("~a: old,deleting", ""),
        ("a: old new,notready", ""),
        pytest.param("a: old new,fresh", "", id="ready for too short a time"),
        ("a: old new", "-a0"),
        ("a: old,notready new,notready", "-a0"),
        ("a: old old new,notready new", "-a1 -a3"),
    ],
)
def test_manage_with_surge(there: str, todo: str) -> None:
    assert shown(plans.manage(facts(owner(maxSurge=1, maxUnavailable=0), there))) == todo


@pytest.mark.parametrize(
    ("most", "there", "todo"),
    [
        (1, "a: old; b: old; c: old", "-a0"),
        (2, "a: old; b: old; c: old", "-a0 -b0"),
        ("50%", "a: old; b: old; c: old", "-a0 -b0"),
        (1, "a: new,notready; b: old; c: old", ""),
        (1, "a: new,fresh; b: old; c: old", ""),
        (1, "a: new; b: old; c: old", "-b0"),
        (1, "a: old,deleting; b: old", ""),
        pytest.param(1, "a: old,notready; b: old,notready; c: old", "-a0 -b0",
                     id="those that are not available cost nothing"),
        pytest.param(1, "a:; b: old", "", id="a node without a pod lacks one"),
        (1, "a: old old; b: old", ""),
        (1, "a: new; b: new", ""),
        (0, "a: old; b: old", "-a0"),
    ],
)  # fmt: skip
def test_update(most: int | str, there: str, todo: str) -> None:
    assert shown(plans.update(facts(owner(maxUnavailable=most), there))) == todo


@pytest.mark.parametrize(
    ("most", "there", "todo"),
    [
        (1, "a: old; b: old", "+a"),
        ("100%", "a: old; b: old", "+a +b"),
        (1, "a: old new,notready; b: old", ""),
        (1, "a: old new; b: old", "+b -a0"),
        (1, "a: old new,fresh; b: old", ""),
        pytest.param(1, "a: old,notready; b: old,notready; c: old", "+a +b +c",
                     id="beside what is not available one more is free"),
        (1, "a: new; b: new", ""),
        pytest.param(1, "~a: old; b: new,notready", "", id="where it should not be it still works"),
        pytest.param(1, "~a: old; b: new", "-a0", id="until the others do"),
        (1, "~a: old,notready; b: new,notready", "-a0"),
        (1, "a: old old old; b: old", ""),
    ],
)  # fmt: skip
def test_update_with_surge(most: int | str, there: str, todo: str) -> None:
    made = owner(maxUnavailable=0, maxSurge=most)
    assert shown(plans.update(facts(made, there))) == todo


def test_on_delete_nothing_is_updated() -> None:
    assert shown(plans.update(facts(owner(type="OnDelete"), "a: old"))) == ""
    assert not plans.surges(owner(type="OnDelete"))


def test_a_pod_of_the_same_template_number_is_new() -> None:
    made = owner()
    made["metadata"]["annotations"] = {"deprecated.daemonset.template.generation": "2"}
    found = facts(made, "a: old; b: old")
    found.pods["a"][0]["metadata"]["labels"]["pod-template-generation"] = "2"
    assert shown(plans.update(found)) == "-b0"


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        ("", {}),
        ("a: new; b: old,notready; c:",
         {"desiredNumberScheduled": 3, "currentNumberScheduled": 2, "numberReady": 1,
          "updatedNumberScheduled": 1, "numberAvailable": 1, "numberUnavailable": 2}),
        ("a: new,fresh; !b: new; ~c: new; !d:",
         {"desiredNumberScheduled": 1, "currentNumberScheduled": 1, "numberReady": 1,
          "numberMisscheduled": 2, "updatedNumberScheduled": 1, "numberUnavailable": 1}),
        pytest.param("a: old new,notready",
                     {"desiredNumberScheduled": 1, "currentNumberScheduled": 1, "numberReady": 1,
                      "numberAvailable": 1}, id="the oldest counts"),
    ],
)  # fmt: skip
def test_status(there: str, wanted: Object) -> None:
    made = {**owner(), "status": {"collisionCount": 2, "numberReady": 99}}
    always = {"desiredNumberScheduled": 0, "currentNumberScheduled": 0, "numberMisscheduled": 0,
              "numberReady": 0, "observedGeneration": 3, "collisionCount": 2}  # fmt: skip
    assert status_of(facts(made, there)) == always | wanted
