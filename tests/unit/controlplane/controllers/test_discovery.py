"""What is read of aggregated discovery."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.controllers.discovery import parsed, stale
from kubeletpy_common.apiclient.errors import ApiError


def group(name: str, *versions: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name}, "versions": list(versions)}


def version(name: str, *resources: tuple[str, str, str], **more: Any) -> dict[str, Any]:
    return {"version": name, **more, "resources": [
        {"resource": plural, "scope": scope, "verbs": ["list", "get"],
         "responseKind": {"group": "", "version": name, "kind": kind}}
        for plural, kind, scope in resources
    ]}  # fmt: skip


def test_each_resource_once_and_each_kind_in_each_version() -> None:
    pods, autoscalers = ("pods", "Pod", "Namespaced"), ("scalers", "Scaler", "Cluster")
    core = {"kind": "APIGroupDiscoveryList", "items": [group("", version("v1", pods))]}
    nameless: dict[str, Any] = {"resource": "odd", "scope": "Cluster", "verbs": []}
    v2 = version("v2", autoscalers)
    v2["resources"].append(nameless)
    groups = [group("a.test", v2, version("v1", autoscalers)),
              group("b.test", version("v1", freshness="Stale"))]  # fmt: skip
    rest = {"kind": "APIGroupDiscoveryList", "items": groups}
    served, kinds = parsed([core, rest])
    assert [(one.resource.group_version, one.resource.plural) for one in served] == [
        ("v1", "pods"), ("a.test/v2", "scalers"),
    ]  # fmt: skip
    assert [one.resource.namespaced for one in served] == [True, False]
    assert set(kinds) == {("v1", "Pod"), ("a.test/v2", "Scaler"), ("a.test/v1", "Scaler")}
    assert stale([core, rest]) == ["b.test/v1"]


def test_a_server_that_does_not_know_it_says_so() -> None:
    with pytest.raises(ApiError, match="aggregated discovery"):
        parsed([{"kind": "APIVersions"}])
