"""StatefulSets against an API server, their pods on nodes without machines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.engine.resources import CLAIMS, PODS, REVISIONS, STATEFUL_SETS, Object
from tests.support.cluster import Cluster, cluster, pod_template

NAME = "statefulset-controller"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


def web(replicas: int = 3, image: str = "example.test/app:1", **spec: Any) -> Object:
    template = pod_template(app="web")
    template["spec"]["containers"][0]["image"] = image
    template["spec"]["nodeName"] = "one"
    return {
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas, "serviceName": "web", "template": template,
            "selector": {"matchLabels": {"app": "web"}}, **spec,
        },
    }  # fmt: skip


def done(count: int) -> Any:
    def check(found: list[Object]) -> bool:
        status = found[0]["status"] if found else {}
        return (
            status.get("observedGeneration") == (found and found[0]["metadata"]["generation"])
            and status.get("readyReplicas", 0) == status.get("updatedReplicas", 0) == count
            and status["replicas"] == count
            and status["currentRevision"] == status["updateRevision"]
        )

    return check


async def test_in_order(server: Cluster) -> None:
    await server.hollow("one")
    await server.start(NAME)
    claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
             "resources": {"requests": {"storage": "1Gi"}}}}  # fmt: skip
    await server.create(STATEFUL_SETS, web(volumeClaimTemplates=[claim], ordinals={"start": 5}))
    [made] = await server.until(STATEFUL_SETS, done(3))
    pods = sorted(await server.listed(PODS), key=lambda pod: pod["metadata"]["name"])
    print([p["metadata"] for p in pods], made["status"])
    assert [pod["metadata"]["name"] for pod in pods] == ["web-5", "web-6", "web-7"]
    print(await server.listed(REVISIONS))
    print(await server.listed(CLAIMS))
