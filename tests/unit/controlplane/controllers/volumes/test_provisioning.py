"""What is made for a claim, where, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.controllers.volumes.ephemeral import claim_for
from controlplane.controllers.volumes.expander import grown, grows
from controlplane.controllers.volumes.provisioning import (
    FINALIZER,
    NAME,
    RefusalError,
    check_claim,
    hostname_of,
    is_asked,
    is_to_go,
    parameters_of,
    place,
    volume_of,
)

Object = dict[str, Any]
WAIT = {"volumeBindingMode": "WaitForFirstConsumer"}
ASKED = {"volume.kubernetes.io/storage-provisioner": NAME}
ONE = {"zone": "1"}
CHOSEN = {**ASKED, "volume.kubernetes.io/selected-node": "n"}


def storage_class(**more: Any) -> Object:
    return {"metadata": {"name": "x"}, "provisioner": NAME, **more}


def claim(marks: Any = None, **more: Any) -> Object:
    meta = {"namespace": "a", "name": "data", "uid": "1", "resourceVersion": "7",
            "annotations": ASKED if marks is None else marks}  # fmt: skip
    spec = {"resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadWriteOnce"], **more}
    return {"metadata": meta, "spec": spec}


def node(name: str, boot: str = "", ready: bool = True, labels: Any = None) -> Object:
    conditions = [{"type": "Ready", "status": "True" if ready else "Unknown"}]
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": {},
            "status": {"nodeInfo": {"bootID": boot}, "conditions": conditions}}  # fmt: skip


@pytest.mark.parametrize(
    ("one", "of", "asked"),
    [
        (claim(), storage_class(), True),
        (claim(), storage_class(provisioner="example.test/x"), False),
        (claim(), None, False),
        (claim({}), storage_class(), False),
        (claim({"volume.beta.kubernetes.io/storage-provisioner": NAME}), storage_class(), True),
        (claim(volumeName="v"), storage_class(), False),
        (claim(), storage_class(**WAIT), False),
        (claim(CHOSEN), storage_class(**WAIT), True),
    ],
)
def test_who_is_asked(one: Object, of: Object | None, asked: bool) -> None:
    assert is_asked(one, of) is asked


@pytest.mark.parametrize(
    ("one", "of", "why"),
    [
        (claim(volumeMode="Block"), {}, "block volume"),
        (claim(selector={}), {}, "Selector"),
        (claim(dataSource={"kind": "VolumeSnapshot", "name": "s"}), {}, "dataSource"),
        (claim(volumeAttributesClassName="g"), {}, "volumeAttributesClassName"),
        (claim(), {"mountOptions": ["ro"]}, "Mount options are not supported"),
    ],
)
def test_what_is_refused(one: Object, of: Object, why: str) -> None:
    with pytest.raises(RefusalError, match=why):
        check_claim(one, storage_class(**of))


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (None, ("", 0o777)),
        ({"mode": "0750", "directory": "fast"}, ("fast", 0o750)),
        ({"mode": "9"}, "mode"),
        ({"mode": "7777"}, "mode"),
        ({"directory": "a/b"}, "directory"),
        ({"directory": "../b"}, "directory"),
        ({"directory": ".making"}, "directory"),
        ({"path": "/"}, "'path' is unknown"),
    ],
)
def test_parameters_of_a_class(parameters: Any, expected: Any) -> None:
    if isinstance(expected, str):
        with pytest.raises(RefusalError, match=expected):
            parameters_of(storage_class(parameters=parameters))
    else:
        found = parameters_of(storage_class(parameters=parameters))
        assert (found.directory, found.mode) == expected


def test_a_volume_without_a_pod_is_on_this_machine_if_it_may_be() -> None:
    nodes = [node("c", ready=False, labels=ONE), node("b", labels=ONE),
             node("d", "here", labels={"zone": "2"})]  # fmt: skip
    found = [place(nodes, storage_class(), "here"), place(nodes, storage_class(), "")]
    zones = [{"matchLabelExpressions": [{"key": "zone", "values": ["1"]}]}]
    found.append(place(nodes, storage_class(allowedTopologies=zones), "here"))
    assert [one["metadata"]["name"] for one in found if one] == ["d", "b", "b"]
    nowhere = [{"matchLabelExpressions": [{"key": "zone", "values": ["3"]}]}]
    assert place(nodes, storage_class(allowedTopologies=nowhere), "here") is None


def test_a_volume_belongs_to_its_claim_and_to_its_node() -> None:
    known = node("n", labels={"kubernetes.io/hostname": "host"})
    made = volume_of(claim(), storage_class(), known, "/r/x", here=True)
    assert made["metadata"]["name"] == "pvc-1"
    assert made["metadata"]["finalizers"] == [FINALIZER]
    assert made["spec"]["claimRef"]["uid"] == "1"
    assert made["spec"]["hostPath"] == {"path": "/r/x", "type": "Directory"}
    assert hostname_of(made) == "host"
    kept = volume_of(claim(), storage_class(reclaimPolicy="Retain"), known, "/r/x", here=False)
    assert kept["metadata"]["finalizers"] == []
    assert kept["spec"]["hostPath"]["type"] == "DirectoryOrCreate"


@pytest.mark.parametrize(
    ("policy", "phase", "deleting", "goes"),
    [
        ("Delete", "Released", False, True),
        ("Delete", "Failed", False, True),
        ("Delete", "Bound", False, False),
        ("Delete", "Bound", True, False),
        ("Delete", "Available", True, True),
        ("Retain", "Released", True, False),
    ],
)
def test_which_volumes_go(policy: str, phase: str, deleting: bool, goes: bool) -> None:
    meta = {"deletionTimestamp": "x"} if deleting else {}
    spec = {"persistentVolumeReclaimPolicy": policy}
    assert is_to_go({"metadata": meta, "spec": spec, "status": {"phase": phase}}) is goes


def test_a_claim_that_asks_for_more_grows_and_forgets_how() -> None:
    one = claim(volumeName="v")
    assert not grows(one)
    one["status"] = {"phase": "Bound", "capacity": {"storage": "512Mi"}, "conditions": [
        {"type": "Resizing"}, {"type": "Other"}]}  # fmt: skip
    assert grows(one)
    changes = grown(one)
    assert changes["capacity"] == {"storage": "1Gi"}
    assert changes["conditions"] == [{"type": "Other"}]
    assert not grows({**one, "status": {"phase": "Bound", **changes}})


def test_the_claim_of_an_ephemeral_volume_is_the_pods() -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    volume = {"name": "tmp", "ephemeral": {"volumeClaimTemplate": template}}
    pod = {"metadata": {"namespace": "a", "name": "web", "uid": "9"}, "spec": {"volumes": [volume]}}
    made = claim_for(pod, volume)
    assert (made["metadata"]["namespace"], made["metadata"]["name"]) == ("a", "web-tmp")
    assert made["metadata"]["labels"] == {"a": "b"}
    owner = made["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Pod", "9", True)
    assert made["spec"] == template["spec"]
    assert made["spec"] is not template["spec"]
