"""Two runtimes on one machine, in one network namespace, do not touch each other."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeletpy_common.linux.namespaces import in_namespace
from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import SLEEP, Daemon, Node, Place
from tests.support.circumstances import patient

pytestmark = pytest.mark.root


class Neighbour(Place):
    """A second place, in the network namespace of the first."""

    home: Path

    @property
    def netns(self) -> Path:
        return self.home


@pytest.fixture(scope="module")
def other(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    place = Neighbour(tmp_path_factory.mktemp("other"), f"{node.place.token}b")
    object.__setattr__(place, "home", node.place.netns)
    config = place.write_config()
    text = config.read_text().replace("10.87.0.0/24", "10.86.0.0/24").replace("fd87::", "fd86::")
    config.write_text(text)
    daemon = Daemon(place, config)
    daemon.start()
    neighbour = Node(place, daemon, node.registry)
    neighbour.image = neighbour.pull(f"{node.registry}/tests/busybox:v1")
    yield neighbour
    neighbour.disconnect()
    assert daemon.stop() == 0


def pods(node: Node) -> set[str]:
    request = cri.ListPodSandboxRequest()
    return {item.id for item in node.runtime.ListPodSandbox(request, timeout=patient(10)).items}


def rules(node: Node) -> str:
    with in_namespace(node.place.netns):
        return subprocess.run(
            ["iptables-save"], check=True, capture_output=True, text=True, timeout=10
        ).stdout


def test_each_sees_its_own_pods_and_removes_its_own_alone(node: Node, other: Node) -> None:
    with node.pod() as first, other.pod() as second:
        assert (pods(node), pods(other)) == ({first}, {second})
        mine, theirs = (n.pod_status(p).network.ip for n, p in ((node, first), (other, second)))
        assert mine.startswith("10.87.")
        assert theirs.startswith("10.86.")
        container = node.run(first, *SLEEP)
        server = other.run(second, "sh", "-c", "echo hello | nc -l -p 80; sleep 1000")
        other.shell(server, "until grep -q :0050 /proc/net/tcp*; do usleep 20000; done")
        # Through both bridges: neither runtime's rules cut the other's pods off.
        assert node.shell(container, f"nc -w 5 {theirs} 80") == "hello"
        other.restart()
        assert (pods(node), pods(other)) == ({first}, {second})
        other.remove_pod(second)
        assert pods(node) == {first}
        assert node.shell(container, "echo still here") == "still here"
        assert node.place.bridge in rules(node)


def test_the_same_directories_are_refused(node: Node, other: Node) -> None:
    twin = Daemon(other.place, other.place.directory / "runtime.toml")
    twin.log_path = other.place.directory / "twin.log"
    with pytest.raises(RuntimeError, match="the daemon ended at its start") as error:
        twin.start()
    assert "is in use by another runtime" in str(error.value)
    assert pods(other) == set()
