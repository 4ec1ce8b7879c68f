"""Every pod reaches every pod with its own address, in each mode, in both families.

All nodes drop what nobody lets through (FORWARD). Pods were made for a network without VXLAN, so
that their MTU is too large for it: what is too big has to come through nevertheless.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.proxylab.mesh import NEAR, NODES, Cluster, address, bare, bulk, source_seen

pytestmark = pytest.mark.root


@dataclass(frozen=True)
class Way:
    """One way to run a cluster."""

    mode: str
    nodes: tuple[str, ...] = NODES
    families: tuple[int, ...] = (4, 6)


WAYS = {
    "host-gw": Way("host-gw", NEAR),
    "auto": Way("auto"),
    "vxlan": Way("vxlan"),
    "vxlan over IPv6": Way("vxlan", families=(6, 4)),
}


@pytest.fixture(scope="module", params=list(WAYS))
def way(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[Way]:
    chosen = WAYS[request.param]
    for node in NODES:
        cluster.spaces[node].run("iptables -P FORWARD DROP; ip6tables -P FORWARD DROP")
    cluster.start_all("--mode", chosen.mode, families=chosen.families)
    for node in NODES:
        if node not in cluster.pods:
            cluster.attach(node, mtu=1500)
    yield chosen
    cluster.stop_all()


@pytest.mark.parametrize("family", [4, 6])
def test_pods_see_each_others_addresses(cluster: Cluster, way: Way, family: int) -> None:
    for one, two in itertools.permutations(way.nodes, 2):
        client, server = cluster.pods[one], cluster.pods[two]
        seen = source_seen(client.space, server.space, server.ips[family])
        assert seen == client.ips[family], (one, two)


def test_nodes_and_pods_of_other_nodes_reach_each_other(cluster: Cluster, way: Way) -> None:
    ends = (way.nodes[0], way.nodes[-1])
    for family, (one, two) in itertools.product((4, 6), itertools.permutations(ends)):
        pod, there = cluster.pods[two], bare(address(one, family))
        source_seen(cluster.spaces[one], pod.space, pod.ips[family])
        # Pods come to other nodes as their own node: those know no pods.
        seen = source_seen(pod.space, cluster.spaces[one], there)
        assert seen == bare(address(two, family))


@pytest.mark.parametrize("family", [4, 6])
def test_large_transfers_pass_both_ways(cluster: Cluster, way: Way, family: int) -> None:
    one, two = cluster.pods[way.nodes[0]], cluster.pods[way.nodes[-1]]
    for client, server in ((one, two), (two, one)):
        bulk(client.space, server.space, server.ips[family])


def test_the_router_sees_no_pod(cluster: Cluster, way: Way) -> None:
    for family, cidr in ((4, "10.244.0.0/16"), (6, "fd00:244::/32")):
        text = cluster.spaces["router"].run(f"ip -{family} -s route show {cidr}")
        assert "blackhole" in text
    ways = cluster.routes(NEAR[0])
    if way.mode == "host-gw":
        assert set(ways) == {f"10.244.{n}.0/24" for n in (2, 3)} | {
            f"fd00:244:{n}::/64" for n in (2, 3)
        }
    direct = {each for each, rest in ways.items() if "dev eth0" in rest}
    assert len(direct) == {"host-gw": 4, "auto": 4, "vxlan": 0}[way.mode]
    assert len(ways) == 2 * (len(way.nodes) - 1)
