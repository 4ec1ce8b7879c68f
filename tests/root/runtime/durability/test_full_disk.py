"""A disk that is full while containers write logs, end, and are made."""

from __future__ import annotations

import os
from collections.abc import Iterator

import grpc
import pytest

from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import SLEEP, Node, Place, refused, wait_until
from tests.support.disks import filled, small_disk

pytestmark = pytest.mark.root

_LOG_SIZE = 256 << 10
_ROOT_SIZE = 48 << 20


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("full"))
    with small_disk(place.root, _ROOT_SIZE):
        yield place


def counter(gate: str) -> tuple[str, ...]:
    """A container that writes numbers without a pause, and at its end how many it wrote."""
    script = (
        "i=0; while [ ! -e /gate/stop ]; do echo number $i; i=$((i+1)); "
        f"[ $((i % 500)) = 0 ] && echo $i > {gate}; done; echo end after $i; exit 9"
    )
    return ("sh", "-c", script)


def test_a_full_disk_costs_log_lines_and_a_line_says_how_many(node: Node) -> None:
    gate = node.place.directory / "gate"
    gate.mkdir()
    logs = node.place.directory / "small-logs"
    mount = cri.Mount(container_path="/gate", host_path=str(gate))

    def progress() -> int:
        try:
            return int((gate / "count").read_text() or 0)
        except FileNotFoundError:
            return 0

    with small_disk(logs, _LOG_SIZE), node.pod(log_directory=str(logs)) as sandbox:
        container = node.run(sandbox, *counter("/gate/count"), mounts=[mount])
        log = logs / "main.log"
        wait_until(lambda: os.statvfs(logs).f_bavail == 0, "the disk to be full", 60)
        seen = progress()
        wait_until(lambda: progress() > seen + 3000, "the container to go on", 60)
        # A rotation makes room.
        full = logs / "main.log.1"
        log.rename(full)
        node.runtime.ReopenContainerLog(cri.ReopenContainerLogRequest(container_id=container))
        entries = full.read_text()
        full.unlink()
        (gate / "stop").touch()
        status = node.wait_exited(container)
        assert status.exit_code == 9
        entries += log.read_text()
        texts = [line.split(" ", 3)[3] for line in entries.splitlines()]
        notices = [int(t.split()[1]) for t in texts if t.startswith("kubeletpy: ")]
        numbers = [int(t.split()[1]) for t in texts if t.startswith("number ")]
        assert entries.endswith("\n")
        assert numbers == sorted(set(numbers)), "every entry is whole, and once"
        assert notices
        assert texts[-1].startswith("end after ")
        assert sum(notices) + len(numbers) == int(texts[-1].split()[-1])
    assert "No space left on device; entries are dropped" in node.daemon.log()


def test_ends_are_known_although_neither_record_has_room(node: Node) -> None:
    """The exit record of the shim's is on another disk here; see the shim's own test."""
    with node.pod() as sandbox:
        containers = [node.run(sandbox, *SLEEP, name=f"c{number}") for number in range(3)]
        with filled(node.place.root):
            fill_the_write_ahead_log(node, containers[0])
            for container in containers:
                node.stop(container)
            for container in containers:
                status = node.status(container)
                assert (status.state, status.exit_code) == (cri.CONTAINER_EXITED, 137)
            error = refused(node.run_pod)
            assert error.code() is not grpc.StatusCode.UNKNOWN
            assert "free space" in str(error.details())
        wait_until(lambda: "can be written again" in node.daemon.log(), "the state file", 20)
        node.restart()
        for container in containers:
            assert node.status(container).exit_code == 137
        with node.pod() as other:
            assert node.run_to_end(other, "true").exit_code == 0


def fill_the_write_ahead_log(node: Node, container: str) -> None:
    """Change something until SQLite has used up the space that it had before the disk was full."""
    request = cri.UpdateContainerResourcesRequest(
        container_id=container, linux=cri.LinuxContainerResources(cpu_shares=512)
    )

    def change_often() -> None:
        for _ in range(3000):
            node.runtime.UpdateContainerResources(request)

    assert "free space" in str(refused(change_often).details())


def test_a_daemon_starts_on_a_full_disk(node: Node) -> None:
    """Who frees space by removing images and pods needs a runtime for that."""
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        with filled(node.place.root):
            node.restart()
            assert node.status(container).state == cri.CONTAINER_RUNNING
            assert node.shell(container, "echo alive") == "alive"
            node.stop(container)
            assert node.status(container).exit_code == 137
