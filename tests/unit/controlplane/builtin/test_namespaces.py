"""The life of namespaces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane import admission, builtin
from controlplane.builtin.namespaces.initial import make_namespaces
from controlplane.controllers.namespaces.conditions import Progress, with_progress
from controlplane.kinds.strategies.namespaces import NAMESPACES
from tests.unit.controlplane.builtin.test_garbage import until
from tests.unit.controlplane.server.client import MAPS, Api, Graceful, running_api

NOW = "2026-01-01T00:00:00Z"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    strategies = {**NAMESPACES, "/pods": Graceful()}
    parts = [admission.install, builtin.install]
    async with running_api(tmp_path, strategies=strategies, parts=parts) as running:
        yield running


def conditions(value: dict[str, Any]) -> dict[str, tuple[str, str, str]]:
    found = value["status"]["conditions"]
    return {one["type"]: (one["status"], one["reason"], one["message"]) for one in found}


def test_conditions_keep_the_time_of_their_last_change() -> None:
    first = with_progress([], Progress({("pods", ""): 2}, {"x/y": 1}), NOW)
    assert [one["type"] for one in first] == [
        "NamespaceDeletionDiscoveryFailure",
        "NamespaceDeletionGroupVersionParsingFailure",
        "NamespaceDeletionContentFailure",
        "NamespaceContentRemaining",
        "NamespaceFinalizersRemaining",
    ]
    assert first[3] == {
        "type": "NamespaceContentRemaining",
        "status": "True",
        "lastTransitionTime": NOW,
        "reason": "SomeResourcesRemain",
        "message": "Some resources are remaining: pods. has 2 resource instances",
    }
    later = with_progress(first, Progress({("jobs", "batch"): 1}, failures=("b", "a")), "later")
    assert [one["lastTransitionTime"] for one in later] == [NOW, NOW, "later", NOW, "later"]
    assert later[2]["message"] == "Failed to delete all resource types, 2 remaining: a, b"
    assert (
        later[3]["message"] == "Some resources are remaining: jobs.batch has 1 resource instances"
    )


async def test_a_namespace_goes_with_all_that_is_in_it(api: Api) -> None:
    await api.make("one", "/api/v1/namespaces")
    await api.make("map", "/api/v1/namespaces/one/configmaps", metadata={"finalizers": ["x/y"]})
    await api.make("lease", "/apis/coordination.k8s.io/v1/namespaces/one/leases")
    await api.make("pod", "/api/v1/namespaces/one/pods", spec={"containers": []})
    await api.make("role", "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/roles")
    status, value = await api.call("DELETE", "/api/v1/namespaces/one")
    assert (status, value["status"]["phase"]) == (200, "Terminating")
    status, value = await api.call(
        "POST", "/api/v1/namespaces/one/secrets", {"metadata": {"name": "late"}}
    )
    assert status == 403
    assert value["message"] == (
        'secrets "late" is forbidden: unable to create new content in namespace one because it is '
        "being terminated"
    )
    assert value["details"]["causes"] == [
        {
            "reason": "NamespaceTerminating",
            "message": "namespace one is being terminated",
            "field": "metadata.namespace",
        }
    ]

    def keys() -> set[str]:
        return {item.key for item in api.store.read("/").items if "/one" in item.key}

    def told(text: bytes) -> bool:
        item = api.store.get("/core/namespaces/one")
        return item is not None and text in item.value

    # Pods go first, and everything else waits for them.
    await until(api, lambda: told(b"pods. has 1 resource instances"))
    left = keys() - {"/core/serviceaccounts/one/default"}
    assert len(left) == 4
    await api.call("DELETE", "/api/v1/namespaces/one/pods/pod", {"gracePeriodSeconds": 0})
    await until(api, lambda: told(b"x/y in 1 resource instances"))
    assert keys() == {"/core/namespaces/one", "/core/configmaps/one/map"}
    _, value = await api.call("GET", "/api/v1/namespaces/one")
    assert conditions(value)["NamespaceContentRemaining"] == (
        "True",
        "SomeResourcesRemain",
        "Some resources are remaining: configmaps. has 1 resource instances",
    )
    patch = {"metadata": {"finalizers": None}}
    path = "/api/v1/namespaces/one/configmaps/map"
    await api.call("PATCH", path, patch, kind="application/merge-patch+json")
    await until(api, lambda: not keys())
    assert api.store.get("/rbac.authorization.k8s.io/roles/kube-system/role") is not None


async def test_namespaces_that_are_missing_or_stay(api: Api) -> None:
    status, value = await api.call(
        "POST", "/api/v1/namespaces/no/configmaps", {"metadata": {"name": "a"}}
    )
    assert (status, value["message"]) == (404, 'namespaces "no" not found')
    for name, expected in (("default", 403), ("kube-system", 403), ("kube-node-lease", 200)):
        status, value = await api.call("DELETE", f"/api/v1/namespaces/{name}")
        assert status == expected, value
    _, value = await api.call("DELETE", "/api/v1/namespaces/kube-public")
    assert value["message"] == (
        'namespaces "kube-public" is forbidden: this namespace may not be deleted'
    )


async def test_finalizers_of_the_spec_have_a_subresource(api: Api) -> None:
    made = await api.make("two", "/api/v1/namespaces")
    path = "/api/v1/namespaces/two/finalize"
    meta = {"name": "two", "uid": made["metadata"]["uid"]}
    body = {"metadata": meta, "spec": {"finalizers": ["kubernetes", "example.com/more"]}}
    status, value = await api.call("PUT", path, body)
    assert (status, value["spec"]["finalizers"]) == (200, ["kubernetes", "example.com/more"])
    stale = {**body, "metadata": {**meta, "resourceVersion": made["metadata"]["resourceVersion"]}}
    status, _ = await api.call("PUT", path, stale)
    assert status == 409
    await api.call("DELETE", "/api/v1/namespaces/two")

    def finalizers() -> bytes:
        item = api.store.get("/core/namespaces/two")
        return b"" if item is None else item.value

    await until(api, lambda: b'"finalizers":["example.com/more"]' in finalizers())
    status, value = await api.call("PUT", path, {"metadata": {"name": "two"}, "spec": {}})
    assert status == 200
    await until(api, lambda: not finalizers())


async def test_a_namespace_is_as_its_kind_wants(api: Api) -> None:
    made = await api.make("one", "/api/v1/namespaces", status={"phase": "Terminating"})
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "one"}
    assert made["spec"] == {"finalizers": ["kubernetes"]}
    assert made["status"] == {"phase": "Active"}
    assert "generation" not in made["metadata"]
    kind = "application/merge-patch+json"
    path = "/api/v1/namespaces/one"
    patch: dict[str, Any] = {"spec": {"finalizers": []}}
    _, value = await api.call("PATCH", path, patch, kind=kind)
    assert value["spec"] == made["spec"]
    patch = {"status": {"phase": "Terminating"}}
    status, value = await api.call("PATCH", f"{path}/status", patch, kind=kind)
    assert (status, value["message"]) == (
        422,
        'Namespace "one" is invalid: status.Phase: Invalid value: "Terminating": may only be '
        "'Active' if `deletionTimestamp` is empty",
    )
    body = {"metadata": {"name": "one"}, "spec": {"finalizers": ["short"]}}
    status, value = await api.call("PUT", f"{path}/finalize", body)
    assert (status, value["details"]["causes"][0]["field"]) == (422, "spec.finalizers[0]")
    _, value = await api.call("GET", "/api/v1/namespaces?fieldSelector=status.phase%3DActive")
    assert "one" in {item["metadata"]["name"] for item in value["items"]}


async def test_what_a_stopped_server_has_begun_is_ended_by_the_next(tmp_path: Path) -> None:
    async with running_api(tmp_path, strategies=NAMESPACES, parts=[admission.install]) as api:
        # No controller runs in this one: all is as a kill right after the requests leaves it.
        await make_namespaces(api.plane)
        await api.make("one", "/api/v1/namespaces")
        await api.make("map", "/api/v1/namespaces/one/configmaps")
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "no", "uid": "u"}
        await api.make("owned", metadata={"ownerReferences": [owner]})
        top = await api.make("top")
        up = {"apiVersion": "v1", "kind": "ConfigMap", "name": "top", "uid": top["metadata"]["uid"]}
        await api.make("kept", metadata={"ownerReferences": [up]})
        await api.call("DELETE", "/api/v1/namespaces/one")
        await api.call("DELETE", f"{MAPS}/top", {"propagationPolicy": "Orphan"})
    parts = [admission.install, builtin.install]
    async with running_api(tmp_path, strategies=NAMESPACES, parts=parts) as api:
        gone = (
            "/core/namespaces/one",
            "/core/configmaps/one/map",
            "/core/configmaps/default/owned",
            "/core/configmaps/default/top",
        )
        await until(api, lambda: not any(api.store.get(key) for key in gone))
        _, value = await api.call("GET", f"{MAPS}/kept")
        assert "ownerReferences" not in value["metadata"]
