"""Pods are attached by the standard plugins for real, and by scripted ones where those cannot."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.network.bridge import BridgeNetwork, NetworkConfig
from runtime.network.chosen import ChosenNetwork
from runtime.network.cni.cache import Cache
from runtime.network.cni.errors import CniError
from runtime.network.cni.network import CniConfig, CniNetwork
from runtime.network.errors import NetworkError
from runtime.network.request import Bandwidth, PodFacts, PortMapping, Protocol
from tests.root.runtime.network.world import (
    NODE_V4,
    OUTSIDE_V4,
    PORT,
    World,
    links,
    listening,
    saved_rules,
    seen_source,
    shell,
)

pytestmark = pytest.mark.root

HOST_PORT = 18080
V4, V6 = "10.77.0.0/24", "fd77::/64"
STANDARD = Path("/usr/lib/cni")
FACTS = PodFacts("web", "shop", "uid-1", ports=(PortMapping(Protocol.TCP, HOST_PORT, PORT),))


class Site:
    """A directory with a CNI configuration, plugins of our own, and what they wrote."""

    def __init__(self, node: World) -> None:
        self.node = node
        self.conf = node.directory / "net.d"
        self.bin = node.directory / "bin"
        self.heard = node.directory / "heard"
        self.leases = node.directory / "leases"
        for directory in (self.conf, self.bin, self.heard):
            directory.mkdir()

    def network(self, seconds: float = 30, cidrs: tuple[str, ...] = (V4,)) -> CniNetwork:
        config = CniConfig(self.conf, (self.bin, STANDARD), seconds, cidrs)
        return CniNetwork(config, self.node.directory / "cni")

    def configure(self, *plugins: dict[str, Any], version: str = "1.0.0") -> None:
        content = {"cniVersion": version, "name": "pods", "plugins": plugins}
        (self.conf / "10-pods.conflist").write_text(json.dumps(content))

    def bridge(self) -> dict[str, Any]:
        return {
            "type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True,
            "hairpinMode": True, "capabilities": {"ipRanges": True},
            "ipam": {
                "type": "host-local", "dataDir": str(self.leases),
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }  # fmt: skip

    def script(self, name: str, body: str) -> dict[str, Any]:
        """Make a plugin that notes what it hears, and then does what ``body`` says."""
        path = self.bin / name
        path.write_text(
            f'#!/bin/sh\nheard={self.heard}/{name}-$CNI_COMMAND\n'
            f'cat > $heard.json; env | grep ^CNI_ > $heard.env\n{body}\n'
        )  # fmt: skip
        path.chmod(0o755)
        return {"type": name}

    def input(self, name: str, command: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.heard / f"{name}-{command}.json").read_text())
        return content

    def commands(self, name: str) -> set[str]:
        return {path.stem.partition("-")[2] for path in self.heard.glob(f"{name}-*.json")}

    def leased(self) -> set[str]:
        names = {path.name for path in (self.leases / "pods").glob("*")}
        return {name for name in names if not name.startswith(("last_reserved_ip", "lock"))}


PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}
LOOPBACK = {"type": "loopback"}
ECHO = (
    '[ $CNI_COMMAND != ADD ] || echo \'{"cniVersion":"1.1.0","ips":[{"address":"10.5.0.2/24"}]}\''
)


@pytest.fixture
def site(node: World) -> Site:
    return Site(node)


def error_of(code: int, text: str) -> str:
    return f'echo \'{{"cniVersion":"1.0.0","code":{code},"msg":"{text}"}}\'; exit 1'


async def test_standard_plugins_add_and_del(site: Site) -> None:
    node = site.node
    before = {line for line in saved_rules() if line.startswith("-A")}
    site.configure(site.bridge(), PORTMAP, LOOPBACK)
    network = site.network(cidrs=(V6, V4))
    pod, other = node.pod(), node.pod()
    attachment = await network.attach("pod", pod.path, FACTS)
    assert attachment.ips == ["10.77.0.2", "fd77::2"]
    assert attachment.gateways == ["10.77.0.1", "fd77::1"]
    assert attachment.mac in pod.run("ip link show eth0")
    assert (await network.attach("other", other.path)).ips == ["10.77.0.3", "fd77::3"]
    with listening(pod, "10.77.0.2") as server:
        assert seen_source(server, other, "10.77.0.2") == "10.77.0.3"
        assert seen_source(server, node.outside, NODE_V4, HOST_PORT) == OUTSIDE_V4
    with listening(node.outside, OUTSIDE_V4) as server:
        assert seen_source(server, pod, OUTSIDE_V4) == NODE_V4
    with listening(pod, "127.0.0.1") as server:
        seen_source(server, pod, "127.0.0.1")
    assert await network.attach("pod", pod.path, FACTS) == attachment == network.lookup("pod")
    for name in ("pod", "pod", "other", "never seen"):
        await network.detach(name, None)
    await network.close()
    assert site.leased() == set()
    assert "eth0" not in pod.run("ip -o link")
    assert links() == {"lo", "uplink", "cni0"}
    left = [r for r in saved_rules() if r.startswith("-A") and r not in before]
    assert [rule for rule in left if "10.77." in rule or str(HOST_PORT) in rule] == []
    assert list((node.directory / "cni").iterdir()) == []


async def test_check_finds_what_is_not_as_it_was_made(site: Site) -> None:
    # Not portmap's: Debian's version looks for the IPv4 rules in ip6tables, and fails always.
    site.configure(site.bridge(), LOOPBACK)
    network = site.network()
    pod = site.node.pod()
    await network.attach("pod", pod.path)
    await network.check("pod")
    pod.run("ip addr flush dev eth0")
    with pytest.raises(CniError, match="CNI plugin bridge failed at CHECK") as raised:
        await network.check("pod")
    assert (raised.value.plugin, raised.value.command) == ("bridge", "CHECK")
    await network.detach("pod", None)
    with pytest.raises(NetworkError, match="not attached by CNI"):
        await network.check("pod")
    await network.close()


async def test_bandwidth_is_limited(site: Site) -> None:
    site.configure(site.bridge(), {"type": "bandwidth", "capabilities": {"bandwidth": True}})
    network = site.network()
    pod = site.node.pod()
    await network.attach("pod", pod.path, PodFacts(bandwidth=Bandwidth(10**7, 10**7)))
    assert shell("tc qdisc show").count("rate 10Mbit") == 2
    await network.check("pod")
    await network.detach("pod", None)


async def test_attachments_outlive_a_restart_and_other_configurations(site: Site) -> None:
    site.configure(site.bridge(), PORTMAP)
    network = site.network()
    pods = {name: site.node.pod() for name in ("kept", "unknown", "rebooted")}
    for name, pod in pods.items():
        await network.attach(name, pod.path)
    await network.close()
    pods["rebooted"].close()
    # Detaching is by the configuration of attaching.
    site.configure(site.script("other", ECHO))
    network = site.network()
    found = await network.reconcile({"kept", "rebooted"})
    assert found.released == {"unknown"}
    assert found.lost == {"rebooted"}
    kept = network.lookup("kept")
    assert kept is not None
    assert site.leased() == set(kept.ips)
    assert network.lookup("unknown") is None
    await network.detach("kept", None)
    await network.close()
    assert site.leased() == set()
    assert site.commands("other") == set()


async def test_a_plugin_that_fails_is_named_and_the_others_are_undone(site: Site) -> None:
    failing = site.script(
        "failing", "[ $CNI_COMMAND != ADD ] || { " + error_of(7, "no luck") + "; }"
    )
    site.configure(site.bridge(), failing)
    network = site.network()
    pod = site.node.pod()
    with pytest.raises(CniError, match=r"failing failed at ADD with code 7 \(invalid .* no luck"):
        await network.attach("pod", pod.path)
    assert network.lookup("pod") is None
    assert site.leased() == set()
    assert "eth0" not in pod.run("ip -o link")
    assert links() == {"lo", "uplink", "cni0"}
    await network.close()


async def test_what_cannot_be_undone_is_undone_later(site: Site) -> None:
    site.configure(site.bridge(), site.script("failing", error_of(11, "busy")))
    network = site.network()
    pod = site.node.pod()
    with pytest.raises(CniError, match="failed at ADD with code 11"):
        await network.attach("pod", pod.path)
    with pytest.raises(CniError, match="failed at DEL with code 11"):
        await network.detach("pod", None)
    site.script("failing", ECHO)
    await network.detach("pod", None)
    assert list((site.node.directory / "cni").iterdir()) == []
    await network.close()


async def test_half_made_attachments_go_at_the_next_start(site: Site) -> None:
    site.configure(site.bridge())
    network = site.network()
    pod = site.node.pod()
    await network.attach("pod", pod.path)
    await network.close()
    cache = Cache(site.node.directory / "cni")
    record = cache.get("pod")
    assert record is not None
    cache.put(replace(record, result=None))
    network = site.network()
    assert network.lookup("pod") is None
    assert (await network.reconcile({"pod"})).released == {"pod"}
    assert site.leased() == set()
    assert "eth0" not in pod.run("ip -o link")
    await network.close()


async def test_cancelled_attach_is_undone(site: Site) -> None:
    os.mkfifo(site.heard / "begun")
    waiting = site.script("waiting", f"[ $CNI_COMMAND != ADD ] || cat {site.heard}/begun; {ECHO}")
    site.configure(site.bridge(), waiting)
    network = site.network()
    pod = site.node.pod()
    attaching = asyncio.create_task(network.attach("pod", pod.path))
    # Opening it for writing returns when the plugin reads from it.
    begun = await asyncio.to_thread(os.open, site.heard / "begun", os.O_WRONLY)
    attaching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attaching
    os.close(begun)
    await network.close()
    assert network.lookup("pod") is None
    assert site.leased() == set()
    assert "eth0" not in pod.run("ip -o link")


async def test_what_plugins_hear(site: Site) -> None:
    plugin = site.script("first", ECHO) | {
        "capabilities": {"portMappings": True, "ipRanges": True}, "mine": 1,
    }  # fmt: skip
    site.configure(plugin, site.script("second", ECHO), version="1.1.0")
    network = site.network()
    pod = site.node.pod()
    await network.attach("pod", pod.path, FACTS)
    variables = (site.heard / "first-ADD.env").read_text().splitlines()
    assert sorted(variables) == [
        "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;"
        "K8S_POD_INFRA_CONTAINER_ID=pod;K8S_POD_UID=uid-1",
        "CNI_COMMAND=ADD",
        "CNI_CONTAINERID=pod",
        "CNI_IFNAME=eth0",
        f"CNI_NETNS={pod.path}",
        f"CNI_PATH={site.bin}:{STANDARD}",
    ]
    first, second = site.input("first", "ADD"), site.input("second", "ADD")
    assert (first["name"], first["cniVersion"], first["mine"]) == ("pods", "1.1.0", 1)
    assert set(first["runtimeConfig"]) == {"portMappings", "ipRanges"}
    assert "prevResult" not in first
    assert second["prevResult"]["ips"] == [{"address": "10.5.0.2/24"}]
    assert "runtimeConfig" not in second
    await network.check("pod")
    assert site.input("first", "CHECK")["prevResult"] == second["prevResult"]
    assert await network.readiness() == ""
    await network.reconcile({"pod"})
    valid = [{"containerID": "pod", "ifname": "eth0"}]
    assert site.input("second", "GC")["cni.dev/valid-attachments"] == valid
    await network.detach("pod", None)
    assert site.input("first", "DEL")["prevResult"] == second["prevResult"]
    assert site.commands("second") == {"ADD", "CHECK", "STATUS", "GC", "DEL"}
    await network.close()


async def test_a_plugin_that_hangs_is_killed_with_what_it_started(site: Site) -> None:
    body = "[ $CNI_COMMAND != ADD ] || { sleep 600 & echo $! > $heard.pid; wait; }"
    site.configure(site.script("hanging", body))
    network = site.network(seconds=1)
    with pytest.raises(CniError, match=r"hanging failed at ADD: it has not ended after 1 s"):
        await network.attach("pod", site.node.pod().path)
    pid = int((site.heard / "hanging-ADD.pid").read_text())
    assert not is_running(pid)
    await network.close()


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo nonsense; echo why >&2; exit 3", r"exit status 3, saying: why"),
        ("kill -9 $$", r"killed by signal 9, saying: nothing"),
        ("[ $CNI_COMMAND != ADD ] || echo nonsense", r"its answer is no result: nonsense"),
        ("[ $CNI_COMMAND != ADD ] || echo '{}'", r"gave eth0 of the pod no address"),
        ("[ $CNI_COMMAND != ADD ] || head -c 3000000 /dev/zero", r"more than 1048576 bytes"),
    ],
)
async def test_answers_that_are_none(site: Site, body: str, words: str) -> None:
    site.configure(site.script("odd", body))
    network = site.network()
    with pytest.raises(NetworkError, match=words):
        await network.attach("pod", site.node.pod().path)
    assert network.lookup("pod") is None
    await network.close()


async def test_readiness_says_what_is_missing(site: Site) -> None:
    network = site.network()
    assert "there is no CNI configuration" in await network.readiness()
    site.configure({"type": "nobody-has-this"})
    assert "CNI plugin nobody-has-this is in none of" in await network.readiness()
    site.configure(site.script("unready", error_of(50, "no agent")), version="1.1.0")
    assert "unready failed at STATUS with code 50" in await network.readiness()
    site.configure(site.bridge())
    assert await network.readiness() == ""
    await network.close()


async def test_built_in_network_serves_where_no_plugins_are_configured(site: Site) -> None:
    node = site.node
    network = ChosenNetwork(BridgeNetwork(NetworkConfig(), node.database), site.network())
    first, second = node.pod(), node.pod()
    assert await network.readiness() == ""
    assert (await network.attach("first", first.path, FACTS)).ips[0] == "10.88.0.2"
    site.configure(site.bridge(), PORTMAP)
    assert (await network.attach("second", second.path)).ips == ["10.77.0.2"]
    assert (await network.attach("first", first.path, FACTS)).ips[0] == "10.88.0.2"
    (site.conf / "10-pods.conflist").write_text("{")
    assert "10-pods.conflist" in await network.readiness()
    with pytest.raises(NetworkError, match=r"10-pods\.conflist"):
        await network.attach("third", node.pod().path)
    os.unlink(site.conf / "10-pods.conflist")
    found = await network.reconcile({"first", "second"})
    assert not found.released | found.lost
    await network.detach("first", None)
    await network.detach("second", None)
    await network.close()
    assert links() == {"lo", "uplink", "cni0"}
