"""What admission makes of pods, nodes, claims and ingresses."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane import admission, builtin
from controlplane.admission.classes import ClaimResize, default_class
from controlplane.admission.priorities import add_priority
from controlplane.admission.runtime_classes import add_runtime
from controlplane.admission.service_accounts import (
    automounts,
    mirror_problem,
    mount_token,
    secret_problem,
)
from controlplane.admission.tolerations import add_tolerations, merge
from controlplane.api.errors import ApiError
from controlplane.api.resource import Context
from controlplane.kinds.strategies import STRATEGIES
from tests.unit.controlplane.builtin.test_garbage import until
from tests.unit.controlplane.server.client import Api, running_api

PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
ACCOUNT: dict[str, Any] = {"metadata": {"name": "a"}, "secrets": [{"name": "known"}]}


@pytest.mark.parametrize(
    ("own", "account", "expected"),
    [(None, None, True), (None, False, False), (True, False, True), (False, True, False)],
)
def test_who_gets_a_token(own: bool | None, account: bool | None, expected: bool) -> None:
    key = "automountServiceAccountToken"
    assert automounts({key: account}, {key: own}) is expected


def test_token_is_mounted_where_nothing_is() -> None:
    taken = {"name": "b", "volumeMounts": [{"name": "mine", "mountPath": PATH}]}
    spec: dict[str, Any] = {"initContainers": [{"name": "i"}], "containers": [{"name": "a"}, taken]}
    mount_token(spec, "kube-api-access-x")
    mounts = [{"name": "kube-api-access-x", "readOnly": True, "mountPath": PATH}]
    assert spec["initContainers"][0]["volumeMounts"] == mounts
    assert spec["containers"][0]["volumeMounts"] == mounts
    assert len(spec["containers"][1]["volumeMounts"]) == 1
    assert [one["name"] for one in spec["volumes"]] == ["kube-api-access-x"]
    # Again, as by an apply of what was read: the volume that is there is used.
    again = copy.deepcopy(spec)
    mount_token(again, "kube-api-access-y")
    assert again == spec
    spec = {"containers": [taken]}
    mount_token(spec, "kube-api-access-x")
    assert "volumes" not in spec


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, ""),
        ({"serviceAccountName": "a"}, "a mirror pod may not reference service accounts"),
        (
            {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]},
            "a mirror pod may not reference secrets",
        ),
        (
            {"containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "s"}}]}]},
            "a mirror pod may not reference secrets",
        ),
        (
            {"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {}}]}}]},
            "a mirror pod may not use ServiceAccountToken volume projections",
        ),
    ],
)
def test_mirror_pods(spec: dict[str, Any], expected: str) -> None:
    assert mirror_problem(spec) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"volumes": [{"name": "v", "secret": {"secretName": "known"}}]}, ""),
        (
            {"volumes": [{"name": "v", "secret": {"secretName": "other"}}]},
            'volume with secret.secretName="other" is not allowed because service account a does '
            "not reference that secret",
        ),
        (
            {
                "containers": [
                    {
                        "name": "c",
                        "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "other"}}}],
                    }
                ]
            },
            'container c with envVar E referencing secret.secretName="other" is not allowed '
            "because service account a does not reference that secret",
        ),
        (
            {"imagePullSecrets": [{"name": "p"}]},
            'imagePullSecrets[0].name="p" is not allowed because service account a does not '
            "reference that imagePullSecret",
        ),
    ],
)
def test_secrets_of_an_account_that_names_its_own(spec: dict[str, Any], expected: str) -> None:
    assert secret_problem(ACCOUNT, spec) == expected


def toleration(key: str, effect: str = "NoExecute", seconds: int | None = None) -> dict[str, Any]:
    made = {"key": key, "operator": "Exists", "effect": effect}
    return made if seconds is None else {**made, "tolerationSeconds": seconds}


READY, REACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"


@pytest.mark.parametrize(
    ("present", "added"),
    [
        ([], [READY, REACHABLE]),
        ([toleration(READY)], [REACHABLE]),
        ([toleration(READY, "NoSchedule")], [READY, REACHABLE]),
        ([{"key": READY, "operator": "Exists"}], [REACHABLE]),
        ([{"operator": "Exists"}], []),
    ],
)
def test_default_tolerations(present: list[Any], added: list[str]) -> None:
    spec = {"tolerations": present}
    add_tolerations(spec)
    assert spec["tolerations"] == [*present, *(toleration(key, seconds=300) for key in added)]


def test_tolerations_are_merged() -> None:
    wide = {"key": "k", "operator": "Exists"}
    narrow = {"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}
    other = toleration("other", seconds=10)
    assert merge([narrow], [wide, narrow, other]) == [wide, other]
    assert merge([toleration("t", seconds=5)], [toleration("t", seconds=6)]) == [
        toleration("t", seconds=6)
    ]
    assert merge([other], [{"operator": "Exists"}]) == [{"operator": "Exists"}]


CLASS: dict[str, Any] = {"metadata": {"name": "high"}, "value": 10, "preemptionPolicy": "Never"}


@pytest.mark.parametrize(
    ("spec", "found", "expected"),
    [
        ({}, None, {"priority": 0, "preemptionPolicy": "PreemptLowerPriority"}),
        ({}, CLASS, {"priorityClassName": "high", "priority": 10, "preemptionPolicy": "Never"}),
        (
            {"priorityClassName": "high", "priority": 10},
            CLASS,
            {"priorityClassName": "high", "priority": 10, "preemptionPolicy": "Never"},
        ),
        ({"priorityClassName": "no"}, None, "no PriorityClass with name no was found"),
        (
            {"priority": 7},
            None,
            "the integer value of priority (7) must not be provided in pod spec; priority "
            "admission controller computed 0 from the given PriorityClass name",
        ),
        (
            {"preemptionPolicy": "Never"},
            None,
            "the string value of PreemptionPolicy (Never) must not be provided in pod spec; "
            "priority admission controller computed PreemptLowerPriority from the given "
            "PriorityClass name",
        ),
    ],
)
def test_priorities(spec: dict[str, Any], found: dict[str, Any] | None, expected: Any) -> None:
    why = add_priority(spec, found)
    assert (why or spec) == expected


RUNTIME: dict[str, Any] = {
    "overhead": {"podFixed": {"cpu": "100m"}},
    "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [toleration("vm", "NoSchedule")]},
}


@pytest.mark.parametrize(
    ("spec", "found", "expected"),
    [
        (
            {},
            RUNTIME,
            {
                "overhead": {"cpu": "100m"},
                "nodeSelector": {"vm": "yes"},
                "tolerations": [toleration("vm", "NoSchedule")],
            },
        ),
        (
            {"overhead": {"cpu": "1"}},
            RUNTIME,
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        ),
        (
            {"overhead": {}},
            {},
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            {"nodeSelector": {"vm": "no"}},
            RUNTIME,
            "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = "
            "no",
        ),
        ({"nodeSelector": {"a": "b"}}, {}, {"nodeSelector": {"a": "b"}}),
    ],
)
def test_runtime_classes(spec: dict[str, Any], found: dict[str, Any], expected: Any) -> None:
    assert (add_runtime(spec, found) or spec) == expected


def test_default_class_is_the_newest() -> None:
    def one(name: str, made: str, value: str = "true") -> dict[str, Any]:
        return {"metadata": {"name": name, "creationTimestamp": made, "annotations": {"m": value}}}

    assert default_class([], ("m",)) == ""
    assert default_class([one("a", "1", "false")], ("m",)) == ""
    assert default_class([one("a", "1"), one("c", "2"), one("b", "2")], ("m",)) == "b"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki/ca.crt").write_text("CERTIFICATE")
    parts = [admission.install, builtin.install]
    async with running_api(tmp_path, strategies=STRATEGIES, parts=parts) as running:
        yield running


async def test_a_new_namespace_is_furnished_and_stays_so(api: Api) -> None:
    await api.make("one", "/api/v1/namespaces")
    path = "/api/v1/namespaces/one"
    keys = ("/core/serviceaccounts/one/default", "/core/configmaps/one/kube-root-ca.crt")
    await until(api, lambda: all(api.store.get(key) for key in keys))
    _, value = await api.call("GET", f"{path}/configmaps/kube-root-ca.crt")
    assert value["data"] == {"ca.crt": "CERTIFICATE"}
    body = {**value, "data": {"ca.crt": "of someone else"}}
    await api.call("PUT", f"{path}/configmaps/kube-root-ca.crt", body)
    await api.call("DELETE", f"{path}/serviceaccounts/default")

    def right() -> bool:
        items = [api.store.get(key) for key in keys]
        return all(items) and b'"CERTIFICATE"' in (items[1].value if items[1] else b"")

    await until(api, right)


async def test_objects_are_completed(api: Api) -> None:
    pods = "/api/v1/namespaces/default/pods"
    containers = [{"name": "c", "image": "i"}]
    spec = {"containers": containers, "priorityClassName": "system-node-critical"}
    made = (await api.make("p", pods, spec=spec))["spec"]
    assert (made["serviceAccountName"], made["serviceAccount"]) == ("default", "default")
    assert made["volumes"][0]["name"].startswith("kube-api-access-")
    assert made["priority"] == 2_000_001_000
    assert len(made["tolerations"]) == 2
    status, value = await api.call(
        "POST",
        pods,
        {"metadata": {"name": "q"}, "spec": {"containers": containers, "serviceAccountName": "no"}},
    )
    assert (status, value["message"]) == (
        403,
        'pods "q" is forbidden: error looking up service account default/no: serviceaccount "no" '
        "not found",
    )
    made = await api.make("n", "/api/v1/nodes")
    assert made["spec"]["taints"] == [{"key": READY, "effect": "NoSchedule"}]
    storage = "/apis/storage.k8s.io/v1/storageclasses"
    mark = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    await api.make("fast", storage, metadata=mark, provisioner="example.com/p")
    request = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    path = "/api/v1/namespaces/default/persistentvolumeclaims"
    made = await api.make("claim", path, spec=request)
    assert made["spec"]["storageClassName"] == "fast"
    assert made["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]


async def test_claims_grow_where_their_class_lets_them(api: Api) -> None:
    storage = "/apis/storage.k8s.io/v1/storageclasses"
    await api.make("fixed", storage, provisioner="example.com/p")
    await api.make("grows", storage, provisioner="example.com/p", allowVolumeExpansion=True)
    claims = api.plane.catalog.find("", "v1", "persistentvolumeclaims")
    assert claims is not None

    def claim(size: str, name: str, phase: str) -> dict[str, Any]:
        spec = {"storageClassName": name, "resources": {"requests": {"storage": size}}}
        return {"metadata": {"name": "c"}, "spec": spec, "status": {"phase": phase}}

    static = (
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the "
        "pvc must support resize"
    )
    for size, name, phase, expected in (
        ("1Gi", "fixed", "Pending", ""),
        ("2Gi", "grows", "Bound", ""),
        ("2Gi", "grows", "Pending", "Only bound persistent volume claims can be expanded"),
        ("2Gi", "fixed", "Bound", static),
        ("2Gi", "", "Bound", static),
    ):
        old, new = claim("1Gi", name, phase), claim(size, name, phase)
        found = ""
        try:
            await ClaimResize(api.plane).admit(claims, new, old, Context())
        except ApiError as error:
            found = str(error)
        assert found == (f'persistentvolumeclaims "c" is forbidden: {expected}' if expected else "")
