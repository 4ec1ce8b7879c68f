"""Subnets that the cluster gives the node: which count, and when."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.network.allocator import Pool
from runtime.network.host import overlay_mtu
from runtime.network.links import Link, Route, hardware_address
from runtime.network.node_ranges import decide, told_mtu
from runtime.network.rules import RuleSet

ONE, OTHER, V6 = "10.244.1.0/24", "10.244.2.0/24", "fd44:1::/64"


@pytest.mark.parametrize(
    ("heard", "held", "pools", "problem"),
    [
        ((), (), [], "waiting for the pod CIDRs"),
        ((), (ONE,), [ONE], "waiting for the pod CIDRs"),
        ((ONE,), (), [ONE], ""),
        ((V6, ONE), (), [ONE, V6], ""),
        ((V6,), (), [V6], ""),
        ((ONE, OTHER), (), [ONE], ""),  # the first of a family
        ((ONE,), (ONE,), [ONE], ""),
        ((ONE, V6), (ONE,), [ONE, V6], ""),  # a family is added
        ((ONE,), (ONE, V6), [ONE, V6], f"still have addresses of {V6};"),
        ((OTHER,), (ONE,), [ONE], f"still have addresses of {ONE};"),
        (("10.244.1.0/31",), (), [], "has no room for a gateway and a pod"),
        (("10.244.1.7/24",), (), [], "has host bits set"),
        (("::/200",), (ONE,), [ONE], "pod CIDRs ::/200 of this node"),
    ],
)
def test_which_subnets_count(
    heard: tuple[str, ...], held: tuple[str, ...], pools: list[str], problem: str
) -> None:
    ranges = decide(heard, held)
    assert [str(pool.network) for pool in ranges.pools] == pools
    assert problem in ranges.problem
    assert bool(ranges.problem) == bool(problem)


@pytest.mark.parametrize(
    ("text", "mtu"),
    [
        ('{"mtu": 1450, "mode": "auto"}', 1450),
        ('{"mtu": 100}', None),
        ('{"mtu": "1450"}', None),
        ("[1450]", None),
        ("{", None),
        (None, None),
    ],
)
def test_the_mtu_that_the_daemon_between_nodes_says(
    tmp_path: Path, text: str | None, mtu: int | None
) -> None:
    path = tmp_path / "pod-network.json"
    if text is not None:
        path.write_text(text)
    assert told_mtu(path) == mtu


@pytest.mark.parametrize(
    ("families", "mtu", "expected"),
    [((2, 10), 1500, 1450), ((10,), 1500, 1430), ((2,), 9000, 8950), ((), 1500, 1450),
     ((2,), 1300, 1280)],
)  # fmt: skip
def test_mtu_has_room_for_vxlan(families: tuple[int, ...], mtu: int, expected: int) -> None:
    links = [Link(2, "eth0", None, None, mtu, None)]
    routes = [Route(family, None, 0, 2, 0) for family in families]
    assert overlay_mtu(links, routes) == expected


def test_pods_of_other_nodes_see_the_source() -> None:
    pool = Pool.parse(ONE)
    rules = RuleSet("kubeletpy0", pool.network, ("10.244.0.0/16", "fd44::/16")).rules("nat")
    returns = [rule for rule in rules if rule.endswith("-j RETURN")]
    assert [rule.split()[1] for rule in returns] == [ONE, "10.244.0.0/16", "224.0.0.0/4"]


@pytest.mark.parametrize(("subnet", "mac"), [(ONE, "0a:58:0a:f4:01:01"), (V6, "0a:58:00:00:00:01")])
def test_hardware_address_of_a_gateway(subnet: str, mac: str) -> None:
    assert hardware_address(Pool.parse(subnet).gateway.ip) == mac
