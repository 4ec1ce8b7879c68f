"""The last rows of the table of attacks: loopback from the wire, and hijacking external IPs."""

from __future__ import annotations

import asyncio
import socket

import pytest

from kubeletpy_common.linux.namespaces import in_namespace
from tests.support.proxylab.clients import SILENCE, Answer, ask
from tests.support.proxylab.lab import Lab
from tests.support.proxylab.objects import LOCAL, Port, service, slices
from tests.support.proxylab.proxies import Settings
from tests.support.proxylab.topology import wire_address

from .conftest import MODES
from .services import externals, loopback

pytestmark = pytest.mark.root
SECRET_PORT, NODE_PORT = 7777, 30950


@pytest.mark.parametrize("settings", MODES)
def test_a_neighbour_cannot_reach_loopback_services(lab: Lab, settings: Settings) -> None:
    """CVE-2020-8558: route_localnet, which node ports on localhost need, opens 127.0.0.0/8."""
    node, attacker = lab.hosts["node"], lab.hosts["attacker"]
    _route_loopback(lab)
    with in_namespace(node.path):
        secret = socket.create_server(("127.0.0.1", SECRET_PORT))

    def attacked(port: int) -> Answer | str:
        """Return what the attacker gets; "connected" where a connection comes about."""

        async def run() -> Answer | str:
            with in_namespace(attacker.path):
                made = socket.socket()
            with made:
                made.setblocking(False)
                try:
                    async with asyncio.timeout(SILENCE):
                        await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
                        return "connected"
                except (TimeoutError, OSError) as error:
                    return type(error).__name__

        return asyncio.run(run())

    try:
        # The attack is a real one: without a proxy, and with the setting that one makes, it works.
        node.set(ipv4__conf__all__route_localnet=1)
        assert attacked(SECRET_PORT) == "connected"
        ports = [Port(80, node_port=NODE_PORT)]
        lab.reset(service("local", ports), *slices("local", LOCAL[:1], ports))
        # nftables mode needs no such setting, so nothing is opened and nothing is to be closed.
        node.set(ipv4__conf__all__route_localnet=0)
        # Node ports for this machine alone.
        local = settings.with_config(nodePortAddresses=["127.0.0.0/8"])
        with lab.proxy(local):
            assert attacked(SECRET_PORT) == "TimeoutError"
            if settings.mode == "iptables":
                own = asyncio.run(ask(node, loopback(4), NODE_PORT))
                assert own.who == LOCAL[0].answers(4)
            if not settings.peer:  # the peer lets them in, by the same DNAT as the node itself
                assert attacked(NODE_PORT) == "TimeoutError"
    finally:
        secret.close()
        node.set(ipv4__conf__all__route_localnet=0)


def _route_loopback(lab: Lab) -> None:
    """Have the attacker send what is for 127.0.0.1 to the node."""
    attacker = lab.hosts["attacker"]
    attacker.set(ipv4__conf__all__route_localnet=1)
    source = wire_address("attacker", 4)
    attacker.run(
        "ip addr flush dev lo scope host; "
        "ip route del local 127.0.0.0/8 dev lo table local 2>/dev/null || true; "
        f"ip route replace 127.0.0.1/32 via {wire_address('node', 4)} src {source}"
    )


@pytest.mark.parametrize("settings", MODES)
def test_external_ips_can_be_refused(lab: Lab, settings: Settings) -> None:
    """CVE-2020-8554: whoever may write a Service could take any address's traffic."""
    if settings.peer:
        pytest.skip("the peer has no such switch; its API server has an admission plug-in")
    made = service("hijack", externalIPs=externals(110))
    lab.reset(made, *slices("hijack", LOCAL[:1]))

    def asked(aim: str) -> Answer:
        return asyncio.run(ask(lab.hosts["outside"], aim, 80))

    with lab.proxy(settings):
        assert all(asked(aim).source for aim in externals(110)), "without the switch they work"
    refusing = settings.with_config(featureGates={"AllowServiceExternalIPs": False})
    with lab.proxy(refusing):
        assert {asked(aim).who for aim in externals(110)} == {"unreachable"}
        # The rest of the Service works.
        assert all(asked(aim).source for aim in made["spec"]["clusterIPs"])
