"""Rules of pods are there again after others took them away."""

from __future__ import annotations

import asyncio

import pytest

from runtime.network.bridge import BridgeNetwork, NetworkConfig
from runtime.network.request import PodFacts, PortMapping, Protocol
from tests.root.runtime.network.world import (
    NODE_V4,
    OUTSIDE_V4,
    PORT,
    TIMEOUT_SECONDS,
    World,
    listening,
    saved_rules,
    seen_source,
    shell,
)

pytestmark = pytest.mark.root

FACTS = PodFacts("web", "shop", ports=(PortMapping(Protocol.TCP, 18080, PORT, ""),))
CULPRITS = (
    "iptables -F", "iptables -t nat -F", "ip6tables -F FORWARD", "nft flush ruleset",
    "nft delete table ip nat",
)  # fmt: skip


def rules() -> list[str]:
    return sorted(line for line in saved_rules() if "KUBELETPY" in line)


async def until(wanted: list[str]) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS * 6):
        while True:
            if await asyncio.to_thread(rules) == wanted:
                return
            await asyncio.sleep(0.02)


async def test_they_are_made_again(node: World, network: BridgeNetwork) -> None:
    pod = node.pod()
    ips = (await network.attach("pod", pod.path, FACTS)).ips
    before = rules()
    for culprit in CULPRITS:
        shell(culprit)
        await until(before)
    with listening(pod, ips[0]) as server:
        # From outside, by the host port.
        assert seen_source(server, node.outside, NODE_V4, 18080) == OUTSIDE_V4
    await network.detach("pod", pod.path)


async def test_also_by_a_daemon_that_started_when_pods_ran(node: World) -> None:
    pod = node.pod()
    first = BridgeNetwork(NetworkConfig(), node.database)
    await first.attach("pod", pod.path, FACTS)
    before = rules()
    await first.close()
    again = BridgeNetwork(NetworkConfig(), node.database)
    await again.reconcile({"pod"})
    shell("iptables -F; iptables -t nat -F")
    await until(before)
    await again.detach("pod", pod.path)
    await again.close()
