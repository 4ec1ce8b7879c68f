"""What namespaces use of their quotas, against an API server that does not count itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.engine.resources import CONFIG_MAPS, DEPLOYMENTS, PODS, QUOTAS, SERVICES, Object
from kubeletpy_common.apiclient.client import MERGE_PATCH
from tests.support.cluster import Cluster, cluster, pod_template

QUOTA = "resourcequota-controller"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path, controllers=("serviceaccount",)) as made:
        yield made


def uses(**used: str) -> Any:
    wanted = {name.replace("requests_", "requests."): text for name, text in used.items()}

    def check(found: list[Object]) -> bool:
        known = [one.get("status", {}).get("used", {}) for one in found]
        return any(wanted.items() <= one.items() for one in known)

    return check


def quota(**more: Any) -> Object:
    return {"metadata": {"name": "q"}, "spec": more}


def pod(name: str, cpu: str) -> Object:
    spec = pod_template()["spec"]
    spec["containers"][0]["resources"] = {"requests": {"cpu": cpu}}
    return {"metadata": {"name": name}, "spec": spec}


async def test_what_comes_and_goes_is_counted(server: Cluster) -> None:
    host = await server.start(QUOTA)
    hard = {"pods": "9", "requests.cpu": "9", "configmaps": "9", "count/deployments.apps": "9",
            "services": "9", "count/things.example.test": "9"}  # fmt: skip
    await server.create(QUOTAS, quota(hard=hard))
    await server.until(QUOTAS, uses(pods="0", services="1"))
    await server.create(PODS, pod("a", "500m"))
    await server.create(PODS, pod("b", "1500m"))
    await server.create(SERVICES, {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})
    await server.create(CONFIG_MAPS, {"metadata": {"name": "c"}})
    labels = {"app": "x"}
    await server.create(DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": labels}, "template": pod_template(**labels)}})  # fmt: skip
    # Deployments and maps come by watches of their own.
    own = {"count/deployments.apps": "1", "configmaps": "1"}
    found = await server.until(QUOTAS, uses(pods="2", requests_cpu="2", services="2", **own))
    assert found[0]["status"]["hard"] == hard
    # What nobody serves is not counted.
    assert "count/things.example.test" not in found[0]["status"]["used"]
    await server.client.delete(PODS.path("default", "b"), {"gracePeriodSeconds": 0})
    await server.until(QUOTAS, uses(pods="1", requests_cpu="500m"))
    # A process that comes new counts the same, and writes nothing.
    version = (await server.get(QUOTAS, "q"))["metadata"]["resourceVersion"]
    await server.stop(host)
    await server.start(QUOTA)
    await server.create(PODS, pod("c", "1"))
    await server.until(QUOTAS, uses(pods="2", requests_cpu="1500m"))
    assert version != (await server.get(QUOTAS, "q"))["metadata"]["resourceVersion"]


async def test_scopes_and_changes_of_a_quota(server: Cluster) -> None:
    await server.start(QUOTA)
    await server.create(QUOTAS, quota(hard={"pods": "9"}, scopes=["BestEffort"]))
    await server.create(PODS, pod("a", "1"))
    await server.create(PODS, {"metadata": {"name": "b"}, "spec": pod_template()["spec"]})
    await server.until(QUOTAS, uses(pods="1"))
    changes = {"spec": {"hard": {"pods": None, "count/configmaps": "9"}, "scopes": None}}
    path = QUOTAS.path("default", "q")
    await server.client.delete(path)
    await server.create(QUOTAS, quota(hard={"pods": "9"}))
    await server.until(QUOTAS, uses(pods="2"))
    await server.client.patch(path, changes, kind=MERGE_PATCH)
    found = await server.until(QUOTAS, lambda found: found and "pods" not in found[0][
        "status"]["used"])  # fmt: skip
    assert int(found[0]["status"]["used"]["count/configmaps"]) >= 0
