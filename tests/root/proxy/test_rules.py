"""The rules as others see them: whose they are, who may touch them, what is left of them."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.support.proxylab import proxies
from tests.support.proxylab.clients import ask, hold
from tests.support.proxylab.lab import Lab, stripped
from tests.support.proxylab.objects import LOCAL, REMOTE, Json, Port, service, slices
from tests.support.proxylab.proxies import Proxy, Settings
from tests.support.proxylab.topology import FAMILIES, wire_address

from .conftest import MODES
from .services import externals, ingress

pytestmark = pytest.mark.root
RETURN_SECONDS = 8.0
"""In which rules that somebody removed are back."""
_FOREIGN = """
iptables -t nat -N MY-CHAIN
iptables -t nat -A PREROUTING -d 198.18.9.9 -j MY-CHAIN
iptables -t nat -A MY-CHAIN -p tcp -j DNAT --to-destination 192.168.77.20
iptables -A FORWARD -s 198.18.0.0/16 -m comment --comment "not yours" -j DROP
ip6tables -t mangle -A PREROUTING -p udp --dport 4789 -j MARK --set-mark 0x1/0x1
nft add table inet mine
nft add chain inet mine early '{ type filter hook prerouting priority -150; }'
nft add rule inet mine early meta l4proto udp counter
nft add table ip kubernetes-lookalike
"""
_TABLES = "\n".join(
    f"{family}-{tools} -t {table} -nL >/dev/null"
    for family in ("iptables", "ip6tables")
    for tools in ("nft", "legacy")
    for table in ("nat", "filter", "mangle", "raw")
)


def some(name: str, number: int) -> list[Json]:
    """Return a Service with ways in of each kind, and its slices."""
    ports = [Port(80, node_port=30000 + number), Port(53, protocol="UDP", name="udp")]
    ports[0] = Port(80, node_port=30000 + number, name="tcp")
    made = service(
        name, ports, number=150 + number,
        ingress=ingress(number), externalIPs=externals(number + 1),
        externalTrafficPolicy="Local", loadBalancerSourceRanges=["192.168.77.0/24", "fd77::/64"],
        sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}},
    )  # fmt: skip
    return [made, *slices(name, (*LOCAL[:2], *REMOTE[:1]), ports)]


@pytest.mark.parametrize(
    "settings",
    [*MODES, pytest.param(Settings("iptables", "legacy"), id="iptables-legacy")],
)
def test_cleanup_removes_all_of_ours_and_nothing_else(lab: Lab, settings: Settings) -> None:
    node = lab.hosts["node"]
    node.run(_TABLES)
    node.run(_FOREIGN)
    try:
        before = stripped(lab.rules())
        assert before.count("MY-CHAIN") >= 3
        lab.reset(*some("plain", 80), service("empty", number=149))
        with lab.proxy(settings, clean=False):
            assert len(lab.rules()) > len(before) + 1000
            lab.change(*some("plain", 80)[:1], *slices("empty", LOCAL[:1]))
        assert len(lab.rules()) > len(before) + 1000, "the rules are to stay when the proxy ends"
        proxies.cleanup(node, settings, lab.directory)
        assert stripped(lab.rules()) == before
        # Once more, where there is nothing.
        proxies.cleanup(node, settings, lab.directory)
        assert stripped(lab.rules()) == before
    finally:
        lab.wipe()


@pytest.mark.parametrize("settings", MODES)
def test_one_mode_takes_over_from_the_other(lab: Lab, settings: Settings) -> None:
    objects = some("plain", 82)
    lab.reset(*objects)
    other = Settings("iptables" if settings.mode == "nftables" else "nftables", peer=settings.peer)
    with lab.proxy(settings, clean=False):
        ours = stripped(lab.rules())

    asyncio.run(_taken_over(lab, objects, other))
    later = stripped(lab.rules())
    # The name of a chain, or of the table.
    sign = {"iptables": "KUBE-SERVICES", "nftables": r"table ip6? (kube-proxy|kubeletpy)"}
    assert re.search(sign[settings.mode], ours)
    assert not re.search(sign[settings.mode], later), later[:3000]
    for family in FAMILIES:
        answer = asyncio.run(ask(lab.hosts["outside"], wire_address("node", family), 30082))
        assert answer.source == wire_address("outside", family)
    lab.wipe()


async def _taken_over(lab: Lab, objects: list[Json], other: Settings) -> None:
    """Run the other mode while a connection made by the first is open."""
    async with hold(lab.hosts["pod"], objects[0]["spec"]["clusterIP"], 80) as held:
        started = await asyncio.to_thread(lab.start, other)
        try:
            await asyncio.to_thread(lab.settle)
            assert await held.works()
        finally:
            await asyncio.to_thread(started.stop)
            lab.forget(started)


def test_rules_that_others_remove_come_back(lab: Lab, proxied: Proxy) -> None:
    if proxied.settings.peer:
        pytest.skip("the peer looks at its sync period alone")
    made = some("removed", 84)[0]
    lab.change(made, *slices("removed", LOCAL[:1], [Port(80, name="tcp")]))
    node = lab.hosts["node"]
    for harm in _HARM[proxied.settings.mode]:
        node.run(harm)
        for family in FAMILIES:

            async def back(address: str = made["spec"]["clusterIPs"][family == 6]) -> None:
                await lab.eventually(
                    lambda: ask(lab.hosts["pod"], address, 80, patience=0.3),
                    lambda answer: bool(answer.source),
                    RETURN_SECONDS,
                )

            asyncio.run(back())


_HARM = {
    "iptables": [
        "iptables -t nat -F; ip6tables -t nat -F",
        "for tool in iptables ip6tables; do $tool -t nat -F PREROUTING; done",
    ],
    "nftables": ["nft flush ruleset"],
}
