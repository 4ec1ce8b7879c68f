"""A node finds out what the cluster lets its proxy read, before the proxy waits for it."""

from __future__ import annotations

from pathlib import Path

from controlplane.engine.resources import Resource
from kubeletpy.install.rights import WANTED, lacking
from kubeletpy_common.apiclient.client import MERGE_PATCH
from tests.support.cluster import cluster

from .test_nodes import kubelet

BINDINGS = Resource("rbac.authorization.k8s.io/v1", "clusterrolebindings", "ClusterRoleBinding",
                    namespaced=False)  # fmt: skip


async def test_what_a_cluster_lets_its_nodes_read(tmp_path: Path) -> None:
    async with cluster(tmp_path) as server, kubelet(server, "a") as client:
        assert await lacking(client) == []
        for name in ("kubeletpy:node-network-policies", "kubeletpy:node-proxier"):
            await server.client.patch(BINDINGS.path("", name), {"subjects": None}, kind=MERGE_PATCH)
        # Services are the kubelet's own to read.
        assert await lacking(client) == [one for one in WANTED if one.resource != "services"]
