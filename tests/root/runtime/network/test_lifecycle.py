"""What is made goes away again, is made once, and survives a restart."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
from pathlib import Path

import pytest

from runtime.network import pod as pod_module
from runtime.network import rules
from runtime.network.allocator import Address, Interface
from runtime.network.bridge import BridgeNetwork, NetworkConfig, NetworkError
from runtime.network.pod import Plan
from tests.root.runtime.network.world import (
    OUTSIDE_V4,
    World,
    links,
    listening,
    saved_rules,
    seen_source,
    shell,
)

pytestmark = pytest.mark.root

OTHER = NetworkConfig(bridge="other0", subnet_v4="10.99.0.0/24", subnet_v6="fd99::/64")


def owners(network: BridgeNetwork) -> set[str]:
    return network._allocator.owners()


async def settled(network: BridgeNetwork) -> None:
    await network._reaper.wait()


async def test_hundred_pods_leave_nothing_behind(node: World) -> None:
    shell("iptables -t nat -N FOREIGN; iptables -A FORWARD -s 203.0.113.0/24 -j DROP")
    shell("ip6tables -t nat -N FOREIGN; ip6tables -P FORWARD DROP")
    rules_before, links_before = saved_rules(), links()
    network = BridgeNetwork(NetworkConfig(), node.database)
    pod = node.pod()

    async def once(number: int) -> None:
        await network.attach(f"pod-{number}", pod.path)
        await network.detach(f"pod-{number}", pod.path)
        await settled(network)

    await once(0)
    gc.collect()
    descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    for number in range(1, 101):
        await once(number)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert threading.active_count() <= max(threads, 1 + 4)  # the main one and the workers
    assert links() - links_before == {"kubeletpy0"}
    assert owners(network) == set()
    await network.close()
    assert links() == links_before
    assert [line for line in saved_rules() if "KUBELETPY" in line] == []
    # iptables makes the tables' own chains at need and leaves them.
    assert [line for line in rules_before if line not in saved_rules()] == []
    assert pod.run("ip -o link").count("\n") == 1


async def test_many_at_once(node: World, network: BridgeNetwork) -> None:
    pods = [node.pod() for _ in range(24)]
    slots = asyncio.Semaphore(8)

    async def attach(number: int) -> str:
        async with slots:
            return (await network.attach(f"pod-{number}", pods[number].path)).ips[0]

    ips = await asyncio.gather(*(attach(number) for number in range(24)))
    assert len(set(ips)) == 24
    with listening(pods[0], ips[0]) as server:
        for pod, ip in list(zip(pods, ips, strict=True))[1:]:
            assert seen_source(server, pod, ips[0]) == ip
    await asyncio.gather(*(network.detach(f"pod-{number}", None) for number in range(24)))
    await settled(network)
    assert owners(network) == set()
    assert not [name for name in links() if name.startswith("kp")]


async def test_restart_keeps_addresses_and_doubles_nothing(node: World) -> None:
    first, second = node.pod(), node.pod()
    network = BridgeNetwork(NetworkConfig(), node.database)
    attachment = await network.attach("first", first.path)
    rules_before = saved_rules()
    await network.close()
    with listening(first, attachment.ips[0]) as server:
        seen_source(server, None, attachment.ips[0])

    network = BridgeNetwork(NetworkConfig(), node.database)
    assert network.lookup("first") == attachment
    assert (await network.attach("second", second.path)).ips == ["10.88.0.3", "fd88::3"]
    assert saved_rules() == rules_before
    assert await network.attach("first", first.path) == attachment
    with listening(first, attachment.ips[0]) as server:
        assert seen_source(server, second, attachment.ips[0]) == "10.88.0.3"
    await network.detach("first", first.path)
    await network.detach("second", second.path)
    await network.close()
    assert "kubeletpy0" not in links()
    assert [line for line in saved_rules() if "KUBELETPY" in line] == []


async def test_two_runtimes_on_one_node_leave_each_other_alone(node: World) -> None:
    one = BridgeNetwork(NetworkConfig(), node.database)
    two = BridgeNetwork(OTHER, node.directory / "other.db")
    pods = [node.pod(), node.pod()]
    await one.attach("same-id", pods[0].path)
    ip = (await two.attach("same-id", pods[1].path)).ips[0]
    assert (await two.reconcile({"same-id"})).links == frozenset()
    await one.detach("same-id", pods[0].path)
    await one.close()
    with listening(node.outside, OUTSIDE_V4) as server:
        seen_source(server, pods[1], OUTSIDE_V4)
    with listening(pods[1], ip) as server:
        seen_source(server, None, ip)
    await two.detach("same-id", pods[1].path)
    await two.close()
    assert links() == {"lo", "uplink"}
    assert [line for line in saved_rules() if "KUBELETPY" in line] == []


async def test_detach_of_what_is_gone(node: World, network: BridgeNetwork) -> None:
    await network.detach("never seen", None)
    pod = node.pod()
    attachment = await network.attach("link gone", pod.path)
    shell(f"ip link del {attachment.host_interface}")
    await network.detach("link gone", pod.path)
    await network.detach("link gone", pod.path)
    await network.attach("netns gone", pod.path)
    path = pod.path
    pod.close()
    await network.detach("netns gone", path)
    await settled(network)
    assert owners(network) == set()


async def test_address_is_free_once_the_link_is_gone(node: World, network: BridgeNetwork) -> None:
    pod = node.pod()
    attachment = await network.attach("pod", pod.path)
    await network.detach("pod", pod.path)
    assert network.lookup("pod") is None
    assert owners(network) == {"pod"}
    again = await network.attach("pod", pod.path)
    assert again.host_interface == attachment.host_interface
    assert again.ips == ["10.88.0.3", "fd88::3"]
    assert pod.run("ip -o -4 addr show eth0").count("10.88.0.3/16") == 1


@pytest.mark.parametrize("obstacle", ["eth0 exists", "no such netns", "not a netns"])
async def test_failed_attach_leaves_nothing(
    node: World, network: BridgeNetwork, obstacle: str
) -> None:
    pod = node.pod()
    path = pod.path
    if obstacle == "eth0 exists":
        pod.run("ip link add eth0 type bridge")
    elif obstacle == "no such netns":
        path = Path("/nowhere/net")
    else:
        path = node.directory / "file"
        path.touch()
    with pytest.raises(NetworkError, match=r"attaching sandbox pod \("):
        await network.attach("pod", path)
    assert owners(network) == set()
    assert network.lookup("pod") is None
    assert links() == {"lo", "uplink", "kubeletpy0"}


async def test_failure_in_the_pod_takes_the_link_back(node: World, network: BridgeNetwork) -> None:
    pod = node.pod()
    # The last step fails: there is a default route already.
    pod.run("ip link add own type bridge; ip link set own up")
    pod.run("ip addr add 192.0.2.1/24 dev own; ip route add default via 192.0.2.2")
    with pytest.raises(NetworkError, match="adding the default route by"):
        await network.attach("pod", pod.path)
    assert owners(network) == set()
    assert links() == {"lo", "uplink", "kubeletpy0"}
    assert "eth0" not in pod.run("ip -o link")


async def test_cancelled_attach_is_undone(
    node: World, network: BridgeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = node.pod()
    await network.attach("first", node.pod().path)
    wiring = asyncio.Event()
    loop = asyncio.get_running_loop()

    def connect(plan: Plan) -> list[tuple[Interface, Address]]:
        loop.call_soon_threadsafe(wiring.set)
        return original(plan)

    original = pod_module.connect
    monkeypatch.setattr(pod_module, "connect", connect)
    attaching = asyncio.create_task(network.attach("pod", pod.path))
    await wiring.wait()
    attaching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attaching
    while network._turns.tasks:
        await asyncio.wait(set(network._turns.tasks))
    await settled(network)
    assert owners(network) == {"first"}
    assert "eth0" not in pod.run("ip -o link")


async def test_bridge_removed_by_somebody_is_made_again(
    node: World, network: BridgeNetwork
) -> None:
    await network.attach("before", node.pod().path)
    shell("ip link del kubeletpy0")
    pod = node.pod()
    ip = (await network.attach("after", pod.path)).ips[0]
    with listening(pod, ip) as server:
        assert seen_source(server, None, ip) == "10.88.0.1"


async def test_forwarding_is_put_back(node: World) -> None:
    def facts() -> dict[str, str]:
        names = ("ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv6/conf/uplink/accept_ra")
        return {name: node.node.setting(name) for name in names}

    # A new namespace has what the first one has (net.core.devconf_inherit_init_net).
    node.node.set("ipv4/ip_forward", "0")
    before = facts()
    assert list(before.values()) == ["0", "0", "1"]
    for round_ in ("same run", "next run"):
        network = BridgeNetwork(NetworkConfig(), node.database)
        await network.attach("pod", node.pod().path)
        assert list(facts().values()) == ["1", "1", "2"]
        if round_ == "next run":
            await network.close()
            network = BridgeNetwork(NetworkConfig(), node.database)
        await network.detach("pod", None)
        await network.close()
        assert facts() == before


async def test_forwarding_stays_on_for_another_bridge(node: World) -> None:
    network = BridgeNetwork(NetworkConfig(), node.database)
    await network.attach("pod", node.pod().path)
    shell("ip link add docker0 type bridge")
    await network.detach("pod", None)
    await network.close()
    assert node.node.setting("ipv4/ip_forward") == "1"


async def test_bridge_with_a_foreign_port_stays(node: World) -> None:
    network = BridgeNetwork(NetworkConfig(), node.database)
    await network.attach("pod", node.pod().path)
    await network.detach("pod", None)
    await settled(network)
    shell("ip link add foreign type veth peer name far; ip link set foreign master kubeletpy0")
    await network.close()
    assert "kubeletpy0" in links()


async def test_without_ipv6_pods_get_ipv4_and_one_line_says_so(
    node: World, network: BridgeNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    shell("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")
    with caplog.at_level(logging.WARNING):
        for name in ("one", "two"):
            assert len((await network.attach(name, node.pod().path)).ips) == 1
    assert [record.message for record in caplog.records] == ["pods get IPv4 only"]


async def test_required_ipv6_that_is_missing_is_an_error(node: World) -> None:
    shell("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")
    network = BridgeNetwork(NetworkConfig(ipv6_required=True), node.database)
    with pytest.raises(NetworkError, match="IPv6, which is required"):
        await network.attach("pod", node.pod().path)
    await network.close()
    assert "kubeletpy0" not in links()


async def test_pod_without_ipv6_gets_ipv4(node: World, network: BridgeNetwork) -> None:
    pod = node.pod()
    pod.run("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")
    attachment = await network.attach("pod", pod.path)
    assert attachment.ips == ["10.88.0.2"]
    assert attachment.gateways == ["10.88.0.1"]


def programs(directory: Path, *names: str) -> None:
    directory.mkdir()
    for name in names:
        for action in ("save", "restore"):
            (directory / f"{name}-{action}").symlink_to(f"/usr/sbin/{name}-{action}")


async def test_missing_iptables_is_an_error_with_the_remedy(
    node: World, network: BridgeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        programs(node.directory / "bin")
        patch.setattr(rules, "_SYSTEM_DIRECTORIES", ())
        patch.setenv("PATH", str(node.directory / "bin"))
        with pytest.raises(NetworkError, match="apt-get install iptables"):
            await network.attach("pod", node.pod().path)
    await network.attach("pod", node.pod().path)


async def test_missing_ip6tables_means_ipv4_only(
    node: World, network: BridgeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        programs(node.directory / "bin", "iptables")
        patch.setattr(rules, "_SYSTEM_DIRECTORIES", ())
        patch.setenv("PATH", str(node.directory / "bin"))
        assert (await network.attach("pod", node.pod().path)).ips == ["10.88.0.2"]


async def test_subnet_in_use_elsewhere_is_refused(node: World, network: BridgeNetwork) -> None:
    shell("ip link add podman0 type bridge; ip link set podman0 up")
    shell("ip addr add 10.88.0.1/16 dev podman0")
    with pytest.raises(NetworkError, match=r"10\.88\.0\.0/16 of the pods is already .* podman0"):
        await network.attach("pod", node.pod().path)
    assert "kubeletpy0" not in links()


async def test_link_of_that_name_that_is_no_bridge_is_refused(
    node: World, network: BridgeNetwork
) -> None:
    shell("ip link add kubeletpy0 type veth peer name far")
    with pytest.raises(NetworkError, match="is no bridge"):
        await network.attach("pod", node.pod().path)
