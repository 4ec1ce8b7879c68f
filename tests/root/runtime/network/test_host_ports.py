"""Host ports really lead to pods, from everywhere they should and from nowhere else."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from kubeletpy_common.linux.namespaces import in_namespace
from runtime.network import rules
from runtime.network.bridge import Attachment, BridgeNetwork, NetworkConfig, NetworkError
from runtime.network.errors import PortConflict
from runtime.network.hostports import resolve
from runtime.network.request import PodFacts, PortMapping, Protocol
from tests.root.runtime.network.world import (
    NODE_V4,
    NODE_V6,
    OUTSIDE_V4,
    OUTSIDE_V6,
    PORT,
    TIMEOUT_SECONDS,
    Namespace,
    World,
    listening,
    saved_rules,
    seen_source,
    shell,
)

pytestmark = pytest.mark.root

HOST_PORT = 18080
LOCALNET = "ipv4/conf/kubeletpy0/route_localnet"


def asks(
    host_port: int = HOST_PORT, host_ip: str = "", protocol: Protocol = Protocol.TCP
) -> PodFacts:
    return PodFacts("web", "shop", ports=(PortMapping(protocol, host_port, PORT, host_ip),))


def host_port_rules() -> list[str]:
    return [line for line in saved_rules() if line.startswith("-A KUBELETPY-KUBELETPY0-hp")]


def can_connect(client: Namespace | None, address: str, port: int = HOST_PORT) -> bool:
    with in_namespace(client.path if client else "/proc/thread-self/ns/net"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM)
    with made:
        made.settimeout(0.5)
        try:
            made.connect((address, port))
        except OSError:
            return False
    return True


async def test_port_is_reached_from_outside_the_node_and_pods(
    node: World, network: BridgeNetwork
) -> None:
    pod, other = node.pod(), node.pod()
    attached = await network.attach("pod", pod.path, asks())
    ips = (await network.attach("other", other.path)).ips
    gateway_v4, gateway_v6 = attached.gateways
    with listening(pod, attached.ips[0]) as server:
        # From outside and from the node itself the pod sees who it is; from 127.0.0.1 and from
        # pods, itself included, the answer must come back by the node.
        for client, address, source in (
            (node.outside, NODE_V4, OUTSIDE_V4),
            (None, NODE_V4, NODE_V4),
            (None, "127.0.0.1", gateway_v4),
            (other, NODE_V4, gateway_v4),
            (other, gateway_v4, gateway_v4),
            (pod, NODE_V4, gateway_v4),
        ):
            assert seen_source(server, client, address, HOST_PORT) == source
        # Pods among themselves still see each other.
        assert seen_source(server, other, attached.ips[0]) == ips[0]
    with listening(pod, attached.ips[1]) as server:
        for client, address, source in (
            (node.outside, NODE_V6, OUTSIDE_V6),
            (None, NODE_V6, NODE_V6),
            (other, NODE_V6, gateway_v6),
            (pod, NODE_V6, gateway_v6),
        ):
            assert seen_source(server, client, address, HOST_PORT) == source


async def test_nothing_is_left_after_the_end(node: World) -> None:
    shell("iptables-save; ip6tables-save")
    network = BridgeNetwork(NetworkConfig(), node.database)
    pod = node.pod()
    await network.attach("pod", pod.path, asks())
    assert len(host_port_rules()) == 5
    assert node.node.setting(LOCALNET) == "1"
    await network.detach("pod", pod.path)
    assert host_port_rules() == []
    assert node.node.setting(LOCALNET) == "0"
    assert not can_connect(node.outside, NODE_V4)
    await network.close()
    assert [line for line in saved_rules() if "KUBELETPY" in line] == []


async def test_pods_without_host_ports_start_no_program(
    node: World, network: BridgeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    await network.attach("first", node.pod().path)
    monkeypatch.setattr(rules, "_run", None)
    await network.attach("pod", node.pod().path)
    await network.detach("pod", None)


async def test_each_change_is_one_program_a_family(
    node: World, network: BridgeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    await network.attach("first", node.pod().path, asks(1))
    ran: list[str] = []
    original = rules._run

    async def run(name: str, arguments: list[str], text: str) -> str:
        ran.append(name)
        return await original(name, arguments, text)

    monkeypatch.setattr(rules, "_run", run)
    await network.attach("both", node.pod().path, asks(2))
    assert sorted(ran) == ["ip6tables-restore", "iptables-restore"]
    await network.attach("four", node.pod().path, asks(3, NODE_V4))
    assert ran[2:] == ["iptables-restore"]
    await network.detach("four", None)
    assert ran[3:] == ["iptables-restore"]


async def test_a_host_ip_is_the_only_one(node: World, network: BridgeNetwork) -> None:
    pod = node.pod()
    shell("ip addr add 198.51.100.9/24 dev uplink")
    ips = (await network.attach("pod", pod.path, asks(host_ip="198.51.100.9"))).ips
    with listening(pod, ips[0]) as server:
        seen_source(server, node.outside, "198.51.100.9", HOST_PORT)
        assert not can_connect(node.outside, NODE_V4)
        assert not can_connect(None, "127.0.0.1")
        assert not can_connect(node.outside, NODE_V6)
    assert node.node.setting(LOCALNET) == "0"
    second = await network.attach("second", node.pod().path, asks(host_ip=NODE_V6))
    assert second.ips


async def test_neighbours_cannot_reach_what_is_published_on_loopback(
    node: World, network: BridgeNetwork
) -> None:
    """The kernel looks for martians only after the destination was changed."""
    pod, evil = node.pod(), node.pod()
    ips = (await network.attach("pod", pod.path, asks(host_ip="127.0.0.1"))).ips
    attached = await network.attach("evil", evil.path)
    aim_at_loopback(node.outside, "up0", NODE_V4)
    aim_at_loopback(evil, "eth0", attached.gateways[0])
    with listening(pod, ips[0]) as server:
        assert seen_source(server, None, "127.0.0.1", HOST_PORT) == attached.gateways[0]
        assert not can_connect(node.outside, "127.0.0.1")
        assert not can_connect(evil, "127.0.0.1")
        # The guard is what keeps them away.
        shell("iptables -t raw -F KUBELETPY-KUBELETPY0")
        assert can_connect(node.outside, "127.0.0.1")


async def test_nobody_reaches_the_loopback_services_of_the_node(
    node: World, network: BridgeNetwork
) -> None:
    """CVE-2020-8558: what route_localnet allows, ours on the bridge and others' everywhere."""
    pod = node.pod()
    attached = await network.attach("pod", pod.path, asks())
    assert node.node.setting(LOCALNET) == "1"
    shell("echo 1 > /proc/sys/net/ipv4/conf/uplink/route_localnet")
    aim_at_loopback(pod, "eth0", attached.gateways[0])
    aim_at_loopback(node.outside, "up0", NODE_V4)
    with listening(None, "127.0.0.1", 10250):
        assert not can_connect(pod, "127.0.0.1", 10250)
        assert not can_connect(node.outside, "127.0.0.1", 10250)
        shell("iptables -t raw -F KUBELETPY-KUBELETPY0")
        assert can_connect(pod, "127.0.0.1", 10250)
        assert can_connect(node.outside, "127.0.0.1", 10250)


def aim_at_loopback(attacker: Namespace, link: str, gateway: str) -> None:
    """Have the attacker's packets to 127/8 leave by its link."""
    attacker.run(
        f"echo 1 > /proc/sys/net/ipv4/conf/{link}/route_localnet; "
        "ip addr del 127.0.0.1/8 dev lo; ip rule add pref 5 table 5; ip rule del pref 0; "
        "ip rule add pref 10 table local; "
        f"ip route add 127.0.0.0/8 via {gateway} dev {link} table 5 "
        f"src $(ip -4 -o addr show {link} | sed 's/.*inet //; s,/.*,,')"
    )


async def test_udp_flows_follow_the_pod(node: World, network: BridgeNetwork) -> None:
    """A client that never pauses reaches the pod that comes, and the one that comes after it."""
    facts = asks(host_ip="", protocol=Protocol.UDP)
    with in_namespace(node.outside.path):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client:
        client.connect((NODE_V4, HOST_PORT))
        client.send(b"nobody")
        for name in ("first", "second"):
            pod = node.pod()
            attached = await network.attach(name, pod.path, facts)
            with in_namespace(pod.path):
                server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with server:
                server.settimeout(TIMEOUT_SECONDS)
                server.bind((attached.ips[0], PORT))
                send_despite_refusals(client, name.encode())
                assert server.recvfrom(64) == (name.encode(), client.getsockname())
            await network.detach(name, pod.path)


def send_despite_refusals(client: socket.socket, data: bytes) -> None:
    """An ICMP error for an earlier packet is reported by the next call."""
    try:
        client.send(data)
    except ConnectionRefusedError:
        client.send(data)


async def test_sctp_arrives_at_the_pod(node: World, network: BridgeNetwork) -> None:
    """The kernel may have no SCTP sockets, but forwards it: an INIT chunk made by hand."""
    pod = node.pod()
    attached = await network.attach("pod", pod.path, asks(protocol=Protocol.SCTP))
    with in_namespace(pod.path):
        server = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP)
    with in_namespace(node.outside.path):
        client = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP)
    with server, client:
        server.settimeout(TIMEOUT_SECONDS)
        client.sendto(sctp_init(4444, HOST_PORT), (NODE_V4, 0))
        packet, source = server.recvfrom(2048)
    header = (packet[0] & 15) * 4
    assert source[0] == OUTSIDE_V4
    assert socket.inet_ntoa(packet[16:20]) == attached.ips[0]
    assert struct.unpack_from("!HH", packet, header) == (4444, PORT)


def sctp_init(source: int, target: int) -> bytes:
    """An SCTP packet with an INIT chunk (RFC 9260, 3.3.2)."""
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 7, 65535, 1, 1, 7)
    without = struct.pack("!HHII", source, target, 0, 0) + chunk
    checksum = struct.pack("<I", crc32c(without))
    return without[:8] + checksum + without[12:]


def crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


async def test_taken_port_is_an_error_that_names_the_owner(
    node: World, network: BridgeNetwork
) -> None:
    first, second = node.pod(), node.pod()
    await network.attach("first", first.path, asks())
    before = host_port_rules()
    with pytest.raises(PortConflict, match=r":18080/tcp .* pod shop/web \(sandbox first\)"):
        await network.attach("second", second.path, asks(host_ip=NODE_V4))
    assert network.lookup("second") is None
    assert network._allocator.owners() == {"first"}
    assert host_port_rules() == before
    assert "eth0" not in second.run("ip -o link")
    await network.detach("first", first.path)
    await network.attach("second", second.path, asks(host_ip=NODE_V4))


async def test_rules_are_restored_after_a_restart(node: World) -> None:
    pod, gone = node.pod(), node.pod()
    network = BridgeNetwork(NetworkConfig(), node.database)
    attached = await network.attach("pod", pod.path, asks())
    await network.attach("gone", gone.path, asks(2))
    before = saved_rules()
    await network.close()
    assert saved_rules() == before
    network = await reopened(node)
    assert [rule for rule in before if "--dport 2 " not in rule] == saved_rules()
    await network.close()

    shell("iptables -t nat -F; iptables -t nat -X KUBELETPY-KUBELETPY0-hp; iptables -t raw -F")
    network = await reopened(node)
    assert node.node.setting(LOCALNET) == "1"
    with listening(pod, attached.ips[0]) as server:
        assert seen_source(server, node.outside, NODE_V4, HOST_PORT) == OUTSIDE_V4
    with pytest.raises(PortConflict):
        await network.attach("other", gone.path, asks())
    await network.detach("pod", pod.path)
    await network.close()
    assert [line for line in saved_rules() if "KUBELETPY" in line] == []


async def reopened(node: World) -> BridgeNetwork:
    network = BridgeNetwork(NetworkConfig(), node.database)
    await network.reconcile({"pod"})
    return network


@pytest.mark.parametrize("crash", ["before the record", "after the end of the record"])
async def test_rules_of_half_made_and_half_ended_pods_go_at_the_next_start(
    node: World, crash: str
) -> None:
    network = BridgeNetwork(NetworkConfig(), node.database)
    attached = await network.attach("pod", node.pod().path, asks(1))
    if crash == "before the record":
        forwards = resolve("half", "", asks(2).ports, attached.ips)
        network._store.add_forwards(forwards)
        await network._ports.settle()
        assert len(host_port_rules()) == 10
    else:
        network._store.forget("pod")
    await network.close()

    network = await reopened(node)
    left = 5 if crash == "before the record" else 0
    assert len(host_port_rules()) == left
    assert network._store.forwards(gone=True) == []
    await network.detach("pod", None)
    await network.close()
    assert [line for line in saved_rules() if "KUBELETPY" in line] == []


async def test_many_at_once_share_the_work(
    node: World, network: BridgeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    await network.attach("first", node.pod().path, asks(1))
    runs: list[str] = []
    original = rules._run

    async def run(name: str, arguments: list[str], text: str) -> str:
        runs.append(name)
        return await original(name, arguments, text)

    monkeypatch.setattr(rules, "_run", run)
    pods = [node.pod() for _ in range(16)]
    await asyncio.gather(
        *(network.attach(f"pod-{n}", pod.path, asks(100 + n)) for n, pod in enumerate(pods))
    )
    assert len(host_port_rules()) == 17 * 5
    assert len(runs) < 16
    await asyncio.gather(*(network.detach(f"pod-{n}", None) for n in range(16)))
    assert len(host_port_rules()) == 5


async def test_failed_rules_are_undone_and_can_be_repeated(
    node: World, network: BridgeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = node.pod()
    attached: Attachment = await network.attach("first", pod.path, asks(1))
    assert attached.ips
    rules_before = host_port_rules()

    async def refuse(_: object, text: str) -> None:
        raise NetworkError("iptables-restore failed with status 4")

    with monkeypatch.context() as patch:
        patch.setattr(rules, "restore", refuse)
        with pytest.raises(NetworkError, match="status 4"):
            await network.attach("second", node.pod().path, asks(2))
        with pytest.raises(NetworkError, match="status 4"):
            await network.detach("first", pod.path)
    assert host_port_rules() == rules_before
    await network.detach("first", pod.path)
    await network.detach("second", None)
    assert host_port_rules() == []
    await network._reaper.wait()
    assert network._allocator.owners() == set()
