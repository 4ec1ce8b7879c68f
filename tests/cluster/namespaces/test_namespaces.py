"""Namespaces and what is in each, against an API server that runs no controllers of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controlplane.engine.resources import (
    ACCOUNTS,
    CLAIMS,
    CONFIG_MAPS,
    NAMESPACES,
    PODS,
    SECRETS,
    VOLUMES,
    Object,
)
from kubeletpy_common.apiclient.client import MERGE_PATCH
from tests.support.cluster import Cluster, cluster, pod_template

NAMESPACE = "namespace-controller"
FURNISHING = ("serviceaccount-controller", "root-ca-certificate-publisher-controller")
PROTECTION = ("persistentvolumeclaim-protection-controller",
              "persistentvolume-protection-controller")  # fmt: skip


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path, controllers=()) as made:
        yield made


def condition(found: list[Object], name: str, kind: str) -> Object:
    [value] = [one for one in found if one["metadata"]["name"] == name]
    conditions = value.get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == kind), {})


def roots(found: list[Object]) -> list[Object]:
    return [one for one in found if one["metadata"]["name"] == "kube-root-ca.crt"]


async def test_a_namespace_goes_with_all_that_is_in_it(server: Cluster) -> None:
    await server.start(NAMESPACE)
    await server.create(NAMESPACES, {"metadata": {"name": "old"}})
    for number in range(5):
        await server.create(SECRETS, {"metadata": {"name": f"s{number}"}}, "old")
    held = {"metadata": {"name": "held", "finalizers": ["example.test/held"]}}
    await server.create(CONFIG_MAPS, held, "old")
    await server.client.delete(NAMESPACES.path(name="old"))
    found = await server.until(NAMESPACES, lambda found: condition(
        found, "old", "NamespaceFinalizersRemaining").get("status") == "True")  # fmt: skip
    assert condition(found, "old", "NamespaceContentRemaining")["message"] == (
        "Some resources are remaining: configmaps. has 1 resource instances"
    )
    assert await server.listed(SECRETS) == []
    path = CONFIG_MAPS.path("old", "held")
    await server.client.patch(path, {"metadata": {"finalizers": None}}, kind=MERGE_PATCH)
    await server.until(NAMESPACES, lambda found: all(
        one["metadata"]["name"] != "old" for one in found))  # fmt: skip


async def test_pods_come_first_and_a_new_process_ends_what_the_old_one_began(
    server: Cluster,
) -> None:
    host = await server.start(NAMESPACE)
    await server.create(NAMESPACES, {"metadata": {"name": "old"}})
    await server.create(ACCOUNTS, {"metadata": {"name": "default"}}, "old")
    pod = {"metadata": {"name": "p", "finalizers": ["example.test/held"]},
           "spec": pod_template()["spec"]}  # fmt: skip
    await server.create(PODS, pod, "old")
    await server.create(CONFIG_MAPS, {"metadata": {"name": "c"}}, "old")
    await server.client.delete(NAMESPACES.path(name="old"))
    await server.until(NAMESPACES, lambda found: condition(
        found, "old", "NamespaceContentRemaining").get("status") == "True")  # fmt: skip
    assert len(await server.listed(CONFIG_MAPS, "old")) == 1
    await server.stop(host)
    path = PODS.path("old", "p")
    await server.client.patch(path, {"metadata": {"finalizers": None}}, kind=MERGE_PATCH)
    await server.start(NAMESPACE)
    await server.until(NAMESPACES, lambda found: all(
        one["metadata"]["name"] != "old" for one in found))  # fmt: skip
    assert await server.listed(CONFIG_MAPS, "old") == []


async def test_every_namespace_is_furnished_and_again(server: Cluster) -> None:
    await server.start(*FURNISHING)
    await server.create(NAMESPACES, {"metadata": {"name": "new"}})

    def there(found: list[Object]) -> bool:
        names = ("default", "kube-root-ca.crt")
        known = {one["metadata"]["namespace"] for one in found if one["metadata"]["name"] in names}
        return {"default", "kube-system", "new"} <= known

    await server.until(ACCOUNTS, there)
    await server.until(CONFIG_MAPS, there)
    maps = roots(await server.listed(CONFIG_MAPS))
    authority = server.client.access.ca.decode()
    assert all(one["data"]["ca.crt"] == authority for one in maps)
    path = CONFIG_MAPS.path("new", "kube-root-ca.crt")
    await server.client.patch(path, {"data": {"ca.crt": "another"}}, kind=MERGE_PATCH)
    await server.until(CONFIG_MAPS, lambda found: all(
        one["data"]["ca.crt"] == authority for one in roots(found)))  # fmt: skip
    before = await server.get(ACCOUNTS, "default", "new")
    await server.client.delete(ACCOUNTS.path("new", "default"))
    await server.until(ACCOUNTS, lambda found: there(found) and all(
        one["metadata"]["uid"] != before["metadata"]["uid"] for one in found))  # fmt: skip


async def test_what_is_used_stays_until_it_is_not(server: Cluster) -> None:
    await server.start(*PROTECTION)
    await server.create(ACCOUNTS, {"metadata": {"name": "default"}})
    size = {"storage": "1Gi"}
    claim = {"metadata": {"name": "c"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": size}}}  # fmt: skip
    await server.create(CLAIMS, claim)
    pod = {"metadata": {"name": "p"}, "spec": {
        **pod_template()["spec"],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}}  # fmt: skip
    await server.create(PODS, pod)
    spec = {"capacity": size, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}
    await server.create(VOLUMES, {"metadata": {"name": "v"}, "spec": spec})
    bound = {"status": {"phase": "Bound"}}
    status = VOLUMES.path(name="v", subresource="status")
    await server.client.patch(status, bound, kind=MERGE_PATCH)
    # Taken off by someone, the finalizer comes back.
    path = CLAIMS.path("default", "c")
    await server.client.patch(path, {"metadata": {"finalizers": None}}, kind=MERGE_PATCH)
    await server.until(CLAIMS, lambda found: found[0]["metadata"].get("finalizers") == [
        "kubernetes.io/pvc-protection"])  # fmt: skip
    await server.client.delete(path)
    await server.client.delete(VOLUMES.path(name="v"))
    # Something that is not used goes meanwhile: these were looked at as well.
    await server.create(CLAIMS, {**claim, "metadata": {"name": "free"}})
    await server.client.delete(CLAIMS.path("default", "free"))
    await server.until(CLAIMS, lambda found: [one["metadata"]["name"] for one in found] == ["c"])
    assert len(await server.listed(VOLUMES)) == 1
    await server.client.delete(PODS.path("default", "p"), {"gracePeriodSeconds": 0})
    await server.until(CLAIMS, lambda found: not found)
    await server.client.patch(status, {"status": {"phase": "Released"}}, kind=MERGE_PATCH)
    await server.until(VOLUMES, lambda found: not found)
