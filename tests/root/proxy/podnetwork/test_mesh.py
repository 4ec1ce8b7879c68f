"""What happens to a network that stands: others meddle, nodes go, daemons die, Nodes lie."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.support.proxylab.mesh import (
    NEAR,
    NODES,
    Cluster,
    Stream,
    address,
    bare,
    datagram,
    node_object,
    source_seen,
)  # fmt: skip

pytestmark = pytest.mark.root

DEVICE = "kubeletpy-vx"


@pytest.fixture(scope="module")
def mesh(cluster: Cluster) -> Iterator[Cluster]:
    cluster.start_all()
    for node in NODES:
        cluster.attach(node)
    yield cluster
    cluster.stop_all()


@pytest.fixture(autouse=True)
def whole(mesh: Cluster) -> Iterator[None]:
    """After each test all is as before."""
    before = _state(mesh)
    yield
    mesh.until(lambda: _state(mesh) == before, f"the state before: {before}")


def _state(mesh: Cluster) -> dict[str, str]:
    command = f"ip route show proto 88; ip -6 route show proto 88; bridge fdb show dev {DEVICE}; "
    command += f"ip neigh show dev {DEVICE} nud permanent"
    found = {node: mesh.spaces[node].run(f"{{ {command}; }} | sort") for node in NODES}
    return {node: text.replace(" \n", "\n") for node, text in found.items()}


def _reached(mesh: Cluster, one: str, two: str) -> None:
    for family in (4, 6):
        client, server = mesh.pods[one], mesh.pods[two]
        assert source_seen(client.space, server.space, server.ips[family]) == client.ips[family]


def test_pods_have_an_mtu_with_room_for_vxlan_and_that_size_passes_unbroken(mesh: Cluster) -> None:
    one, far = mesh.pods["n1"], mesh.pods["n4"]
    assert {pod.mtu for pod in mesh.pods.values()} == {1450}
    for family, head in ((4, 28), (6, 48)):
        assert datagram(one.space, far.space, far.ips[family], 1450 - head)
        assert not datagram(one.space, far.space, far.ips[family], 1450 - head + 1)


@pytest.mark.parametrize(
    "meddling",
    [
        "ip route del 10.244.2.0/24 proto 88",
        "ip route flush proto 88; ip -6 route flush proto 88",
        "ip route replace 10.244.4.0/24 via 192.168.77.3 proto 88",
        "ip -6 route change fd00:244:4::/64 via fd77::3 proto 88 metric 1024",
        "ip route add 10.244.77.0/24 via 192.168.77.3 proto 88",
        f"ip neigh flush dev {DEVICE} nud permanent",
        f"ip neigh change 10.244.4.0 lladdr 02:00:00:00:00:01 dev {DEVICE} nud permanent",
        f"bridge fdb del 0a:58:0a:f4:04:00 dev {DEVICE}",
        f"bridge fdb replace 0a:58:0a:f4:04:00 dev {DEVICE} dst 192.168.77.3",
        f"ip link set {DEVICE} mtu 1400",
        f"ip link set {DEVICE} down",
        f"ip link del {DEVICE}",
        f"ip addr flush dev {DEVICE}",
    ],
)
def test_what_others_change_is_made_right(mesh: Cluster, meddling: str) -> None:
    before, links = _state(mesh)["n1"], _link(mesh)
    mesh.spaces["n1"].run(meddling)
    mesh.until(lambda: _state(mesh)["n1"] == before and _link(mesh) == links, meddling)
    _reached(mesh, "n1", "n4")


def _link(mesh: Cluster) -> list[str]:
    text = mesh.spaces["n1"].run("ip -o link; ip -o addr")
    text = "\n".join(line for line in text.splitlines() if DEVICE in line)
    words = text.replace("\\", " ").split()
    return [
        each for each in words if each in ("UNKNOWN", "1450", "10.244.1.0/32", "fd00:244:1::/128")
    ]


def test_a_link_that_was_down_has_its_routes_again(mesh: Cluster) -> None:
    space = mesh.spaces["n2"]
    space.run("ip link set eth0 down")
    for family in (4, 6):
        text = address("n2", family)
        space.run(f"ip addr replace {text} dev eth0" + (" nodad" if ":" in text else ""))
    space.run("ip link set eth0 up")
    for family in (4, 6):
        gateway = bare(address("n2", family, 254))
        mesh.until(lambda: not space.run("ip -6 addr show tentative"), "addresses")
        space.run(f"ip route replace default via {gateway}")
    mesh.until(lambda: len(mesh.routes("n2")) == 6, "routes of n2")
    _reached(mesh, "n2", "n1")
    _reached(mesh, "n2", "n4")


@pytest.mark.parametrize("node", ["n3", "n4"])
def test_a_node_that_leaves_and_returns(mesh: Cluster, node: str) -> None:
    gone = mesh.api.node(node)
    mesh.api.delete(gone)
    others = [each for each in NODES if each != node]
    number = node[1:]
    for each in others:
        mesh.until(lambda each=each: f"10.244.{number}.0/24" not in mesh.routes(each), each)
        assert len(mesh.routes(each)) == 4
    # Without its own Node it leaves all as it is.
    assert len(mesh.routes(node)) == 6
    mesh.api.put(gone)
    for each in others:
        mesh.until(lambda each=each: len(mesh.routes(each)) == 6, each)
    _reached(mesh, "n1", node)


@pytest.mark.parametrize("node", ["n3", "n4"])
def test_a_node_that_changes_its_address(mesh: Cluster, node: str) -> None:
    other = {f: address(node, f, 33) for f in (4, 6)}
    space = mesh.spaces[node]
    for family, text in other.items():
        space.run(f"ip addr add {text} dev eth0" + (" nodad" if family == 6 else ""))
    before, changed = (
        mesh.api.node(node),
        node_object(node, addresses=list(map(bare, other.values()))),
    )
    changed["metadata"]["annotations"] = before["metadata"]["annotations"]
    mesh.api.put(changed)
    word = "via 192.168.77.33" if node == "n3" else "dst 192.168.78.33"
    mesh.until(lambda: word in _state(mesh)["n1"], word)
    if node == "n4":
        mesh.until(lambda: "local 192.168.78.33" in space.run(f"ip -d link show {DEVICE}"), "local")
    for family in (4, 6):
        space.run(f"ip addr del {address(node, family)} dev eth0")
    _restore_default(mesh, node)
    _reached(mesh, "n1", node)
    _reached(mesh, node, "n2")
    for family in (4, 6):
        text = address(node, family)
        space.run(f"ip addr add {text} dev eth0" + (" nodad" if family == 6 else ""))
    mesh.api.put(before)
    mesh.until(lambda: word not in _state(mesh)["n1"], "the address of before")
    for text in other.values():
        space.run(f"ip addr del {text} dev eth0")
    _restore_default(mesh, node)


def _restore_default(mesh: Cluster, node: str) -> None:
    for family in (4, 6):
        mesh.spaces[node].run(f"ip route replace default via {bare(address(node, family, 254))}")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_restart_loses_no_packet_and_touches_nothing(mesh: Cluster, how: signal.Signals) -> None:
    with Stream(mesh.pods["n4"], mesh.pods["n1"]) as far, Stream(mesh.pods["n2"], mesh.pods["n1"]):
        monitor = mesh.monitor("n1")
        mesh.daemons["n1"].stop(how)
        (mesh.directory / "n1.json").unlink()
        mesh.start("n1")
        mesh.until(lambda: mesh.took_over("n1"), "restart")
        sent = far.sent
        mesh.until(lambda: far.sent > sent + 50, "packets")
        seen = monitor()
    assert far.lost == 0
    assert not seen, "the kernel was changed"


def test_it_may_die_at_any_point(mesh: Cluster) -> None:
    """Killed while it makes all anew, again and again, the last one finds the rest."""
    before = _state(mesh)["n1"]
    for turn in range(3):
        mesh.daemons["n1"].stop(signal.SIGKILL)
        mesh.spaces["n1"].run(
            f"ip link del {DEVICE} || true; ip route flush proto 88; ip -6 route flush proto 88"
        )
        mesh.start("n1")
        wanted = 1 + turn
        mesh.until(lambda wanted=wanted: len(_lines(mesh)) >= wanted, "a part")
    mesh.until(lambda: _state(mesh)["n1"] == before, "all")
    _reached(mesh, "n1", "n4")


def _lines(mesh: Cluster) -> list[str]:
    return mesh.spaces["n1"].run("ip route show proto 88; ip -6 route show proto 88").splitlines()


def test_a_node_that_lies_gets_nothing_and_is_named(mesh: Cluster) -> None:
    before = {node: mesh.routes(node) for node in NEAR}
    liar = node_object("n5", addresses=["192.168.77.5"], created="2000-01-01T00:00:00Z")
    for cidrs, reason in (
        (["0.0.0.0/0", "::/0"], "OutsideClusterCIDR"),
        (["192.168.77.0/24"], "OutsideClusterCIDR"),
        (["10.244.0.0/16"], "OverlappingPodCIDR"),
    ):
        mesh.api.events.clear()
        mesh.api.put({**liar, "spec": {"podCIDRs": cidrs}})
        mesh.until(
            lambda reason=reason: any(
                event.get("reason") == reason and event["involvedObject"]["name"] == "n5"
                for event in mesh.api.events
            ),
            reason,
        )
        assert {node: mesh.routes(node) for node in NEAR} == before
    mesh.api.delete(liar)


def test_a_route_of_somebody_else_is_left_alone(mesh: Cluster) -> None:
    space = mesh.spaces["n1"]
    guest = node_object("n6", addresses=["192.168.77.6"])
    space.run("ip route add 10.244.6.0/24 via 192.168.77.3")
    mesh.api.put(guest)
    mesh.until(lambda: "10.244.6.0/24" in mesh.routes("n2"), "the route of n2")
    mesh.until(lambda: "RouteExists" in mesh.daemons["n1"].text(), "the conflict is told")
    assert "192.168.77.3" in space.run("ip route show 10.244.6.0/24")
    space.run("ip route del 10.244.6.0/24")
    mesh.until(lambda: "10.244.6.0/24" in mesh.routes("n1"), "the route once it is free")
    mesh.api.delete(guest)


def test_the_node_says_that_its_network_is_there(mesh: Cluster) -> None:
    one = mesh.api.node("n1")
    [condition] = [c for c in one["status"]["conditions"] if c["type"] == "NetworkUnavailable"]
    assert (condition["status"], condition["reason"]) == ("False", "RouteCreated")


def test_cleanup_removes_all(mesh: Cluster) -> None:
    daemon = mesh.daemons["n1"]
    daemon.stop()
    mesh.run_daemon("n1", "--cleanup", "--node-file", str(mesh.directory / "n1.json"))
    space = mesh.spaces["n1"]
    assert not mesh.routes("n1")
    assert DEVICE not in space.run("ip -o link")
    assert "KUBELETPY-NETWORK" not in space.run("iptables-save; ip6tables-save")
    assert not (mesh.directory / "n1.json").exists()
    mesh.start("n1")
