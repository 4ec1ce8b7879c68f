"""Endpoints whose flows of UDP and SCTP are healthy."""

from __future__ import annotations

import pytest

from proxy.model import topology
from proxy.model.portal import Family, Portal, PortalName, Protocol
from proxy.model.slices import Place

READY = Place("10.1.0.1", ready=True)
ELSEWHERE = Place("10.1.0.2", ready=True, zones=("far",))
TERMINATING = Place("10.1.0.3", ready=False, serving=True, terminating=True)
GOING = Place("10.1.0.4", ready=False, serving=False, terminating=True)
PUBLISHED = Place("10.1.0.5", ready=True, serving=False)


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        (Protocol.UDP, ["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.5"]),
        (Protocol.SCTP, ["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.5"]),
        (Protocol.TCP, []),
    ],
)
def test_flows_may_stay_at_all_that_serves(protocol: Protocol, expected: list[str]) -> None:
    name = PortalName("default", "dns", "", protocol.value)
    portal = Portal(name, Family.V4, protocol, "10.96.0.1", 53)
    places = {(each.ip, 53): each for each in (READY, ELSEWHERE, TERMINATING, GOING, PUBLISHED)}
    chosen = topology.choose(portal, places, "near")
    assert [each.ip for each in chosen.serving_endpoints] == expected
    assert TERMINATING.ip not in [each.ip for each in chosen.cluster_endpoints]
