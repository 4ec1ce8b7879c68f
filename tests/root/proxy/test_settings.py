"""Settings that change what packets see: masquerading, node-port addresses, local traffic."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.proxylab.clients import REFUSED
from tests.support.proxylab.lab import Lab
from tests.support.proxylab.objects import Port
from tests.support.proxylab.proxies import Settings
from tests.support.proxylab.topology import BRIDGE, WIRE_CIDRS

from .cases import MASQUERADED, Scenario, check, nodes_own
from .conftest import MODES
from .services import BOTH, loopback, second

pytestmark = pytest.mark.root

DETECTORS: dict[str, dict[str, Any]] = {
    "NodeCIDR": {},
    "BridgeInterface": {"detectLocal": {"bridgeInterface": BRIDGE}},
    "InterfaceNamePrefix": {"detectLocal": {"interfaceNamePrefix": BRIDGE[:-1]}},
}


@pytest.mark.parametrize("settings", MODES)
def test_masquerade_all_and_node_port_addresses(lab: Lab, settings: Settings) -> None:
    scenario = Scenario()
    where = scenario.add("plain", BOTH, [Port(80, node_port=30080)])
    scenario.expect("masquerade all", "pod node outside", where, 80, BOTH, MASQUERADED)
    scenario.expect("an address of the CIDRs", "outside pod", nodes_own, 30080, BOTH, MASQUERADED)
    scenario.expect("an address of none", "outside pod node", second, 30080, REFUSED)
    scenario.expect("localhost", "node", loopback, 30080, REFUSED)
    lab.reset(*scenario.objects)
    changed = settings.with_config(
        nodePortAddresses=list(WIRE_CIDRS.values()),
        iptables={"masqueradeAll": True, "localhostNodePorts": False, "masqueradeBit": 5},
        nftables={"masqueradeAll": True},
    )
    with lab.proxy(changed):
        check(lab, scenario, changed)


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("settings", MODES)
def test_local_traffic(lab: Lab, settings: Settings, detector: str) -> None:
    scenario = Scenario()
    where = scenario.add("plain", BOTH, [Port(80, node_port=30080)])
    scenario.expect("local", "pod", where, 80, BOTH)
    # A pod of another node is as foreign as the outside, unlike with the cluster's CIDR.
    scenario.expect("not local", "node outside far", where, 80, BOTH, MASQUERADED)
    scenario.add("local", BOTH, [Port(80, node_port=30180)], externalTrafficPolicy="Local")
    scenario.expect("local, policy Local", "pod", nodes_own, 30180, BOTH)
    scenario.expect("not local, policy Local", "outside far", nodes_own, 30180, BOTH[:1])
    scenario.expect("not the primary address", "outside", second, 30080, REFUSED)
    lab.reset(*scenario.objects)
    changed = settings.with_config(
        detectLocalMode=detector, nodePortAddresses=["primary"], **DETECTORS[detector]
    )
    with lab.proxy(changed):
        check(lab, scenario, changed)
