"""Whatever the portals: packets end up where they should, evenly, and no chain is lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.backend import LocalDetector, LocalTraffic, RuleOptions
from proxy.iptables import choice, dispatch, names
from proxy.iptables.rules import Host
from proxy.iptables.ruleset import Found, RuleSet
from proxy.model.portal import Endpoint, Family, Missing, Portal, PortalName, Protocol
from tests.support.circumstances import examples

from .interpreter import Packet, Rules
from .portals import by_name

OPTIONS = RuleOptions(Family.V4, LocalDetector(LocalTraffic.CLUSTER_CIDR, "10.1.0.0/16"))
POD, NODE, OUTSIDE, ALLOWED = "10.1.9.9", "192.0.2.1", "198.18.0.5", "203.0.113.77"
ENDPOINTS = [Endpoint(f"10.1.{n}.{n}", 8000 + n, n % 2 == 0) for n in range(8)]


@pytest.fixture(scope="module", autouse=True)
def small_leaves() -> Iterator[None]:
    """Few portals make trees of chains."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, "LEAF", 2)
        patch.setattr(choice, "GROUP", 2)
        yield


@st.composite
def portal_sets(draw: st.DrawFn) -> tuple[Portal, ...]:
    """Sets of portals with addresses and ports of their own, from none to more than a leaf."""
    numbers = draw(st.lists(st.integers(0, 4095), max_size=15, unique=True))
    return tuple(draw(one_portal(number)) for number in numbers)


def one_portal(number: int) -> st.SearchStrategy[Portal]:
    """A portal whose addresses are made of a number."""

    def build(
        protocol: Protocol, cluster: list[Endpoint], ways: tuple[bool, bool, bool], local: int
    ) -> Portal:
        node_port, external, balanced = ways
        internal_local, external_local = bool(local & 1), bool(local & 2)
        near = tuple(each for each in sorted(cluster) if each.is_local)
        return Portal(
            PortalName("ns", f"s{number}", "", protocol.value),
            Family.V4,
            protocol,
            f"10.{96 + number % 3}.{number >> 8}.{number & 255}",
            80 + number % 5,
            node_port=30000 + number // 2 * 2 if node_port and number % 2 == 0 else 0,
            external_ips=(f"198.51.{number >> 8}.{number & 255}",) if external else (),
            load_balancer_ips=(f"203.0.{number >> 8}.{number & 255}",) if balanced else (),
            source_ranges=(f"{ALLOWED}/32",) if local & 4 else (),
            restricted=bool(local & 4),
            affinity_seconds=60 if local & 8 else 0,
            internal_local=internal_local,
            external_local=external_local,
            cluster_endpoints=tuple(sorted(cluster)),
            local_endpoints=near if internal_local or external_local else (),
            has_endpoints=bool(cluster),
        )

    return st.builds(
        build,
        st.sampled_from(Protocol),
        st.lists(st.sampled_from(ENDPOINTS), unique=True, max_size=5),
        st.tuples(st.booleans(), st.booleans(), st.booleans()),
        st.integers(0, 15),
    )


def evenly(endpoints: Iterable[Endpoint], *, marked: bool) -> dict[tuple[str, bool], float]:
    """Return what `Rules.walk` is to return."""
    targets = [f"{each.ip}:{each.port}" for each in endpoints]
    return {(target, marked): 1 / len(targets) for target in targets}


def refused(missing: Missing | None) -> str:
    """Return the verdict of the filter table for what was not translated."""
    return {None: "", Missing.NOTHING: "REJECT", Missing.LOCAL: "DROP"}[missing]


def outside_fate(portal: Portal, source: str) -> dict[tuple[str, bool], float]:
    """Return what becomes of a packet to an address outside the cluster, in ``nat``."""
    if portal.external_local:
        if source in (POD, NODE) and portal.cluster_endpoints:
            return evenly(portal.cluster_endpoints, marked=source == NODE)
        return evenly(portal.local_endpoints, marked=False) or {("", False): 1.0}
    return evenly(portal.cluster_endpoints, marked=True)


@settings(max_examples=examples(25), deadline=None)
@given(portal_sets(), st.booleans())
def test_every_packet_ends_where_its_portal_says(portals: tuple[Portal, ...], bpf: bool) -> None:
    host = Host(compares_addresses=bpf)
    rules = Rules(RuleSet(OPTIONS, host).make_all(by_name(*portals), Found()).text())
    for portal in portals:
        check_cluster_ip(rules, portal)
        check_outside(rules, portal)


def check_cluster_ip(rules: Rules, portal: Portal) -> None:
    for source in (POD, OUTSIDE):
        packet = Packet(source, portal.cluster_ip, portal.protocol.lower, portal.port)
        fate = rules.walk("nat", names.SERVICES, packet)
        if portal.internal_missing:
            assert fate == {("", False): 1.0}
            verdict = refused(portal.internal_missing)
            assert rules.walk("filter", names.SERVICES, packet) == {(verdict, False): 1.0}
        else:
            expected = evenly(portal.internal_endpoints, marked=source == OUTSIDE)
            assert fate == pytest.approx(expected, abs=1e-6)


def check_outside(rules: Rules, portal: Portal) -> None:
    ways = [(address, portal.port) for address in portal.external_ips]
    if portal.node_port:
        ways.append((NODE, portal.node_port))
    for address, port in ways:
        for source in (POD, NODE, OUTSIDE):
            check_way(rules, portal, Packet(source, address, portal.protocol.lower, port))
    for address in portal.load_balancer_ips:
        for source in (OUTSIDE, ALLOWED):
            packet = Packet(source, address, portal.protocol.lower, portal.port)
            if portal.restricted and source == OUTSIDE and portal.has_endpoints:
                assert rules.walk("nat", names.SERVICES, packet) == {("", False): 1.0}
                assert rules.walk("filter", names.PROXY_FIREWALL, packet) == {("DROP", False): 1.0}
            else:
                check_way(rules, portal, packet)


def check_way(rules: Rules, portal: Portal, packet: Packet) -> None:
    fate = rules.walk("nat", names.SERVICES, packet)
    if not portal.has_endpoints:
        assert fate == {("", False): 1.0}
    else:
        assert fate == pytest.approx(outside_fate(portal, packet.source), abs=1e-6)
    if ("", False) in fate:
        verdict = refused(portal.external_missing)
        assert rules.walk("filter", names.EXTERNAL_SERVICES, packet) == {(verdict, False): 1.0}


@settings(max_examples=examples(25), deadline=None)
@given(portal_sets())
def test_every_target_is_there_and_every_chain_is_used(portals: tuple[Portal, ...]) -> None:
    rules = Rules(RuleSet(OPTIONS, Host()).make_all(by_name(*portals), Found()).text())
    targets = rules.targets()
    ours = {key for key in rules.chains if key[1].startswith("KUBE-")}
    assert targets <= ours
    unused = {chain for _, chain in ours - targets}
    assert unused <= {names.CANARY, names.MARK_MASQUERADE}
    assert all(len(chain) <= names.MAX_LENGTH for _, chain in ours)
    assert all(names.is_ours(*key) or key[1] == names.KUBELET_FIREWALL for key in ours)


@settings(max_examples=examples(25), deadline=None)
@given(portal_sets(), portal_sets())
def test_what_changed_makes_the_same_rules_as_all_anew(
    before: tuple[Portal, ...], after: tuple[Portal, ...]
) -> None:
    rules = RuleSet(OPTIONS, Host())
    there = Rules(rules.make_all(by_name(*before), Found()).text())
    old, new = by_name(*before), by_name(*after)
    changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    changes = rules.make_changed(new, changed)
    apply(there, changes.text())
    fresh = RuleSet(OPTIONS, Host())
    assert there.chains == Rules(fresh.make_all(new, Found()).text()).chains
    assert rules.rules == fresh.rules


def apply(there: Rules, text: str) -> None:
    """Do to rules what ``iptables-restore --noflush`` does."""
    there.chains.update(Rules(text).chains)
    table = ""
    for line in text.splitlines():
        table = line[1:] if line.startswith("*") else table
        if line.startswith("-X "):
            del there.chains[table, line[3:]]


def test_nothing_is_written_when_nothing_changed() -> None:
    portals = by_name(*[replace(one, has_endpoints=True) for one in _three()])
    rules = RuleSet(OPTIONS, Host())
    rules.make_all(portals, Found())
    assert rules.make_changed(portals, set(portals)).text() == ""


def _three() -> list[Portal]:
    return [
        Portal(
            PortalName("ns", f"s{n}", "", "TCP"),
            Family.V4,
            Protocol.TCP,
            f"10.96.0.{n}",
            80,
            cluster_endpoints=tuple(ENDPOINTS[:3]),
        )
        for n in range(3)
    ]
