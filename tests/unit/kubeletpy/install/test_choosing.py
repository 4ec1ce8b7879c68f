from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kubeletpy.install import installation
from kubeletpy.install.choosing import Asked, choose, with_both_families
from kubeletpy.install.errors import InstallError
from kubeletpy.install.facts import own_program

from .installations import FACTS, node, server


def test_a_server_knows_its_cluster() -> None:
    one = server()
    assert one.cluster.server == "https://192.0.2.7:6443"
    assert one.cluster.dns == ("10.96.0.10",)
    assert one.cluster.pod_cidrs == ("10.244.0.0/16",)
    assert (one.node_name, one.node_ip, one.cgroup_driver) == ("one", "192.0.2.7", "systemd")


def test_a_server_of_both_families_behind_ipv6() -> None:
    one = server(
        advertise_address="2001:db8::7", port=443, pod_cidrs=("10.0.0.0/16", "fd01::/48"),
        service_cidrs=("fd02::/112",),
    )  # fmt: skip
    assert one.cluster.server == "https://[2001:db8::7]:443"
    assert one.cluster.dns == ("fd02::a",)


@pytest.mark.parametrize(
    ("systemd", "version", "driver"),
    [(True, 2, "systemd"), (True, 1, "cgroupfs"), (False, 2, "cgroupfs")],
)
def test_the_cgroup_driver_fits_the_machine(systemd: bool, version: int, driver: str) -> None:
    facts = replace(FACTS, systemd=systemd, cgroup_version=version)
    assert choose(None, Asked(role="node"), facts).cgroup_driver == driver


def test_what_is_not_asked_for_again_stays() -> None:
    before = node(labels=("a=b",), proxy=False, node_name="n1")
    after = choose(before, Asked(role="node", taints=("k=v:NoExecute",)), FACTS)
    assert (after.labels, after.proxy, after.node_name) == (("a=b",), False, "n1")
    assert after.taints == ("k=v:NoExecute",)
    assert choose(before, Asked(), FACTS) == before


REFUSED = {
    "another role": (node(), Asked(role="server"), "kubeletpy uninstall"),
    "another name": (node(), Asked(node_name="two"), "--node-name is one here"),
    "another driver": (node(), Asked(cgroup_driver="cgroupfs"), "--cgroup-driver is systemd here"),
    "other networks": (server(), Asked(pod_cidrs=("10.1.0.0/16",)), "cannot be changed"),
    "no name": (None, Asked(role="node", node_name="No_Name"), "is no name of a node"),
    "no label": (None, Asked(role="node", labels=("x",)), "expected KEY=VALUE"),
    "no taint": (None, Asked(role="node", taints=("x=y",)), "KEY[=VALUE]:EFFECT"),
    "no address": (None, Asked(role="node", node_ip="one"), "--node-ip one: not an IP address"),
    "only here": (None, Asked(role="server", advertise_address="127.0.0.1"), "cannot reach"),
    "overlap": (None, Asked(role="server", pod_cidrs=("10.96.0.0/12",)), "overlap"),
    "host bits": (None, Asked(role="server", pod_cidrs=("10.1.2.3/16",)), "10.1.2.3/16"),
    "no pool": (None, Asked(role="server", balancer_link="eth0"), "needs a --load-balancer-pool"),
    "no network of a pool": (
        None, Asked(role="server", balancer_pool=("192.0.2.1-192.0.2.9",)), "--load-balancer-pool",
    ),
    "no network of askers": (
        None, Asked(role="server", dns_clients=("all",)), "--dns-allow-from all",
    ),
    "twice one family": (
        None, Asked(role="server", pod_cidrs=("10.1.0.0/16", "10.2.0.0/16")), "each family",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    previous, asked, message = REFUSED[case]
    with pytest.raises(InstallError) as caught:
        choose(previous, asked, FACTS)
    assert message in str(caught.value)


def test_no_program_and_no_address_name_the_flag() -> None:
    with pytest.raises(InstallError, match="--program"):
        choose(None, Asked(role="node"), replace(FACTS, program=()))
    with pytest.raises(InstallError, match="--advertise-address"):
        choose(None, Asked(role="server"), replace(FACTS, address=""))


@pytest.mark.parametrize("one", [server(storage=False), node(labels=("a=b",), proxy=False)])
def test_node_yaml_round_trip(tmp_path: Path, one: installation.NodeInstallation) -> None:
    path = tmp_path / "node.yaml"
    assert installation.read(path) is None
    installation.write(path, one)
    assert path.stat().st_mode & 0o777 == 0o600
    assert installation.read(path) == one


@pytest.mark.parametrize("text", ["kind: [", "role: node\nnodename: x", "- 1"])
def test_a_broken_node_yaml_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(text)
    with pytest.raises(InstallError, match="kubeletpy uninstall"):
        installation.read(path)


def test_services_start_a_release_by_the_link_to_the_current_one(tmp_path: Path) -> None:
    release = Path("/opt/kubeletpy/releases/1-abc/bin/python3")
    assert own_program(release) == ("/opt/kubeletpy/current/bin/kubeletpy",)
    assert own_program(tmp_path / "python3") == ()
    (tmp_path / "kubeletpy").touch()
    assert own_program(tmp_path / "python3") == (str(tmp_path / "kubeletpy"),)


BOTH = ("10.244.0.0/16", "fd44::/56")


@pytest.mark.parametrize(
    ("cidrs", "own", "other", "expected"),
    [
        (BOTH, "192.0.2.7", "2001:db8::7", "192.0.2.7,2001:db8::7"),
        (BOTH, "2001:db8::7", "192.0.2.7", "2001:db8::7,192.0.2.7"),
        (BOTH, "192.0.2.7", "", "192.0.2.7"),
        (BOTH, "192.0.2.7", "192.0.2.8", "192.0.2.7"),
        (BOTH, "192.0.2.7,2001:db8::9", "2001:db8::7", "192.0.2.7,2001:db8::9"),
        (BOTH[:1], "192.0.2.7", "2001:db8::7", "192.0.2.7"),
        ((), "192.0.2.7", "2001:db8::7", "192.0.2.7"),
    ],
)
def test_a_node_has_an_address_of_each_family_of_its_pods(
    cidrs: tuple[str, ...], own: str, other: str, expected: str
) -> None:
    facts = replace(FACTS, other_address=other)
    assert with_both_families(node(node_ip=own, pod_cidrs=cidrs), facts).node_ip == expected
