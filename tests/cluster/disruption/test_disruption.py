"""PodDisruptionBudgets and evictions against an API server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controlplane.engine.resources import BUDGETS, STATEFUL_SETS
from tests.cluster.statefulset.test_statefulset import web
from tests.support.cluster import Cluster, cluster

NAME = "disruption-controller"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


async def test_budget(server: Cluster) -> None:
    await server.hollow("one")
    await server.start(NAME, "statefulset-controller")
    await server.create(STATEFUL_SETS, web(podManagementPolicy="Parallel"))
    await server.create(
        BUDGETS,
        {
            "metadata": {"name": "web"},
            "spec": {"maxUnavailable": "34%", "selector": {"matchLabels": {"app": "web"}}},
        },
    )
    [b] = await server.until(
        BUDGETS, lambda f: f and f[0].get("status", {}).get("disruptionsAllowed") == 2
    )
    print(b["status"])
