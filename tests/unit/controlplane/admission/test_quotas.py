"""Quotas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from controlplane import admission, builtin
from controlplane.admission.quotas.plugin import exceeded, increase
from controlplane.controllers.quota.usage import (
    add,
    kinds_of,
    matches_scopes,
    missing,
    usage_of,
)
from controlplane.kinds.quantity import parse
from controlplane.kinds.totals import Amounts, shown
from tests.unit.controlplane.builtin.test_garbage import until
from tests.unit.controlplane.server.client import MAPS, Api, running_api

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PODS = ("", "pods")


def amounts(found: Amounts) -> dict[str, str]:
    return {name: shown(amount) for name, amount in found.items()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pods", PODS),
        ("requests.cpu", PODS),
        ("limits.ephemeral-storage", PODS),
        ("hugepages-2Mi", PODS),
        ("requests.nvidia.com/gpu", PODS),
        ("services.nodeports", ("", "services")),
        ("secrets", ("", "secrets")),
        ("gold.storageclass.storage.k8s.io/requests.storage", ("", "persistentvolumeclaims")),
        ("count/pods", PODS),
        ("count/deployments.apps", ("apps", "deployments")),
        ("count/widgets.example.com", ("example.com", "widgets")),
        ("nonsense", None),
    ],
)
def test_names(name: str, expected: tuple[str, str] | None) -> None:
    assert kinds_of(name) == expected


def pod(**more: Any) -> dict[str, Any]:
    requests = {"cpu": "1", "memory": "1Gi", "example.com/gpu": "2"}
    container = {"name": "c", "resources": {"requests": requests, "limits": {"cpu": "2"}}}
    spec = {"containers": [container], **more.pop("spec", {})}
    return {"metadata": {"name": "p", **more.pop("metadata", {})}, "spec": spec, **more}


ALL = {
    "count/pods": "1",
    "pods": "1",
    "cpu": "1",
    "requests.cpu": "1",
    "limits.cpu": "2",
    "memory": "1Gi",
    "requests.memory": "1Gi",
    "requests.example.com/gpu": "2",
}
GONE = {"deletionTimestamp": "2025-12-31T23:59:00Z", "deletionGracePeriodSeconds": 30}
GOING = {"deletionTimestamp": "2025-12-31T23:59:50Z", "deletionGracePeriodSeconds": 30}


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (PODS, pod(), ALL),
        (PODS, pod(status={"phase": "Succeeded"}), {"count/pods": "1"}),
        (PODS, pod(metadata=GONE), {"count/pods": "1"}),
        (PODS, pod(metadata=GOING), ALL),
        (
            PODS,
            pod(spec={"overhead": {"cpu": "500m"}}),
            {**ALL, "cpu": "1500m", "requests.cpu": "1500m", "limits.cpu": "2500m"},
        ),
        # While a pod is made smaller, it holds what its node has given.
        (
            PODS,
            pod(
                status={
                    "containerStatuses": [
                        {"name": "c", "resources": {"requests": {"cpu": "3"}}}
                    ]
                }
            ),
            {**ALL, "cpu": "3", "requests.cpu": "3"},
        ),
        (
            ("", "services"),
            {"metadata": {}, "spec": {"type": "LoadBalancer", "ports": [{}, {}]}},
            {
                "count/services": "1",
                "services": "1",
                "services.nodeports": "2",
                "services.loadbalancers": "1",
            },
        ),
        (
            ("", "persistentvolumeclaims"),
            {
                "metadata": {},
                "spec": {
                    "storageClassName": "gold",
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            },
            {
                "count/persistentvolumeclaims": "1",
                "persistentvolumeclaims": "1",
                "requests.storage": "1Gi",
                "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
                "gold.storageclass.storage.k8s.io/requests.storage": "1Gi",
            },
        ),
        (("", "secrets"), {"metadata": {}}, {"count/secrets": "1", "secrets": "1"}),
        (("apps", "deployments"), {"metadata": {}}, {"count/deployments.apps": "1"}),
    ],
)  # fmt: skip
def test_usage(kind: tuple[str, str], value: dict[str, Any], expected: dict[str, str]) -> None:
    assert amounts(usage_of(kind, value, NOW)) == expected


@pytest.mark.parametrize(
    ("quota", "spec", "expected"),
    [
        ({}, {}, True),
        ({"scopes": ["Terminating"]}, {"activeDeadlineSeconds": 0}, True),
        ({"scopes": ["Terminating", "BestEffort"]}, {"activeDeadlineSeconds": 0}, False),
        ({"scopes": ["NotBestEffort"]}, {}, True),
        ({"scopes": ["BestEffort"]}, {"containers": [{"name": "c"}]}, True),
        ({"scopes": ["PriorityClass"]}, {}, False),
        ({"scopes": ["CrossNamespacePodAffinity"]}, {}, False),
        (
            {"scopes": ["CrossNamespacePodAffinity"]},
            {
                "affinity": {
                    "podAntiAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["n"]}]
                    }
                }
            },
            True,
        ),
    ],
)
def test_scopes(quota: dict[str, Any], spec: dict[str, Any], expected: bool) -> None:
    assert matches_scopes(PODS, pod(spec=spec), quota) is expected
    assert matches_scopes(("", "secrets"), {"metadata": {}}, quota) is (quota == {})


@pytest.mark.parametrize(
    ("operator", "values", "name", "expected"),
    [
        ("In", ["a"], "a", True),
        ("In", ["a"], "b", False),
        ("NotIn", ["a"], "", True),
        ("NotIn", ["a"], "a", False),
        ("Exists", [], "a", True),
        ("DoesNotExist", [], "", True),
        ("DoesNotExist", [], "a", False),
    ],
)
def test_scope_of_priority(operator: str, values: list[str], name: str, expected: bool) -> None:
    one = {"scopeName": "PriorityClass", "operator": operator, "values": values}
    quota = {"scopeSelector": {"matchExpressions": [one]}}
    assert matches_scopes(PODS, pod(spec={"priorityClassName": name}), quota) is expected


def test_what_pods_have_to_say() -> None:
    spec = {"containers": [{"name": "b"}, {"name": "a"}]}
    names = ["pods", "limits.cpu", "memory", "requests.storage"]
    assert missing(spec, names) == "must specify limits.cpu for: a,b; memory for: a,b"
    assert missing(pod()["spec"], ["cpu", "memory"]) == ""


def test_what_is_exceeded() -> None:
    used: Amounts = {}
    for text in ("1Gi", "512Mi"):
        add(used, {"memory": (parse(text), text), "pods": (parse("1"), "1")})
    more = increase(
        {"memory": (parse("2Gi"), "2Gi"), "pods": (parse("1"), "1")},
        {"memory": (parse("1Gi"), "1Gi"), "pods": (parse("1"), "1")},
        ["memory", "pods"],
    )
    assert amounts(more) == {"memory": "1Gi"}
    assert exceeded("q", {"memory": "3Gi", "pods": "1"}, used, more) == ""
    assert exceeded("q", {"memory": "2Gi"}, used, more) == (
        "exceeded quota: q, requested: memory=1Gi, used: memory=1536Mi, limited: memory=2Gi"
    )


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    parts = [admission.install, builtin.install]
    async with running_api(tmp_path, strategies={}, parts=parts) as running:
        yield running


async def test_many_writers_do_not_exceed_a_quota(api: Api) -> None:
    path = "/api/v1/namespaces/default/resourcequotas"
    await api.make("q", path, spec={"hard": {"configmaps": "6", "count/secrets": "1"}})
    bodies = [{"metadata": {"name": f"m{number}"}} for number in range(20)]
    answers = await asyncio.gather(*(api.call("POST", MAPS, body) for body in bodies))
    statuses = [status for status, _ in answers]
    assert (statuses.count(201), statuses.count(403)) == (6, 14)
    refused = next(value for status, value in answers if status == 403)
    assert refused["message"].endswith(
        "is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=6, limited: "
        "configmaps=6"
    )
    key = "/core/resourcequotas/default/q"

    def told(count: int) -> bool:
        item = api.store.get(key)
        used = f'"used":{{"configmaps":"{count}","count/secrets":"0"}}'.encode()
        return item is not None and used in item.value

    await until(api, lambda: told(6))
    # What fails or is only tried uses nothing, and what is deleted is free again.
    made = next(value for status, value in answers if status == 201)
    await api.call("DELETE", f"{MAPS}/{made['metadata']['name']}")
    status, _ = await api.call("POST", f"{MAPS}?dryRun=All", {"metadata": {"name": "dry"}})
    assert status == 201
    taken = next(value for status, value in answers[::-1] if status == 201)
    name = {"metadata": {"name": taken["metadata"]["name"]}}
    status, _ = await api.call("POST", MAPS, name)
    assert status == 409
    await until(api, lambda: told(5))
    await api.make("last")
    await until(api, lambda: told(6))
