"""On which nodes a DaemonSet has pods."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from controlplane.controllers.daemonset.controller import new_pod
from controlplane.controllers.daemonset.fitting import fits, kept_to, node_of, with_tolerations
from controlplane.engine.resources import Object

YES, STAYS, NO = (True, True), (False, True), (False, False)


def node(*taints: str, name: str = "n", **labels: str) -> Object:
    """Return a node; taints as ``key=value:effect``."""
    made = []
    for text in taints:
        rest, _, effect = text.partition(":")
        key, _, value = rest.partition("=")
        made.append({"key": key, "effect": effect, **({"value": value} if value else {})})
    return {"metadata": {"name": name, "labels": labels}, "spec": {"taints": made}}


def owner(**spec: Any) -> Object:
    return {"metadata": {"name": "log", "namespace": "default", "uid": "u"},
            "spec": {"template": {"metadata": {"labels": {"a": "b"}}, "spec": spec}}}  # fmt: skip


def required(*terms: Object) -> Object:
    wanted = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return {"affinity": {"nodeAffinity": wanted}}


def expressed(key: str, operator: str, *values: str) -> Object:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("spec", "there", "wanted"),
    [
        ({}, node(), YES),
        ({"nodeName": "n"}, node(), YES),
        ({"nodeName": "m"}, node(), NO),
        ({"nodeSelector": {"disk": "ssd"}}, node(disk="ssd"), YES),
        ({"nodeSelector": {"disk": "ssd"}}, node(disk="hdd"), NO),
        (required(expressed("disk", "In", "ssd", "nvme")), node(disk="nvme"), YES),
        (required(expressed("disk", "In", "ssd")), node(), NO),
        (required(expressed("disk", "NotIn", "ssd")), node(), YES),
        (required(expressed("disk", "NotIn", "ssd")), node(disk="ssd"), NO),
        (required(expressed("disk", "Exists")), node(disk=""), YES),
        (required(expressed("disk", "DoesNotExist")), node(disk=""), NO),
        (required(expressed("cores", "Gt", "4")), node(cores="8"), YES),
        (required(expressed("cores", "Gt", "4")), node(cores="4"), NO),
        (required(expressed("cores", "Lt", "4")), node(cores="3"), YES),
        (required(expressed("cores", "Lt", "4")), node(cores="few"), NO),
        (required(expressed("a", "Exists"), expressed("b", "Exists")), node(b="1"), YES),
        (required({}), node(), NO),
        (required(), node(), NO),
        (required({"matchFields": [{"key": "metadata.name", "operator": "In",
                                    "values": ["n"]}]}), node(), YES),
        (required({"matchFields": [{"key": "metadata.name", "operator": "NotIn",
                                    "values": ["n"]}]}), node(), NO),
        ({}, node("a=b:NoSchedule"), STAYS),
        ({}, node("a=b:NoExecute"), NO),
        ({}, node("a=b:PreferNoSchedule"), YES),
        ({"tolerations": [{"operator": "Exists"}]}, node("a=b:NoExecute"), YES),
        ({"tolerations": [{"key": "a", "value": "b"}]}, node("a=b:NoExecute"), YES),
        ({"tolerations": [{"key": "a", "value": "c"}]}, node("a=b:NoExecute"), NO),
        ({"tolerations": [{"key": "a", "operator": "Exists", "effect": "NoSchedule"}]},
         node("a=b:NoExecute"), NO),
        ({"tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute"}]},
         node("a=b:NoExecute", "c=d:NoSchedule"), STAYS),
        ({}, node("node.kubernetes.io/unschedulable:NoSchedule"), YES),
        ({}, node("node.kubernetes.io/not-ready:NoExecute"), YES),
        ({}, node("node.kubernetes.io/not-ready:NoSchedule"), STAYS),
        ({}, node("node.kubernetes.io/unreachable:NoExecute"), YES),
        ({}, node("node.kubernetes.io/disk-pressure:NoSchedule"), YES),
        ({}, node("node.kubernetes.io/memory-pressure:NoSchedule"), YES),
        ({}, node("node.kubernetes.io/pid-pressure:NoSchedule"), YES),
        ({}, node("node.kubernetes.io/network-unavailable:NoSchedule"), STAYS),
        ({"hostNetwork": True}, node("node.kubernetes.io/network-unavailable:NoSchedule"), YES),
    ],
)  # fmt: skip
def test_fits(spec: Object, there: Object, wanted: tuple[bool, bool]) -> None:
    assert fits(owner(**spec), there) == wanted


def test_tolerations_are_added_once() -> None:
    mine = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": 30}  # fmt: skip
    other = {"key": "x", "operator": "Exists"}
    found = with_tolerations({"tolerations": [mine, other]})
    assert len(found) == 7
    assert found[0] == {"key": "node.kubernetes.io/not-ready", "operator": "Exists",
                        "effect": "NoExecute"}  # fmt: skip
    assert with_tolerations({"tolerations": found}) == found
    assert len(with_tolerations({"hostNetwork": True})) == 7


def test_a_pod_is_kept_to_its_node() -> None:
    spec: Object = required(expressed("disk", "Exists"))
    spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] = []
    spec["affinity"]["podAffinity"] = {"x": 1}
    made = owner(**spec)
    made["metadata"]["annotations"] = {"deprecated.daemonset.template.generation": "7"}
    before = copy.deepcopy(made)
    pod = new_pod(made, "5d8", "n")
    assert made == before
    assert node_of(pod) == "n"
    affinity = pod["spec"]["affinity"]
    assert affinity["podAffinity"] == {"x": 1}
    assert "preferredDuringSchedulingIgnoredDuringExecution" in affinity["nodeAffinity"]
    assert pod["metadata"]["labels"] == {
        "a": "b", "controller-revision-hash": "5d8", "pod-template-generation": "7",
    }  # fmt: skip
    assert node_of({"spec": {"nodeName": "m", "affinity": kept_to(None, "n")}}) == "m"
    assert node_of({"spec": {}}) == ""
    assert node_of({"spec": required(expressed("disk", "Exists"))}) == ""
