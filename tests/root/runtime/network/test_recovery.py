"""A daemon killed in the midst of its work leaves nothing that the next one does not remove."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.network.bridge import BridgeNetwork, NetworkConfig
from tests.root.runtime.network.world import (
    World,
    links,
    listening,
    saved_rules,
    seen_source,
    shell,
)
from tests.support.circumstances import patient

pytestmark = pytest.mark.root

# Kills itself before or after the given exchange with the kernel.
VICTIM = """
import asyncio, os, signal, sys
from pathlib import Path
from kubeletpy_common import netlink
from runtime.network.bridge import BridgeNetwork, NetworkConfig

database, netns, call, when, action = sys.argv[1:]
original, calls = netlink.Netlink.exchange, 0

def exchange(self, *requests):
    global calls
    calls += 1
    if calls == int(call) and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(self, *requests)
    if calls == int(call):
        os.kill(os.getpid(), signal.SIGKILL)
    return result

async def main():
    network = BridgeNetwork(NetworkConfig(), Path(database))
    await network._host.ensure()
    if action == "detach":
        await network.attach("victim", Path(netns))
    netlink.Netlink.exchange = exchange
    if action == "detach":
        await network.detach("victim", None)
        await network.close()
    else:
        await network.attach("victim", Path(netns))

asyncio.run(main())
"""


def kill_at(node: World, netns: Path, call: int, when: str, action: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", VICTIM, str(node.database), str(netns), str(call), when, action],
        timeout=patient(60),
        capture_output=True,
        text=True,
    )
    assert result.returncode == -signal.SIGKILL, result.stderr


@pytest.mark.parametrize(
    ("call", "when"), [(1, "before"), (1, "after"), (2, "after"), (3, "before"), (3, "after")]
)
async def test_killed_in_the_midst_of_attach(node: World, call: int, when: str) -> None:
    pod = node.pod()
    kill_at(node, pod.path, call, when, "attach")
    network = BridgeNetwork(NetworkConfig(), node.database)
    assert network.lookup("victim") is None
    result = await network.reconcile({"victim"})
    assert result.released == {"victim"}
    assert len(result.links) == (0 if (call, when) == (1, "before") else 1)
    assert links() == {"lo", "uplink", "kubeletpy0"}
    assert (await network.reconcile({"victim"})).released == frozenset()
    # The sandbox can have its network after all, with the next address.
    assert (await network.attach("victim", pod.path)).ips == ["10.88.0.3", "fd88::3"]
    await network.detach("victim", pod.path)
    await network.close()
    assert links() == {"lo", "uplink"}
    assert [line for line in saved_rules() if "KUBELETPY" in line] == []


@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_in_the_midst_of_detach(node: World, when: str) -> None:
    kill_at(node, node.pod().path, 1, when, "detach")
    network = BridgeNetwork(NetworkConfig(), node.database)
    assert (await network.reconcile({"victim"})).released == {"victim"}
    await network.close()
    assert links() == {"lo", "uplink"}


async def test_retry_without_reconcile_takes_over_the_dead_ones_link(node: World) -> None:
    pod = node.pod()
    kill_at(node, pod.path, 1, "after", "attach")
    network = BridgeNetwork(NetworkConfig(), node.database)
    ip = (await network.attach("victim", pod.path)).ips[0]
    with listening(pod, ip) as server:
        assert seen_source(server, None, ip) == "10.88.0.1"
    await network.detach("victim", pod.path)
    await network.close()


async def test_reconcile_spares_the_living_and_the_foreign(
    node: World, network: BridgeNetwork
) -> None:
    alive, dead, lost = node.pod(), node.pod(), node.pod()
    attachment = await network.attach("alive", alive.path)
    doomed = await network.attach("dead", dead.path)
    cut = await network.attach("lost", lost.path)
    shell(f"ip link del {cut.host_interface}")
    # Not ours: a name like ours elsewhere, and a port of the bridge by another name.
    shell("ip link add foreign type veth peer name kp0123456789abc")
    shell("ip link set foreign master kubeletpy0")
    result = await network.reconcile({"alive", "lost", "never attached"})
    assert result.released == {"dead"}
    assert result.lost == {"lost"}
    assert result.links == {doomed.host_interface}
    assert links() == {
        "lo",
        "uplink",
        "kubeletpy0",
        "kp0123456789abc",
        "foreign",
        attachment.host_interface,
    }
    assert network.lookup("alive") == attachment
    assert network.lookup("lost") is None
    with listening(alive, attachment.ips[0]) as server:
        seen_source(server, None, attachment.ips[0])


async def test_reconcile_where_nothing_was_ever_made(node: World, network: BridgeNetwork) -> None:
    result = await network.reconcile(set())
    assert (result.released, result.lost, result.links) == (frozenset(), frozenset(), frozenset())
    assert links() == {"lo", "uplink"}


async def test_link_says_whose_it_is(node: World, network: BridgeNetwork) -> None:
    sandbox = "f" * 64
    attachment = await network.attach(sandbox, node.pod().path)
    assert f"alias {sandbox}" in shell(f"ip link show {attachment.host_interface}")
