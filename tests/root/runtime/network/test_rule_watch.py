"""Rules of pods are there again after others took them away."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

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
    async with asyncio.timeout(TIMEOUT_SECONDS * 8):
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


async def test_what_is_taken_away_between_two_lives_of_the_daemon(node: World) -> None:
    pod = node.pod()
    first = BridgeNetwork(NetworkConfig(), node.database)
    await first.attach("pod", pod.path, FACTS)
    before = rules()
    await first.close()
    shell("iptables -F; iptables -t nat -F")
    assert rules() != before
    again = BridgeNetwork(NetworkConfig(), node.database)
    await again.reconcile({"pod"})
    await until(before)
    await again.detach("pod", pod.path)
    await again.close()


@pytest.fixture
def legacy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``iptables`` is the legacy one, as an administrator of Debian may choose."""
    for name in ("iptables", "ip6tables"):
        for part in ("", "-save", "-restore"):
            (tmp_path / f"{name}{part}").symlink_to("/usr/sbin/xtables-legacy-multi")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.usefixtures("legacy")
async def test_the_legacy_back_end_is_looked_at(node: World, network: BridgeNetwork) -> None:
    pod = node.pod()
    ips = (await network.attach("pod", pod.path, FACTS)).ips
    before = rules()
    # Nothing here is nftables': the right programs were asked.
    assert "KUBELETPY" not in shell("iptables-nft-save 2>&1")
    for culprit in ("iptables -F FORWARD", "iptables -t nat -F", "ip6tables -F"):
        shell(culprit)
        assert rules() != before
        await until(before)
    with listening(pod, ips[0]) as server:
        assert seen_source(server, node.outside, NODE_V4, 18080) == OUTSIDE_V4
    await network.detach("pod", pod.path)
