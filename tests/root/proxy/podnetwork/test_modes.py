"""Every pod reaches every pod with its own address, in each mode and both families."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.support.proxylab.mesh import NEAR, NODES, Cluster, source_seen

pytestmark = pytest.mark.root

MODES = {"host-gw": NEAR, "auto": NODES}


@pytest.fixture(scope="module", params=list(MODES))
def mode(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[str]:
    cluster.start_all("--mode", request.param)
    for node in NODES:
        if node not in cluster.pods:
            cluster.attach(node)
    yield request.param
    for daemon in cluster.daemons.values():
        daemon.stop()


@pytest.mark.parametrize("family", [4, 6])
def test_pods_see_each_others_addresses(cluster: Cluster, mode: str, family: int) -> None:
    for one, two in itertools.permutations(MODES[mode], 2):
        client, server = cluster.pods[one], cluster.pods[two]
        seen = source_seen(client.space, server.space, server.ips[family])
        assert seen == client.ips[family], (one, two)
