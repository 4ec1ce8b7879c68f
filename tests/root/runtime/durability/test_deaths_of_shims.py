"""A shim is killed: its pod is down at once, what ran in it is dead, nothing else is touched."""

from __future__ import annotations

import os
import signal
import time

import pytest

from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import Node, wait_until
from tests.root.runtime.durability import reality
from tests.support.ociimage import BUSYBOX, File

pytestmark = pytest.mark.root

SECONDS = 1.0
"""Within which a pod whose shim has died must be reported as down."""
ON_THE_HOST = {"namespace_options": cri.NamespaceOption(pid=cri.NODE)}


@pytest.fixture(scope="module")
def set_user_id(node: Node) -> str:
    """An image with a set-user-ID program: its execution clears the signal that the kernel sends
    when the shim dies (prctl(2), PR_SET_PDEATHSIG)."""
    busybox = File(BUSYBOX.read_bytes(), mode=0o4755)
    return node.pull(node.push("tests/suid", {"suid/sleep": busybox}))


def survivors(node: Node, sandbox: str, image: str) -> list[str]:
    """Start containers of which the kernel by itself does not kill everything."""
    orphans = "setsid sleep 1000 & setsid sleep 1000 & exec sleep 1000"
    return [
        node.run(sandbox, "sh", "-c", orphans, name="orphans", security=ON_THE_HOST),
        node.run(
            sandbox, "/suid/sleep", "1000", name="suid", image=cri.ImageSpec(image=image),
            security={**ON_THE_HOST, "run_as_user": cri.Int64Value(value=1000)},
        ),
    ]  # fmt: skip


def processes(node: Node, containers: list[str]) -> set[int]:
    seen = reality.look(node.place).processes
    return {pid for container in containers for pid in seen.get(container, ())}


def test_everything_of_the_pod_is_dead_and_reported_within_a_second(
    node: Node, set_user_id: str
) -> None:
    with node.pod() as victim, node.pod() as neighbour:
        untouched = survivors(node, neighbour, set_user_id)
        containers = survivors(node, victim, set_user_id)
        wait_until(lambda: len(processes(node, containers)) == 4, "the containers", 20)
        wait_until(lambda: len(processes(node, untouched)) == 4, "the neighbour's", 20)
        alive = processes(node, untouched)
        with node.events() as events:
            began = time.monotonic()
            os.kill(reality.shims(node.place)[victim], signal.SIGKILL)
            told = [next(events) for _ in range(3)]
            took = time.monotonic() - began
        assert took < SECONDS
        assert {event.container_id for event in told} == {victim, *containers}
        assert told[-1].pod_sandbox_status.state == cri.SANDBOX_NOTREADY
        for container in containers:
            status = node.status(container)
            assert (status.state, status.exit_code) == (cri.CONTAINER_EXITED, 137)
            assert "shim" in status.message
        wait_until(lambda: not processes(node, containers), "what ran in the pod to end", 5)
        assert processes(node, untouched) == alive
        node.stop_pod(victim)
        node.remove_pod(victim)
        left = reality.look(node.place)
        assert left.pinned == left.directories["sandboxes"] == {neighbour}
        assert left.cgroups == {neighbour, *untouched}


def test_what_a_shim_left_while_no_daemon_ran_is_dead_after_its_start(
    node: Node, set_user_id: str
) -> None:
    with node.pod() as victim:
        containers = survivors(node, victim, set_user_id)
        wait_until(lambda: len(processes(node, containers)) == 4, "the containers", 20)
        node.daemon.kill()
        os.kill(reality.shims(node.place)[victim], signal.SIGKILL)
        wait_until(lambda: victim not in reality.shims(node.place), "the shim to end", 10)
        assert processes(node, containers), "the kernel leaves some of them"
        node.daemon.start()
        node.connect()
        assert node.pod_status(victim).state == cri.SANDBOX_NOTREADY
        wait_until(lambda: not processes(node, containers), "what ran in the pod to end", 5)
        for container in containers:
            assert node.status(container).exit_code == 137
