"""What speaks against a pod, as a table."""

from __future__ import annotations

from typing import Any

import pytest

from kubeletpy.admission.admission import view_of
from kubeletpy.admission.predicates import NodeView, failures, refusal
from kubeletpy.api.codec import decode
from kubeletpy.api.pod import Pod

NODE = view_of(
    {
        "metadata": {"name": "n1", "labels": {"zone": "a", "rank": "5"}},
        "spec": {
            "taints": [
                {"key": "bad", "value": "yes", "effect": "NoExecute"},
                {"key": "full", "effect": "NoSchedule"},
            ]
        },
        "status": {
            "allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3", "example.org/gpu": "1"}
        },
    }
)
ENDURES = [{"key": "bad", "operator": "Exists"}]


def pod(
    requests: dict[str, str] | None = None,
    *,
    ports: list[dict[str, Any]] | None = None,
    api: bool = True,
    labels: dict[str, str] | None = None,
    **spec: Any,
) -> Pod:
    container = {
        "name": "a",
        "image": "i",
        "resources": {"requests": requests or {}},
        "ports": ports or [],
    }
    annotations = {"kubernetes.io/config.source": "api" if api else "file"}
    metadata = {"name": "web", "namespace": "default", "annotations": annotations}
    spec = {"tolerations": ENDURES, **spec, "containers": [container]}
    return decode({"metadata": {**metadata, "labels": labels or {}}, "spec": spec}, Pod)


def affinity(*terms: dict[str, Any]) -> dict[str, Any]:
    required = {"nodeSelectorTerms": list(terms)}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def zone(operator: str, *values: str, key: str = "zone") -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


def port(number: int, **more: Any) -> list[dict[str, Any]]:
    return [{"containerPort": 80, "hostPort": number, **more}]


HALF = pod({"cpu": "1500m"})
SHORT = "Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000"
SELECTOR = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"


@pytest.mark.parametrize(
    ("one", "others", "expected"),
    [
        (pod(), [], []),
        (pod({"cpu": "2", "memory": "1Gi"}), [], []),
        (pod({"cpu": "1"}), [HALF], [("OutOfcpu", SHORT)]),
        (pod(), [HALF, HALF, HALF], [("OutOfpods", "Node didn't have enough resource: pods, "
         "requested: 1, used: 3, capacity: 3")]),
        (pod({"memory": "2Gi"}), [], [("OutOfmemory", "Node didn't have enough resource: memory, "
         "requested: 2147483648, used: 0, capacity: 1073741824")]),
        (pod({"example.org/gpu": "1"}), [pod({"example.org/gpu": "1"})],
         [("OutOfexample.org/gpu", "Node didn't have enough resource: example.org/gpu, "
           "requested: 1, used: 1, capacity: 1")]),
        (pod({"example.org/unknown": "9"}), [], []),
        (pod({"hugepages-2Mi": "2Mi"}), [], [("OutOfhugepages-2Mi", "Node didn't have enough "
         "resource: hugepages-2Mi, requested: 2097152, used: 0, capacity: 0")]),
        (pod(nodeSelector={"zone": "a"}), [], []),
        (pod(nodeSelector={"zone": "b"}), [], [("NodeAffinity", SELECTOR)]),
        (pod(nodeName="n1"), [], []),
        (pod(nodeName="n2"), [], [("NodeName", "Predicate NodeName failed: node(s) didn't match "
         "the requested node name")]),
        (pod(affinity=affinity(zone("In", "a", "b"))), [], []),
        (pod(affinity=affinity(zone("NotIn", "a"))), [], [("NodeAffinity", SELECTOR)]),
        (pod(affinity=affinity(zone("NotIn", "a"), zone("Exists"))), [], []),
        (pod(affinity=affinity(zone("DoesNotExist", key="no"))), [], []),
        (pod(affinity=affinity(zone("Gt", "4", key="rank"))), [], []),
        (pod(affinity=affinity(zone("Lt", "4", key="rank"))), [], [("NodeAffinity", SELECTOR)]),
        (pod(affinity=affinity({})), [], [("NodeAffinity", SELECTOR)]),
        (pod(ports=port(80)), [pod(ports=port(81))], []),
        (pod(ports=port(80)), [pod(ports=port(80, protocol="UDP"))], []),
        (pod(ports=port(80, hostIP="10.0.0.1")), [pod(ports=port(80, hostIP="10.0.0.2"))], []),
        (pod(ports=port(80, hostIP="10.0.0.1")), [pod(ports=port(80))],
         [("NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the "
           "requested pod ports")]),
        (pod(tolerations=[]), [], [("TaintToleration", "Predicate TaintToleration failed: node(s) "
         "had taints that the pod didn't tolerate")]),
        (pod(tolerations=[{"key": "bad", "value": "yes"}]), [], []),
        (pod(tolerations=[], api=False), [], []),
    ],
)  # fmt: skip
def test_failures(one: Pod, others: list[Pod], expected: list[tuple[str, str]]) -> None:
    assert [(each.reason, each.message) for each in failures(one, NODE, others)] == expected


@pytest.mark.parametrize(
    ("one", "node", "reason"),
    [
        (pod(), NODE, None),
        (pod(os={"name": "linux"}, labels={"kubernetes.io/os": "linux"}), NODE, None),
        (pod(os={"name": "windows"}), NODE, "PodOSNotSupported"),
        (pod(labels={"kubernetes.io/os": "plan9"}), NODE, "PodOSSelectorNodeLabelDoesNotMatch"),
        (
            pod(securityContext={"supplementalGroupsPolicy": "Strict"}),
            NodeView("n1", supplemental_groups=False),
            "SupplementalGroupsPolicyNotSupported",
        ),
    ],
)
def test_refusal(one: Pod, node: NodeView, reason: str | None) -> None:
    found = refusal(one, node)
    assert (found.reason if found is not None else None) == reason
