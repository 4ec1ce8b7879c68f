"""Levels of pod security; the texts are what Kubernetes 1.36 answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane import admission, builtin
from controlplane.admission.pod_security.plugin import label_problems, policy_of
from controlplane.admission.pod_security.standards import problems
from controlplane.kinds.strategies.namespaces import NAMESPACES
from tests.unit.controlplane.server.client import Api, running_api

PREFIX = "pod-security.kubernetes.io/"
PLAIN: dict[str, Any] = {"containers": [{"name": "c"}]}
GOOD: dict[str, Any] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
POD: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
PRIVILEGED = {
    "hostNetwork": True,
    "hostPID": True,
    "containers": [
        {
            "name": "c",
            "ports": [{"containerPort": 80, "hostPort": 80}],
            "securityContext": {"privileged": True},
        },
        {
            "name": "d",
            "securityContext": {
                "privileged": True,
                "capabilities": {"add": ["SYS_ADMIN", "NET_RAW"]},
            },
        },
    ],
    "volumes": [{"name": "h", "hostPath": {}}, {"name": "n", "nfs": {}}],
}
UNCONFINED = {
    "securityContext": {
        "runAsNonRoot": False,
        "runAsUser": 0,
        "seccompProfile": {"type": "Unconfined"},
        "sysctls": [{"name": "kernel.msgmax", "value": "1"}],
        "appArmorProfile": {"type": "Unconfined"},
        "seLinuxOptions": {"user": "u", "type": "t"},
    },
    "initContainers": [{"name": "i", "securityContext": {"runAsUser": 0, "runAsNonRoot": False}}],
    "containers": [
        {
            "name": "c",
            "securityContext": {
                "seccompProfile": {"type": "Unconfined"},
                "appArmorProfile": {"type": "Unconfined"},
            },
            "livenessProbe": {"httpGet": {"host": "1.2.3.4"}},
        }
    ],
}


@pytest.mark.parametrize(
    ("level", "spec", "expected"),
    [
        ("privileged", PRIVILEGED, []),
        ("baseline", PLAIN, []),
        (
            "baseline",
            PRIVILEGED,
            [
                'non-default capabilities (container "d" must not include "NET_RAW", "SYS_ADMIN" '
                "in securityContext.capabilities.add)",
                "host namespaces (hostNetwork=true, hostPID=true)",
                'hostPath volumes (volume "h")',
                'hostPort (container "c" uses hostPort 80)',
                'privileged (containers "c", "d" must not set securityContext.privileged=true)',
            ],
        ),
        (
            "baseline",
            UNCONFINED,
            [
                'forbidden AppArmor profile (pod and container "c" must not set AppArmor profile '
                'type to "Unconfined")',
                'probe or lifecycle host (container "c" uses probe or lifecycle host "1.2.3.4")',
                'seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "t"; user '
                "may not be set)",
                'seccompProfile (pod and container "c" must not set '
                'securityContext.seccompProfile.type to "Unconfined")',
                "forbidden sysctls (kernel.msgmax)",
            ],
        ),
        (
            "restricted",
            PLAIN,
            [
                'allowPrivilegeEscalation != false (container "c" must set '
                "securityContext.allowPrivilegeEscalation=false)",
                'unrestricted capabilities (container "c" must set '
                'securityContext.capabilities.drop=["ALL"])',
                'runAsNonRoot != true (pod or container "c" must set '
                "securityContext.runAsNonRoot=true)",
                'seccompProfile (pod or container "c" must set '
                'securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")',
            ],
        ),
        (
            "restricted",
            {"securityContext": POD, "containers": [{"name": "c", "securityContext": GOOD}]},
            [],
        ),
        (
            "restricted",
            {
                "securityContext": {**POD, "runAsNonRoot": False, "runAsUser": 0},
                "containers": [{"name": "c", "securityContext": GOOD}],
                "volumes": [{"name": "n", "nfs": {}}],
            },
            [
                'restricted volume types (volume "n" uses restricted volume type "nfs")',
                "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)",
                "runAsUser=0 (pod must not set runAsUser=0)",
            ],
        ),
        # In a user namespace root is nobody (KEP-127).
        (
            "restricted",
            {
                "hostUsers": False,
                "securityContext": {"seccompProfile": {"type": "Localhost"}, "runAsUser": 0},
                "containers": [{"name": "c", "securityContext": {**GOOD, "procMount": "Unmasked"}}],
            },
            ['procMount (container "c" must not set securityContext.procMount to "Unmasked")'],
        ),
    ],
)
def test_levels(level: str, spec: dict[str, Any], expected: list[str]) -> None:
    assert problems(level, {}, spec) == ", ".join(expected)


def test_what_labels_ask_for() -> None:
    assert policy_of({}).enforce == ("privileged", "latest")
    policy = policy_of({f"{PREFIX}enforce": "baseline", f"{PREFIX}enforce-version": "v1.30"})
    assert policy.enforce == policy.warn == ("baseline", "v1.30")
    policy = policy_of({f"{PREFIX}enforce": "odd", f"{PREFIX}warn": "baseline"})
    assert (policy.enforce, policy.warn) == (("restricted", "latest"), ("baseline", "latest"))
    found = label_problems({f"{PREFIX}audit": "odd", f"{PREFIX}warn-version": "1.30"})
    assert [one.field for one in found] == [
        f"metadata.labels[{PREFIX}audit]",
        f"metadata.labels[{PREFIX}warn-version]",
    ]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    parts = [admission.install, builtin.install]
    async with running_api(tmp_path, strategies=NAMESPACES, parts=parts) as running:
        yield running


async def test_pods_are_refused_and_templates_warned_of(api: Api) -> None:
    labels = {f"{PREFIX}enforce": "baseline", f"{PREFIX}warn": "restricted"}
    await api.make("strict", "/api/v1/namespaces", metadata={"labels": labels})
    pods = "/api/v1/namespaces/strict/pods"
    spec: dict[str, Any] = {"containers": [{"name": "c"}]}
    answer = await api.send("POST", pods, {"metadata": {"name": "a"}, "spec": spec})
    assert answer.status == 201
    assert 'would violate PodSecurity \\"restricted:latest\\": ' in answer.headers["Warning"]
    body = {"metadata": {"name": "b"}, "spec": {**spec, "hostPID": True}}
    status, value = await api.call("POST", pods, body)
    assert (status, value["message"]) == (
        403,
        'pods "b" is forbidden: violates PodSecurity "baseline:latest": host namespaces '
        "(hostPID=true)",
    )
    body = {"metadata": {"name": "d"}, "spec": {"template": {"spec": spec}}}
    answer = await api.send("POST", "/apis/apps/v1/namespaces/strict/deployments", body)
    assert answer.status == 201
    assert "would violate PodSecurity" in answer.headers["Warning"]
    patch = {"metadata": {"labels": {f"{PREFIX}enforce": "odd"}}}
    kind = "application/merge-patch+json"
    status, _ = await api.call("PATCH", "/api/v1/namespaces/strict", patch, kind=kind)
    assert status == 422
