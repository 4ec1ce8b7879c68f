"""What is to be in the kernel."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from proxy.podnetwork import plan
from proxy.podnetwork.entries import OVERLAY, Entries, Facts, Foreign, Link, Local, RouteKey
from proxy.podnetwork.objects import Announcement, Member
from proxy.podnetwork.plan import Claims, Lookup, Problem, mac_of
from proxy.podnetwork.settings import Mode
from tests.support.circumstances import examples
from tests.unit.proxy.podnetwork.nodes import UPLINK, facts, foreign, member, settings

OWN = member(1)
FAR = ("192.168.99.4", "fd99::4")


def _make(*others: Member, mode: Mode = Mode.AUTO, known: Facts | None = None) -> plan.Plan:
    return plan.make(settings(mode), OWN, others, known or facts())


def _ways(entries: Entries) -> dict[str, str]:
    """Return the routes in words: network to next address, and whether that is by VXLAN."""
    return {
        f"{ip_address(key.network)}/{key.length}": f"{ip_address(hop.gateway)}"
        + (" vxlan" if hop.link == OVERLAY else f" {hop.link}")
        for key, hop in entries.routes.items()
    }


DIRECT = {"10.244.2.0/24": "192.168.77.2 2", "fd44:0:2::/64": "fd77::2 2"}
CARRIED = {
    "10.244.2.0/24": "10.244.2.0 vxlan",
    "fd44:0:2::/64": "fe80::a58:aff:fef4:200 vxlan",
}


@pytest.mark.parametrize(
    ("mode", "addresses", "ways", "reason"),
    [
        (Mode.HOST_GW, None, DIRECT, ""),
        (Mode.AUTO, None, DIRECT, ""),
        (Mode.VXLAN, None, CARRIED, ""),
        (Mode.AUTO, FAR, CARRIED, ""),
        (Mode.VXLAN, FAR, CARRIED, ""),
        (Mode.HOST_GW, FAR, {}, "NotOnLink"),
        # Each family by its own way: without an IPv6 address there, IPv6 goes in IPv4.
        (Mode.AUTO, ("192.168.77.2",), DIRECT | {"fd44:0:2::/64": CARRIED["fd44:0:2::/64"]}, ""),
        (Mode.HOST_GW, ("192.168.77.2",), {"10.244.2.0/24": "192.168.77.2 2"}, "NotOnLink"),
        # VXLAN of this node is over IPv4.
        (Mode.VXLAN, ("fd99::4",), {}, "NoAddress"),
        (Mode.AUTO, (), {}, "NoAddress"),
        (Mode.AUTO, ("127.0.0.1",), {}, "NoAddress"),
        (Mode.AUTO, ("fe80::1",), {}, "NoAddress"),
        (Mode.AUTO, ("192.168.77.1",), {}, "NoAddress"),  # this node's own
        (Mode.AUTO, ("10.244.9.9",), {}, "NoAddress"),  # a pod's
    ],
)
def test_ways_to_another_node(
    mode: Mode, addresses: tuple[str, ...] | None, ways: dict[str, str], reason: str
) -> None:
    made = _make(member(2, addresses=addresses), mode=mode)
    assert _ways(made.entries) == ways
    assert [each.reason for each in made.problems] == ([reason] if reason else [])
    assert made.reached == bool(ways)
    carried = [way for way in ways.values() if way.endswith("vxlan")]
    assert len(made.entries.neighbours) == len(carried)
    assert set(made.entries.neighbours.values()) == set(made.entries.forwarding)


@pytest.mark.parametrize(
    ("mode", "said", "addresses", "ways", "reason"),
    [
        (Mode.AUTO, Announcement(Mode.VXLAN, 88, 8472), None, CARRIED, ""),
        (Mode.AUTO, Announcement(Mode.HOST_GW, 88, 8472), None, DIRECT, ""),
        (Mode.AUTO, Announcement(Mode.HOST_GW, 88, 8472), FAR, {}, "NoOverlay"),
        (Mode.VXLAN, Announcement(Mode.AUTO, 88, 4789), None, {}, "OtherOverlay"),
        (Mode.VXLAN, Announcement(Mode.AUTO, 1, 8472), None, {}, "OtherOverlay"),
        (Mode.AUTO, Announcement(Mode.AUTO, 1, 8472), None, DIRECT, ""),
    ],
)
def test_what_the_other_node_says_of_itself_counts(
    mode: Mode, said: Announcement, addresses: tuple[str, ...] | None, ways: dict[str, str],
    reason: str,
) -> None:  # fmt: skip
    made = _make(member(2, announced=said, addresses=addresses), mode=mode)
    assert _ways(made.entries) == ways
    assert [each.reason for each in made.problems] == ([reason] if reason else [])


@pytest.mark.parametrize(
    ("cidr", "reason"),
    [
        ("0.0.0.0/0", "OutsideClusterCIDR"),
        ("::/0", "OutsideClusterCIDR"),
        ("192.168.77.0/24", "OutsideClusterCIDR"),
        ("10.0.0.0/8", "OutsideClusterCIDR"),
        ("10.96.0.0/16", "OutsideClusterCIDR"),
        ("fd77::/64", "OutsideClusterCIDR"),
        ("10.244.0.0/16", "OverlappingPodCIDR"),  # all of it, this node's too
        ("10.244.1.0/24", "OverlappingPodCIDR"),
        ("10.244.1.128/25", "OverlappingPodCIDR"),
        ("10.244.2.64/26", "OverlappingPodCIDR"),  # of the older node 2
        ("10.244.2.0/23", "OverlappingPodCIDR"),
        ("10.244.50.0/24", "CoversThisNode"),
        ("10.244.60.0/24", "RouteExists"),
    ],
)
def test_a_network_that_no_node_may_have_is_not_routed(cidr: str, reason: str) -> None:
    before = facts(foreign("10.244.60.0/24", direct=False, protocol=3))
    known = Facts(
        {**before.links, 7: Link("eth1", 1500, True)},
        (*before.addresses, Local(ip_address("10.244.50.7"), 7)), before.routes,
    )  # fmt: skip
    good = member(2)
    made = _make(member(3, cidrs=(cidr,)), good, known=known)
    [problem] = made.problems
    assert (problem.node, problem.reason) == ("n3", reason)
    assert cidr in problem.text
    assert _ways(made.entries) == DIRECT


def test_of_two_nodes_with_one_network_the_older_has_it() -> None:
    young, old = (
        member(2, born="2026-02-02"),
        member(3, born="2026-02-01", cidrs=("10.244.2.0/24",)),
    )
    made = _make(young, old)
    assert _ways(made.entries) == {
        "10.244.2.0/24": "192.168.77.3 2", "fd44:0:2::/64": "fd77::2 2",
    }  # fmt: skip
    assert made.problems == [
        Problem(
            "n2", "OverlappingPodCIDR", "pod CIDR 10.244.2.0/24 overlaps with 10.244.2.0/24 of "
            "node n3, which counts; it is not routed: delete this Node so that it gets another",
        )
    ]  # fmt: skip


def test_an_older_node_cannot_take_what_this_node_has() -> None:
    made = _make(member(2, born="2000-01-01", cidrs=("10.244.1.0/24",)))
    assert not made.entries.routes
    assert made.problems[0].node == "n2"


def test_device_and_mtu() -> None:
    made = _make(mode=Mode.VXLAN)
    device = made.entries.device
    assert device is not None
    assert (device.vni, device.port, device.mtu, device.ipv6) == (88, 8472, 1450, False)
    assert device.local == ip_address("192.168.77.1").packed
    assert made.entries.addresses == {
        ip_address("10.244.1.0").packed, ip_address("fd44:0:1::").packed,
    }  # fmt: skip
    assert made.mtu == 1450
    direct = _make(mode=Mode.HOST_GW, known=facts(mtu=9000))
    assert (direct.entries.device, direct.mtu) == (None, 9000)


def test_vxlan_over_ipv6_where_the_first_address_is_of_it() -> None:
    own = member(1, addresses=("fd77::1", "192.168.77.1"))
    made = plan.make(settings(Mode.VXLAN), own, [member(2)], facts())
    assert made.entries.device is not None
    assert made.entries.device.ipv6
    assert made.mtu == 1430
    assert list(made.entries.forwarding.values()) == [ip_address("fd77::2").packed]


def test_an_address_that_is_on_no_link_is_no_source() -> None:
    own = member(1, addresses=("203.0.113.9",))
    made = plan.make(settings(Mode.VXLAN), own, [], facts(mtu=1400))
    assert made.entries.device is not None
    assert made.entries.device.local == b""
    assert made.mtu == 1350  # of the default route's link


def test_this_node_without_a_usable_address_is_told_and_still_routes_directly() -> None:
    own = member(1, addresses=("10.244.3.3",))
    made = plan.make(settings(), own, [member(2)], facts())
    assert [(each.node, each.reason) for each in made.problems] == [("n1", "NoAddress")]
    assert _ways(made.entries) == DIRECT


def test_hardware_addresses_are_known_without_being_told() -> None:
    assert mac_of(member(7).cidrs).hex(":") == "0a:58:0a:f4:07:00"
    assert mac_of(member(7, cidrs=("fd44:0:7::/64", "10.244.7.0/24")).cidrs) == mac_of(
        member(7).cidrs
    )
    v6 = mac_of(member(7, cidrs=("fd44:0:7::/64",)).cidrs)
    assert (len(v6), v6[:2].hex()) == (6, "0a59")


@pytest.mark.parametrize(
    ("address", "link"),
    [
        ("192.168.77.9", UPLINK),
        ("192.168.78.9", 0),  # by the default route
        ("192.168.77.200", 0),  # a longer prefix leads to a router
        ("192.168.88.8", 9),
        ("fd77::9", UPLINK),
        ("fd78::9", 0),
    ],
)
def test_on_link(address: str, link: int) -> None:
    known = facts(
        foreign("192.168.77.128/25", direct=False), foreign("192.168.88.8/32", link=9)
    )  # fmt: skip
    assert Lookup(known.routes).on_link(ip_address(address)) == link


def test_a_default_route_without_router_is_no_network_of_this_node() -> None:
    routes = [Foreign(ip_network("0.0.0.0/0"), True, UPLINK, 3)]
    assert Lookup(routes).on_link(ip_address("192.0.2.1")) == 0


_NETWORKS = st.builds(
    lambda number, length: ip_network((number >> (32 - length) << (32 - length), length)),
    st.integers(0x0AF40000, 0x0AF4FFFF), st.integers(17, 30),
)  # fmt: skip


@limits(max_examples=examples(60), deadline=None)
@given(st.lists(_NETWORKS, max_size=30))
def test_claims_never_overlap_and_refuse_nothing_that_fits(networks: list[object]) -> None:
    claims = Claims()
    taken: list[object] = []
    for network in networks:
        clash = [each for each in taken if each.overlaps(network)]  # type: ignore[attr-defined]
        owner = claims.owner(network)  # type: ignore[arg-type]
        assert bool(owner) == bool(clash)
        if owner is None:
            claims.take(network, "x")  # type: ignore[arg-type]
            taken.append(network)


@limits(max_examples=examples(40), deadline=None)
@given(st.lists(st.integers(2, 40), unique=True, max_size=12), st.randoms())
def test_the_order_of_nodes_does_not_count(numbers: list[int], random: object) -> None:
    others = [member(each, addresses=FAR if each % 2 else None) for each in numbers]
    before = _make(*others)
    random.shuffle(others)  # type: ignore[attr-defined]
    assert _make(*others) == before
    assert {RouteKey(c.network_address.packed, c.prefixlen, 0 if c.version == 4 else 1024)
            for each in others for c in each.cidrs} == set(before.entries.routes)  # fmt: skip
