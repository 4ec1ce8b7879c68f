"""Pods really reach what they should, by both families, with the right source address."""

from __future__ import annotations

import pytest

from runtime.network.bridge import BridgeNetwork, NetworkConfig
from tests.root.runtime.network.world import (
    NODE_V4,
    NODE_V6,
    OUTSIDE_V4,
    OUTSIDE_V6,
    PORT,
    World,
    listening,
    seen_source,
    shell,
)

pytestmark = pytest.mark.root


async def test_pods_reach_each_other_and_the_node_both_ways(
    node: World, network: BridgeNetwork
) -> None:
    first, second = node.pod(), node.pod()
    one = await network.attach("first", first.path)
    two = await network.attach("second", second.path)
    assert one.ips == ["10.88.0.2", "fd88::2"]
    assert two.ips == ["10.88.0.3", "fd88::3"]
    for ip_one, ip_two, gateway in zip(one.ips, two.ips, one.gateways, strict=True):
        with listening(second, ip_two) as server:
            assert seen_source(server, first, ip_two) == ip_one
            assert seen_source(server, None, ip_two) == gateway
        with listening(None, gateway) as server:
            assert seen_source(server, first, gateway) == ip_one


async def test_loopback_of_a_pod_works(node: World, network: BridgeNetwork) -> None:
    pod = node.pod()
    await network.attach("pod", pod.path)
    for address in ("127.0.0.1", "::1"):
        with listening(pod, address) as server:
            assert seen_source(server, pod, address) == address


async def test_outside_sees_the_address_of_the_node(node: World, network: BridgeNetwork) -> None:
    pod = node.pod()
    await network.attach("pod", pod.path)
    for outside, address in ((OUTSIDE_V4, NODE_V4), (OUTSIDE_V6, NODE_V6)):
        with listening(node.outside, outside) as server:
            assert seen_source(server, pod, outside) == address


async def test_pods_are_forwarded_where_the_policy_is_to_drop(
    node: World, network: BridgeNetwork
) -> None:
    shell("iptables -P FORWARD DROP; ip6tables -P FORWARD DROP")
    pod, other = node.pod(), node.pod()
    await network.attach("pod", pod.path)
    ips = (await network.attach("other", other.path)).ips
    for outside in (OUTSIDE_V4, OUTSIDE_V6):
        with listening(node.outside, outside) as server:
            seen_source(server, pod, outside)
    for ip in ips:
        with listening(other, ip) as server:
            seen_source(server, pod, ip)


@pytest.mark.parametrize("filtered_bridge", ["0", "1"])
async def test_pod_reaches_itself_through_its_service(
    node: World, network: BridgeNetwork, filtered_bridge: str
) -> None:
    """The rules are those of a kube-proxy for a service with this pod as its only endpoint."""
    pod = node.pod()
    ip = (await network.attach("pod", pod.path)).ips[0]
    shell(
        f"echo {filtered_bridge} > /proc/sys/net/bridge/bridge-nf-call-iptables; "
        f"iptables -t nat -A PREROUTING -d 10.96.0.1 -p tcp --dport 80 "
        f"-j DNAT --to-destination {ip}:{PORT}; "
        f"iptables -t nat -I POSTROUTING -s {ip} -d {ip} -j MASQUERADE"
    )
    with listening(pod, ip) as server:
        assert seen_source(server, pod, "10.96.0.1", 80) == "10.88.0.1"


async def test_mtu_is_that_of_the_uplink(node: World, network: BridgeNetwork) -> None:
    pod = node.pod()
    attachment = await network.attach("pod", pod.path)
    assert attachment.mtu == 1400
    for where in (pod.run("ip link show eth0"), shell("ip link show kubeletpy0")):
        assert " mtu 1400 " in where


async def test_mtu_can_be_given(node: World) -> None:
    network = BridgeNetwork(NetworkConfig(mtu=1300), node.database)
    pod = node.pod()
    await network.attach("pod", pod.path)
    assert " mtu 1300 " in pod.run("ip link show eth0")
    await network.detach("pod", pod.path)
    await network.close()


async def test_nobody_on_the_bridge_believes_router_advertisements(
    node: World, network: BridgeNetwork
) -> None:
    pod = node.pod()
    await network.attach("pod", pod.path)
    assert pod.setting("ipv6/conf/eth0/accept_ra") == "0"
    assert node.node.setting("ipv6/conf/kubeletpy0/accept_ra") == "0"
