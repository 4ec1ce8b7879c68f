"""Random portals: each packet gets to the endpoints that the portal says, and to nothing else."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.backend import LocalDetector, LocalTraffic, RuleOptions
from proxy.model.portal import Endpoint, Family, Missing, Portal
from proxy.nftables.ledger import Ledger
from tests.support.circumstances import examples
from tests.support.portals import Portals, address, any_portal, network
from tests.unit.proxy.nftables.packets import Fate, Packet, Walk

REFUSALS = {Missing.NOTHING: {Fate("rejected")}, Missing.LOCAL: {Fate("dropped")}}


def sources(family: Family) -> dict[str, str]:
    """One client of each kind; the pod may be an endpoint, at this node."""
    return {
        "pod": address(family, 128, 3),
        "node": address(family, 10, 1),
        "outside": address(family, 60, 9),
        "far outside": address(family, 77, 9),
    }


def reached(ends: tuple[Endpoint, ...], packet: Packet, masqueraded: bool) -> set[Fate]:
    """Return the fates of a packet that gets to one of some endpoints, in all their chances."""
    return {
        Fate(
            "passed",
            each.ip,
            each.port,
            masqueraded or (each.is_local and each.ip == packet.source),
        )
        for each in ends
    }


def expected(portal: Portal, kind: str, packet: Packet, entry: str) -> set[Fate]:
    """Return what the API says of a packet to one of a portal's addresses."""
    if entry == "cluster IP":
        if portal.internal_missing:
            return REFUSALS[portal.internal_missing]
        return reached(portal.internal_endpoints, packet, kind != "pod")
    if entry == "load balancer" and portal.restricted:
        source = ip_address(packet.source)
        if not any(source in ip_network(each) for each in portal.source_ranges):
            return {Fate("dropped")}
    if not portal.external_local:
        missing = portal.external_missing
        return REFUSALS[missing] if missing else reached(portal.cluster_endpoints, packet, True)
    if kind in ("pod", "node") and portal.cluster_endpoints:
        return reached(portal.cluster_endpoints, packet, kind == "node")
    missing = portal.external_missing
    return REFUSALS[missing] if missing else reached(portal.local_endpoints, packet, False)


@pytest.mark.parametrize("family", Family)
@settings(deadline=None, max_examples=examples(25))
@given(data=st.data(), masquerade_all=st.booleans())
def test_each_packet_gets_where_its_service_says(
    family: Family, data: st.DataObject, masquerade_all: bool
) -> None:
    options = RuleOptions(
        family,
        LocalDetector(LocalTraffic.CLUSTER_CIDR, network(family, 128)),
        masquerade_all=masquerade_all,
        service_cidrs=(network(family, 96),),
    )
    portals: Portals = {}
    for number in range(1, 4):
        drawn = data.draw(any_portal(family, number))
        # The model gives each node port to one portal.
        drawn = replace(drawn, node_port=30000 + number if drawn.node_port else 0)
        portals[drawn.name] = drawn
    own = {address(family, 10, 1)}
    walk = Walk(Ledger(options).fill(portals), options, own)
    for portal in portals.values():
        entries = [("cluster IP", portal.cluster_ip, portal.port)]
        entries += [("external IP", ip, portal.port) for ip in portal.external_ips]
        entries += [("load balancer", ip, portal.port) for ip in portal.load_balancer_ips]
        if portal.node_port:
            entries += [("node port", each, portal.node_port) for each in own]
        for kind, source in sources(family).items():
            for entry, ip, port in entries:
                packet = Packet(source, ip, port)
                wanted = expected(portal, kind, packet, entry)
                if masquerade_all and entry == "cluster IP":
                    wanted = {replace(each, masqueraded=each.end == "passed") for each in wanted}
                assert walk.fates(packet) == wanted, (kind, entry, portal)


@pytest.mark.parametrize("family", Family)
@settings(deadline=None, max_examples=examples(20))
@given(data=st.data())
def test_packets_to_nobody_are_told_so_and_others_are_left_alone(
    family: Family, data: st.DataObject
) -> None:
    options = RuleOptions(family, service_cidrs=(network(family, 96),))
    portal = replace(data.draw(any_portal(family, 1)), cluster_ip=address(family, 96, 1))
    own = {address(family, 10, 1)}
    walk = Walk(Ledger(options).fill({portal.name: portal}), options, own)
    for source in sources(family).values():
        known, unknown = address(family, 96, 1), address(family, 96, 9)
        assert walk.fates(Packet(source, known, 9999)) == {Fate("rejected")}
        assert walk.fates(Packet(source, unknown, 80)) == {Fate("dropped")}
        for ip in (address(family, 128, 7), address(family, 50, 9), *own):
            alone = Packet(source, ip, 9999)
            assert walk.fates(alone) == {Fate("passed", ip, 9999)}
        # The node port is one at the node's own addresses.
        elsewhere = Packet(source, address(family, 50, 9), portal.node_port or 30001)
        assert walk.fates(elsewhere) == {Fate("passed", elsewhere.destination, elsewhere.port)}
