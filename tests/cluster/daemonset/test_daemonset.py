"""DaemonSets against an API server, their pods on nodes without machines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.engine.resources import DAEMON_SETS, Object
from tests.support.binder import Binder
from tests.support.cluster import Cluster, cluster, pod_template

NAME = "daemonset-controller"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        made.tasks.create_task(Binder(made.client).run())
        yield made


def log(image: str = "example.test/app:1", **spec: Any) -> Object:
    template = pod_template(app="log")
    template["spec"]["containers"][0]["image"] = image
    return {
        "metadata": {"name": "log"},
        "spec": {"template": template, "selector": {"matchLabels": {"app": "log"}}, **spec},
    }


def done(count: int) -> Any:
    def check(found: list[Object]) -> bool:
        if not found:
            return False
        status = found[0].get("status") or {}
        names = ("desiredNumberScheduled", "currentNumberScheduled", "updatedNumberScheduled",
                 "numberAvailable")  # fmt: skip
        return (
            status.get("observedGeneration") == found[0]["metadata"]["generation"]
            and all(status.get(name, 0) == count for name in names)
        )  # fmt: skip

    return check


async def test_a_pod_on_each_node_that_fits(server: Cluster) -> None:
    await server.hollow("a", "b", "c")
    await server.start(NAME)
    await server.create(DAEMON_SETS, log())
    await server.until(DAEMON_SETS, done(3))
    await server.client.patch(
        DAEMON_SETS.path("default", "log"),
        {"spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": "b"}}}}},
    )
    await server.until(DAEMON_SETS, done(1))
    await server.pods(1, app="log")
