"""NodeStatus and the Node object."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kubeletpy.registration.lease import renewed
from kubeletpy.registration.machine import Machine
from kubeletpy.registration.objects import metadata_patch, new_node, status_patch, without_extended
from kubeletpy.registration.runtime_health import RuntimeState, state_of
from kubeletpy.registration.status import NodeKnowledge, changed, images, node_status
from kubeletpy.settings import Settings
from kubeletpy.settings.configuration import convert
from kubeletpy_proto import cri_pb2

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
UP = RuntimeState(faults=(), version="containerd://2.4.0", handlers=(("", True, False),))


def knowledge(fields: dict[str, Any] | None = None, **settings: Any) -> NodeKnowledge:
    return NodeKnowledge(
        name="n1", hostname="n1", machine=Machine(memory=2**30, storage=2**30, boot_id="b"),
        settings=Settings(configuration=convert(fields or {}), kubeconfig=Path("/k"), **settings),
        ips=("192.0.2.1", "2001:db8::1"), port=10250, runtime=UP,
    )  # fmt: skip


def test_a_status() -> None:
    status, _ = node_status(knowledge(), {}, AT)
    assert status["addresses"] == [
        {"type": "InternalIP", "address": "192.0.2.1"},
        {"type": "InternalIP", "address": "2001:db8::1"},
        {"type": "Hostname", "address": "n1"},
    ]
    assert status["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 10250}}
    assert status["nodeInfo"]["containerRuntimeVersion"] == "containerd://2.4.0"
    assert status["runtimeHandlers"] == [
        {"name": "", "features": {"recursiveReadOnlyMounts": True, "userNamespaces": False}}
    ]
    assert "images" not in status
    assert "InPlacePodLevelResourcesVerticalScaling" in status["declaredFeatures"]


def test_what_others_say_stays() -> None:
    before = {
        "capacity": {"example.com/gpu": "2", "hugepages-64Ki": "0"},
        "volumesInUse": ["v"], "volumesAttached": [{"name": "v"}],
        "conditions": [{"type": "NetworkUnavailable", "status": "False"}],
    }  # fmt: skip
    status, _ = node_status(knowledge(), before, AT)
    assert status["capacity"]["example.com/gpu"] == "2"
    assert "hugepages-64Ki" not in status["capacity"]
    assert status["volumesInUse"] == ["v"]
    assert len(status["conditions"]) == 5


def test_only_heart_beats_are_no_change() -> None:
    before, _ = node_status(knowledge(), {}, AT)
    after, events = node_status(knowledge(), before, AT + timedelta(seconds=10))
    assert not changed(before, after)
    assert not events
    down = replace(UP, faults=("container runtime is down",))
    known = knowledge()
    known.runtime = down
    after, events = node_status(known, before, AT)
    assert changed(before, after)
    assert events == ["NodeNotReady"]


@pytest.mark.parametrize(
    ("cloud", "node_ips", "before", "kinds"),
    [
        ("", (), {}, ["InternalIP", "InternalIP", "Hostname"]),
        ("external", (), {}, ["Hostname"]),
        ("external", ("192.0.2.1",), {}, ["InternalIP", "InternalIP", "Hostname"]),
        ("external", (), {"addresses": [{"type": "ExternalIP", "address": "x"}]}, ["ExternalIP"]),
    ],
)
def test_addresses_of_cloud_nodes(
    cloud: str, node_ips: tuple[str, ...], before: dict[str, Any], kinds: list[str]
) -> None:
    known = knowledge(cloud_provider=cloud, node_ips=node_ips)
    status, _ = node_status(known, before, AT)
    assert [one["type"] for one in status["addresses"]] == kinds


def test_images_are_told_by_size() -> None:
    found = [
        cri_pb2.Image(id="a", size=1, repo_tags=["a:1"]),
        cri_pb2.Image(id="b", size=9, repo_digests=["b@sha256:0"], repo_tags=list("123456")),
        cri_pb2.Image(id="c", size=1),
    ]
    told = images(found, -1)
    assert told[0] == {"names": ["b@sha256:0", "1", "2", "3", "4"], "sizeBytes": 9}
    assert told[1:] == [{"sizeBytes": 1}, {"names": ["a:1"], "sizeBytes": 1}]
    assert len(images(found, 2)) == 2
    assert images(found, 0) == []


def test_the_object_to_create() -> None:
    known = knowledge(
        {"registerWithTaints": [{"key": "k", "effect": "NoSchedule"}], "providerID": "p://1"},
        node_labels=(("zone", "a"), ("kubernetes.io/hostname", "h")), cloud_provider="external",
        node_ips=("192.0.2.1",),
    )  # fmt: skip
    node = new_node(known, {"phase": ""})
    assert node["metadata"]["labels"]["zone"] == "a"
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "h"
    assert node["metadata"]["labels"]["kubernetes.io/arch"] == "amd64"
    assert node["metadata"]["annotations"] == {
        "volumes.kubernetes.io/controller-managed-attach-detach": "true",
        "alpha.kubernetes.io/provided-node-ip": "192.0.2.1",
    }
    assert node["spec"] == {
        "providerID": "p://1",
        "taints": [
            {"key": "k", "effect": "NoSchedule"},
            {"key": "node.cloudprovider.kubernetes.io/uninitialized", "value": "true",
             "effect": "NoSchedule"},
        ],
    }  # fmt: skip


def test_a_node_that_exists_is_brought_up_to_date() -> None:
    known = knowledge({"enableControllerAttachDetach": False}, node_labels=(("zone", "a"),))
    node = new_node(known, {})
    assert metadata_patch(known, node) == {}
    node["metadata"]["labels"] = {"kubernetes.io/os": "windows", "zone": "b", "x": "y"}
    node["metadata"]["annotations"] = {
        "volumes.kubernetes.io/controller-managed-attach-detach": "true",
        "other": "stays",
    }
    patch = metadata_patch(known, node)["metadata"]
    assert patch["labels"]["kubernetes.io/os"] == "linux"
    # Labels of --node-labels count at the creation only, so that who changes them is not undone.
    assert "zone" not in patch["labels"]
    assert patch["annotations"] == {"volumes.kubernetes.io/controller-managed-attach-detach": None}


def test_extended_resources_are_zero_after_a_boot() -> None:
    status = {"capacity": {"cpu": "2", "example.com/gpu": "4"}, "allocatable": {}}
    assert without_extended(status)["capacity"] == {"cpu": "2", "example.com/gpu": "0"}
    assert status["capacity"]["example.com/gpu"] == "4"


def test_a_patch_says_what_changed() -> None:
    before = {
        "capacity": {"cpu": "2", "x/y": "1"}, "nodeInfo": {"a": "1", "b": "2"},
        "images": [{"sizeBytes": 1}], "addresses": [{"type": "Hostname", "address": "n"}],
        "conditions": [{"type": "Ready"}], "features": {"f": True},
    }  # fmt: skip
    after = {
        **before, "capacity": {"cpu": "2"}, "nodeInfo": {"a": "1", "b": "3"}, "images": [],
        "addresses": [{"type": "Hostname", "address": "m"}], "features": None,
    }  # fmt: skip
    assert status_patch(before, after) == {"status": {
        "capacity": {"x/y": None},
        "nodeInfo": {"b": "3"},
        "images": [],
        "features": None,
        "addresses": [{"type": "Hostname", "address": "m"}, {"$patch": "replace"}],
        "conditions": [{"type": "Ready"}],
    }}  # fmt: skip
    assert status_patch(before, before) == {"status": {"conditions": [{"type": "Ready"}]}}


def answer(**conditions: bool) -> cri_pb2.StatusResponse:
    return cri_pb2.StatusResponse(
        status=cri_pb2.RuntimeStatus(conditions=[
            cri_pb2.RuntimeCondition(type=kind, status=status, reason="R", message="m")
            for kind, status in conditions.items()
        ]),
        runtime_handlers=[cri_pb2.RuntimeHandler(name="z"), cri_pb2.RuntimeHandler(name="a")],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("conditions", "faults"),
    [
        ({"RuntimeReady": True, "NetworkReady": True}, ()),
        ({"RuntimeReady": True, "NetworkReady": False},
         ("container runtime network not ready: NetworkReady=false reason:R message:m",)),
        ({"NetworkReady": True}, ("container runtime not ready: <nil>",)),
    ],
)  # fmt: skip
def test_what_a_runtime_says(conditions: dict[str, bool], faults: tuple[str, ...]) -> None:
    state = state_of(answer(**conditions), "x://1")
    assert state.faults == faults
    assert [name for name, *_ in state.handlers] == ["a", "z"]
    assert state.supplemental_groups_policy is None


def test_leases() -> None:
    made = renewed(None, "n1", "", 40, AT)
    assert made["metadata"] == {"name": "n1", "namespace": "kube-node-lease"}
    assert made["spec"] == {
        "holderIdentity": "n1", "leaseDurationSeconds": 40,
        "renewTime": "2026-01-02T03:04:05.000000Z",
    }  # fmt: skip
    there = {**made, "metadata": {**made["metadata"], "resourceVersion": "7"}}
    again = renewed(there, "n1", "u", 40, AT + timedelta(milliseconds=1500))
    assert again["metadata"]["resourceVersion"] == "7"
    assert again["metadata"]["ownerReferences"][0]["uid"] == "u"
    assert again["spec"]["renewTime"] == "2026-01-02T03:04:06.500000Z"
