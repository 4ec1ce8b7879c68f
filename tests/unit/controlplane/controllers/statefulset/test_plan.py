"""What is done for a StatefulSet, by what there is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controlplane.controllers.statefulset.identity import new_pod
from controlplane.controllers.statefulset.plan import Facts, Plan, Revisions, plan
from controlplane.controllers.statefulset.status import status_of
from controlplane.engine.controller import timestamp
from controlplane.engine.resources import Object

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}}
REVISIONS = Revisions("web-old", "web-new", TEMPLATE, TEMPLATE)


def owner(replicas: int = 3, **spec: Any) -> Object:
    return {
        "metadata": {"name": "web", "namespace": "default", "uid": "set", "generation": 4},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": TEMPLATE, "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}, **spec,
        },
    }  # fmt: skip


def pods(made: Object, text: str) -> list[Object]:
    """Return pods as ``0:ready 1:pending,old 2:deleting`` says."""
    found = []
    for word in text.split():
        ordinal, _, states = word.partition(":")
        found.append(_pod(made, int(ordinal), set(states.split(","))))
    return found


def _pod(made: Object, ordinal: int, states: set[str]) -> Object:
    revision = "web-old" if "old" in states else "web-new"
    pod = new_pod(made, TEMPLATE, revision, ordinal)
    pod["metadata"]["uid"] = f"pod-{ordinal}"
    phases = {"pending": "Pending", "failed": "Failed", "succeeded": "Succeeded"}
    phase = next((name for state, name in phases.items() if state in states), "Running")
    ready = states & {"ready", "fresh"} or states <= {"old", "deleting"}
    since = NOW - timedelta(seconds=1 if "fresh" in states else 100)
    pod["status"] = {"phase": phase, "conditions": [
        {"type": "Ready", "status": "True" if ready else "False",
         "lastTransitionTime": timestamp(since)}]}  # fmt: skip
    if "deleting" in states:
        pod["metadata"]["deletionTimestamp"] = timestamp(NOW)
    if "stray" in states:
        pod["metadata"]["labels"].pop("statefulset.kubernetes.io/pod-name")
    return pod


def planned(made: Object, text: str, claims: dict[str, Object] | None = None) -> Plan:
    found = (claims or {}).get
    return plan(Facts(made, pods(made, text), REVISIONS, found, NOW))


def steps(made: Object, text: str, claims: dict[str, Object] | None = None) -> str:
    done = planned(made, text, claims).steps()
    return " ".join(f"{act}:{name.removeprefix('web-')}" for act, name in done)


@pytest.mark.parametrize(
    ("there", "todo"),
    [
        pytest.param("", "create:0", id="the first one, alone"),
        pytest.param("0:pending", "", id="until it is ready"),
        pytest.param("0:notready", "", id="running is not ready"),
        pytest.param("0:ready", "create:1", id="then the next"),
        pytest.param("1:ready 2:ready", "create:0", id="a gap is filled from below"),
        pytest.param("0:ready 1:deleting 2:ready", "", id="one that ends is waited for"),
        pytest.param("0:ready 1:failed 2:ready", "delete:1", id="a failed one is made anew"),
        pytest.param("0:succeeded 1:ready", "delete:0", id="and one that ended well"),
        pytest.param("0:failed,deleting 1:ready", "", id="it is deleted once"),
        pytest.param("0:ready 1:ready 2:ready", "", id="all is well"),
        pytest.param("0:ready 1:ready 2:ready 3:ready 4:ready", "delete:4", id="highest first"),
        pytest.param("0:ready 1:ready 2:ready 3:ready 4:deleting", "", id="one at a time"),
        pytest.param("0:ready 1:notready 2:ready 3:ready", "", id="not while one is not ready"),
        pytest.param("0:ready 1:ready 2:ready 3:notready", "delete:3", id="the bad one itself"),
        pytest.param("0:ready 1:ready 2:ready 3:notready 4:ready", "delete:4",
                     id="well ones go before a bad one below"),
        pytest.param("0:ready 1:ready 2:ready 3:notready 4:notready", "",
                     id="the lowest bad one is waited for"),
        pytest.param("0:ready,stray 1:ready 2:ready", "fix:0", id="labels are put right"),
        pytest.param("0:ready,old 1:ready,old 2:ready,old", "delete:2", id="update from above"),
        pytest.param("0:ready,old 1:ready,old 2:ready", "delete:1", id="one after the other"),
        pytest.param("0:ready,old 1:ready,old", "create:2", id="a lacking one comes first"),
        pytest.param("0:ready,old 1:ready,old 2:pending", "", id="update waits for the new one"),
        pytest.param("0:ready,old 1:ready,old 2:notready,old", "",
                     id="in order a revision that never worked is stuck"),
        pytest.param("0:ready,old 1:ready,old 2:ready,old 3:ready,old", "delete:3",
                     id="scaling goes before updating"),
    ],
)  # fmt: skip
def test_in_order(there: str, todo: str) -> None:
    assert steps(owner(), there) == todo


@pytest.mark.parametrize(
    ("there", "todo"),
    [
        pytest.param("", "create:0 create:1 create:2", id="all at once"),
        pytest.param("0:pending 1:notready", "create:2", id="nothing is waited for"),
        pytest.param("0:failed 1:deleting 2:ready", "delete:0", id="failed ones"),
        pytest.param("0:ready 1:ready 2:ready 3:ready 4:notready 5:deleting", "delete:4 delete:3",
                     id="all that are too many"),
        pytest.param("0:ready,old 1:ready,old 2:ready,old", "delete:2", id="updates in order"),
        pytest.param("0:ready,old 1:ready,old 2:notready,old", "delete:2", id="past a stuck one"),
        pytest.param("0:ready,old 1:ready,old 2:notready", "", id="not past a new bad one"),
        pytest.param("0:failed,old 1:ready,old 2:ready,old", "delete:0 delete:2",
                     id="each pod is deleted once"),
        pytest.param("0:ready,old 1:ready,old 2:failed,old", "delete:2", id="also if it ended"),
    ],
)  # fmt: skip
def test_parallel(there: str, todo: str) -> None:
    made = owner(podManagementPolicy="Parallel")
    assert planned(made, there).parallel
    assert steps(made, there) == todo


@pytest.mark.parametrize(
    ("spec", "there", "todo"),
    [
        pytest.param({"updateStrategy": {"type": "OnDelete"}}, "0:ready,old 1:ready,old", "",
                     id="on delete nothing is updated"),
        pytest.param({"updateStrategy": {"type": "OnDelete"}}, "1:ready,old", "create:0",
                     id="what lacks is made"),
        pytest.param({"minReadySeconds": 30}, "0:fresh", "", id="ready for too short a time"),
        pytest.param({"minReadySeconds": 30}, "0:ready", "create:1", id="ready for long enough"),
        pytest.param({"ordinals": {"start": 5}}, "", "create:5", id="ordinals begin elsewhere"),
        pytest.param({"ordinals": {"start": 1}}, "0:ready 1:ready 2:ready", "delete:0",
                     id="below the first one is too many"),
        pytest.param({"replicas": 0}, "0:ready 1:ready", "delete:1", id="none is wanted"),
        pytest.param({"replicas": 2}, "99999999999:ready 0:ready 1:ready", "",
                     id="a number that is no ordinal is nobody's"),
    ],
)  # fmt: skip
def test_spec(spec: dict[str, Any], there: str, todo: str) -> None:
    assert steps(owner(**{"replicas": 2, **spec}), there) == todo


@pytest.mark.parametrize(
    ("partition", "there", "todo"),
    [
        (1, "0:ready,old 1:ready,old 2:ready,old", "delete:2"),
        (1, "0:ready,old 1:ready,old 2:ready", "delete:1"),
        (1, "0:ready,old 1:ready 2:ready", ""),
        (9, "0:ready,old 1:ready,old 2:ready,old", ""),
        (0, "0:ready,old 1:ready 2:ready", "delete:0"),
    ],
)
def test_partition(partition: int, there: str, todo: str) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}
    assert steps(owner(updateStrategy=rolling), there) == todo


@pytest.mark.parametrize(("start", "first", "revision"), [
    (0, "0", "web-old"), (0, "1", "web-old"), (0, "2", "web-new"),
    (5, "5", "web-old"), (5, "6", "web-old"), (5, "7", "web-new"),
])  # fmt: skip
def test_pods_below_the_partition_are_made_of_the_current_revision(
    start: int, first: str, revision: str
) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}
    made = owner(
        updateStrategy=rolling, ordinals={"start": start}, podManagementPolicy="Parallel"
    )  # fmt: skip
    created = {
        step.pod["metadata"]["name"]: step.pod["metadata"]["labels"]["controller-revision-hash"]
        for phase in planned(made, "").phases for one in phase for step in one
    }  # fmt: skip
    assert created[f"web-{first}"] == revision


@pytest.mark.parametrize(
    ("most", "there", "todo"),
    [
        (2, "0:ready,old 1:ready,old 2:ready,old 3:ready,old", "delete:3 delete:2"),
        (2, "0:ready,old 1:ready,old 2:ready,old 3:notready", "delete:2"),
        (2, "0:ready,old 1:ready,old 2:notready 3:notready", ""),
        pytest.param(2, "0:ready,old 1:notready,old 2:notready,old 3:ready,old",
                     "delete:2 delete:1", id="those that are not available cost nothing"),
        ("50%", "0:ready,old 1:ready,old 2:ready,old 3:ready,old", "delete:3 delete:2"),
        pytest.param("10%", "0:ready,old 1:ready,old 2:ready,old 3:ready,old", "delete:3",
                     id="one at least"),
        (4, "0:ready,old 1:ready,old 2:ready 3:deleting,old", "delete:1 delete:0"),
    ],
)  # fmt: skip
def test_max_unavailable(most: int | str, there: str, todo: str) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": most}}
    made = owner(4, updateStrategy=rolling, podManagementPolicy="Parallel")
    assert steps(made, there) == todo


def test_nothing_is_done_for_a_set_that_is_being_deleted() -> None:
    made = owner()
    made["metadata"]["deletionTimestamp"] = timestamp(NOW)
    assert steps(made, "0:failed 7:ready") == ""


def test_a_failed_pod_that_is_held_back_stays_for_now() -> None:
    made = owner(1)
    facts = Facts(made, pods(made, "0:failed"), REVISIONS, lambda _: None, NOW,
                  frozenset(["web-0"]))  # fmt: skip
    assert plan(facts).steps() == []


CLAIM = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
RETENTION = {"whenDeleted": "Delete", "whenScaled": "Delete"}


def claim(called: str, *owners: tuple[str, str, str]) -> Object:
    references = [
        {"apiVersion": "v1" if kind == "Pod" else "apps/v1", "kind": kind, "name": name, "uid": uid,
         "controller": True} for kind, name, uid in owners
    ]  # fmt: skip
    return {"metadata": {"name": called, "uid": called, "ownerReferences": references}}


@pytest.mark.parametrize(
    ("there", "claims", "todo"),
    [
        pytest.param("0:pending", [], "claims:0", id="a pending pod gets its claim"),
        pytest.param("0:pending", [claim("data-web-0", ("StatefulSet", "web", "set"))], "",
                     id="it has it"),
        pytest.param("0:ready", [claim("data-web-0")], "fix:0", id="the set owns the claim"),
        pytest.param("0:ready", [], "", id="a claim that lacks is no matter once it runs"),
        pytest.param("", [claim("data-web-0", ("Pod", "web-0", "former"))], "",
                     id="a claim that goes with a former pod is waited for"),
        pytest.param("", [claim("data-web-0", ("StatefulSet", "web", "set"))], "create:0",
                     id="a claim of the set is used again"),
        pytest.param("0:ready 1:ready", [claim("data-web-0", ("StatefulSet", "web", "set")),
                                         claim("data-web-1", ("StatefulSet", "web", "set"))],
                     "retain:1 delete:1", id="the pod beyond owns its claim before it goes"),
        pytest.param("0:ready 1:ready", [claim("data-web-0", ("StatefulSet", "web", "set")),
                                         claim("data-web-1", ("Pod", "web-1", "pod-1"))],
                     "delete:1", id="it does already"),
        pytest.param("0:ready", [claim("data-web-0", ("Pod", "web-0", "pod-0"))], "fix:0",
                     id="scaled up again, the claim stays"),
    ],
)  # fmt: skip
def test_claims(there: str, claims: list[Object], todo: str) -> None:
    made = owner(
        1, volumeClaimTemplates=[CLAIM], persistentVolumeClaimRetentionPolicy=RETENTION
    )  # fmt: skip
    assert steps(made, there, {one["metadata"]["name"]: one for one in claims}) == todo


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        ("", {"replicas": 0, "availableReplicas": 0, "currentRevision": "web-old"}),
        ("0:ready,old 1:ready,old 2:pending",
         {"replicas": 3, "readyReplicas": 2, "availableReplicas": 2, "currentReplicas": 2,
          "updatedReplicas": 1, "currentRevision": "web-old"}),
        ("0:ready,old 1:ready,deleting 2:fresh",
         {"replicas": 3, "readyReplicas": 3, "availableReplicas": 2, "currentReplicas": 1,
          "updatedReplicas": 1, "currentRevision": "web-old"}),
        ("0:ready 1:ready 2:ready",
         {"replicas": 3, "readyReplicas": 3, "availableReplicas": 3, "currentReplicas": 3,
          "updatedReplicas": 3, "currentRevision": "web-new"}),
        ("0:ready 1:ready 2:ready 3:ready",
         {"replicas": 4, "readyReplicas": 4, "availableReplicas": 4, "updatedReplicas": 4,
          "currentRevision": "web-old"}),
    ],
)  # fmt: skip
def test_status(there: str, wanted: Object) -> None:
    made = owner(minReadySeconds=30)
    told = status_of(made, pods(made, there), REVISIONS, 2, NOW)
    always = {"observedGeneration": 4, "updateRevision": "web-new", "collisionCount": 2}
    assert told == wanted | always
