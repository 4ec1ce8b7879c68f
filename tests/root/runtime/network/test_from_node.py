"""Subnets that the cluster gives the node: waiting, taking, changing, on a real kernel."""

from __future__ import annotations

import pytest

from runtime.network.bridge import BridgeNetwork, NetworkConfig, NetworkError
from tests.root.runtime.network.world import (
    NODE_V4,
    OUTSIDE_V4,
    World,
    listening,
    saved_rules,
    seen_source,
    shell,
)

pytestmark = pytest.mark.root

FIRST = ("10.244.1.0/24", "fd44:1::/64")
SECOND = ("10.244.2.0/24", "fd44:2::/64")


def _network(node: World, **settings: object) -> BridgeNetwork:
    config = NetworkConfig(
        from_node=True, no_masquerade=("10.244.0.0/16",), node_file=node.directory / "node.json",
        **settings,  # type: ignore[arg-type]
    )  # fmt: skip
    return BridgeNetwork(config, node.database)


def _addresses() -> list[str]:
    lines = shell("ip -o addr show dev kubeletpy0 scope global").splitlines()
    return [line.split()[3] for line in lines]


def _mtu(link: str) -> int:
    return int(shell(f"ip -o link show dev {link}").partition(" mtu ")[2].split()[0])


async def test_no_pod_before_the_subnets_are_known_and_they_are_kept_over_a_restart(
    node: World,
) -> None:
    network = _network(node)
    assert "waiting for the pod CIDRs" in await network.readiness()
    with pytest.raises(NetworkError, match="waiting for the pod CIDRs"):
        await network.attach("early", node.pod().path)
    network.use_pod_cidrs(FIRST)
    assert await network.readiness() == ""
    pod = node.pod()
    attachment = await network.attach("pod", pod.path)
    assert attachment.ips == ["10.244.1.2", "fd44:1::2"]
    assert attachment.gateways == ["10.244.1.1", "fd44:1::1"]
    await network.close()
    network = _network(node)
    assert "waiting" in await network.readiness()  # the daemon tells it what was recorded
    network.use_pod_cidrs(FIRST)
    assert await network.readiness() == ""
    assert await network.attach("pod", pod.path) == attachment
    assert (await network.attach("second", node.pod().path)).ips[0] == "10.244.1.3"
    await network.detach("pod", None)
    await network.detach("second", None)
    await network.close()
    assert "kubeletpy0" not in shell("ip -o link")


async def test_other_subnets_wait_for_the_last_pod(node: World) -> None:
    network = _network(node)
    network.use_pod_cidrs(FIRST)
    pod = node.pod()
    await network.attach("old", pod.path)
    network.use_pod_cidrs(SECOND)
    assert "still have addresses of 10.244.1.0/24, fd44:1::/64" in await network.readiness()
    with pytest.raises(NetworkError, match="drain the node"):
        await network.attach("new", node.pod().path)
    await network.close()
    # Also where the daemon starts anew in between.
    network = _network(node)
    network.use_pod_cidrs(SECOND)
    assert "drain the node" in await network.readiness()
    with listening(None, "10.244.1.1") as server:
        assert seen_source(server, pod, "10.244.1.1") == "10.244.1.2"
    await network.detach("old", None)
    await network.reconcile(set())
    assert await network.readiness() == ""
    assert (await network.attach("new", node.pod().path)).ips == ["10.244.2.2", "fd44:2::2"]
    assert _addresses() == ["10.244.2.1/24", "fd44:2::1/64"]
    assert not [rule for rule in saved_rules() if "10.244.1." in rule or "fd44:1:" in rule]
    await network.detach("new", None)
    await network.close()


@pytest.mark.parametrize("first", ["10.244.1.0/24", "fd44:1::/64"])
async def test_a_family_is_added_while_pods_run(node: World, first: str) -> None:
    network = _network(node)
    network.use_pod_cidrs([first])
    assert len((await network.attach("one", node.pod().path)).ips) == 1
    network.use_pod_cidrs(FIRST)
    assert len((await network.attach("both", node.pod().path)).ips) == 2
    await network.detach("one", None)
    await network.detach("both", None)
    await network.close()


async def test_only_pods_of_all_nodes_see_a_pod_itself(node: World) -> None:
    network = _network(node)
    network.use_pod_cidrs(FIRST)
    pod = node.pod()
    await network.attach("pod", pod.path)
    node.outside.run("ip addr add 10.244.9.9/32 dev lo; ip route add 10.244.1.0/24 via " + NODE_V4)
    shell(f"ip route add 10.244.9.0/24 via {OUTSIDE_V4}")
    with listening(node.outside, "10.244.9.9") as server:
        assert seen_source(server, pod, "10.244.9.9") == "10.244.1.2"
    with listening(node.outside, OUTSIDE_V4) as server:
        assert seen_source(server, pod, OUTSIDE_V4) == NODE_V4
    await network.detach("pod", None)
    await network.close()


async def test_mtu_is_what_the_daemon_between_nodes_says_once_no_pod_is_left(node: World) -> None:
    network = _network(node)
    network.use_pod_cidrs(FIRST)
    assert (await network.attach("one", node.pod().path)).mtu == 1350  # the uplink's less VXLAN
    (node.directory / "node.json").write_text('{"mtu": 1400}')
    assert (await network.attach("two", node.pod().path)).mtu == 1350
    await network.detach("one", None)
    await network.detach("two", None)
    await network.reconcile(set())
    assert (await network.attach("three", node.pod().path)).mtu == 1400
    assert _mtu("kubeletpy0") == 1400
    await network.detach("three", None)
    await network.close()
