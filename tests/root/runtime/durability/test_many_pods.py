"""A thousand pods one after the other, and a hundred at once: nothing of them stays."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import pytest

from kubeletpy_proto import cri_pb2 as cri
from kubeletpy_proto import cri_pb2_grpc as services
from tests.root.runtime.cri.node import CALL_SECONDS, Node, wait_until
from tests.root.runtime.durability import reality

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

SEQUENTIAL = int(os.environ.get("KUBELETPY_MANY_PODS", "1000"))
AT_ONCE = 100
DAEMON_GROWTH = 4 << 20
"""Bytes of memory (PSS) that the daemon may have more than after the warm-up: 4 KiB a pod."""
SPAWNER_GROWTH = 1 << 20


@dataclass(frozen=True)
class Footprint:
    """What daemon and spawner use; ``descriptors`` are those of both, as ``threads``."""

    threads: int
    descriptors: int
    daemon_bytes: int
    spawner_bytes: int
    mounts: int
    rules: list[str]


def footprint(node: Node) -> Footprint:
    daemon = psutil.Process(node.daemon.pid)
    spawner = reality.spawner(node.daemon.pid)
    return Footprint(
        threads=daemon.num_threads() + spawner.num_threads(),
        descriptors=daemon.num_fds() + spawner.num_fds(),
        daemon_bytes=daemon.memory_full_info().pss,
        spawner_bytes=spawner.memory_full_info().pss,
        # Only what is mounted below the node's directories: others mount things too.
        mounts=Path(f"/proc/{node.daemon.pid}/mountinfo")
        .read_text()
        .count(f" {node.place.directory}/"),
        rules=reality.rules(node.place),
    )


async def at_once(node: Node, count: int) -> None:
    """Run, start, stop and remove ``count`` pods at the same time."""
    async with grpc.aio.insecure_channel(f"unix://{node.place.socket}") as channel:
        runtime = services.RuntimeServiceStub(channel)

        async def life(number: int) -> None:
            config = node.pod_config(f"crowd{number}")
            run = cri.RunPodSandboxRequest(config=config)
            pod = (await runtime.RunPodSandbox(run, timeout=CALL_SECONDS)).pod_sandbox_id
            create = cri.CreateContainerRequest(
                pod_sandbox_id=pod, config=node.container_config("true")
            )
            answer = await runtime.CreateContainer(create, timeout=CALL_SECONDS)
            start = cri.StartContainerRequest(container_id=answer.container_id)
            await runtime.StartContainer(start, timeout=CALL_SECONDS)
            await runtime.StopPodSandbox(
                cri.StopPodSandboxRequest(pod_sandbox_id=pod), timeout=CALL_SECONDS
            )
            await runtime.RemovePodSandbox(
                cri.RemovePodSandboxRequest(pod_sandbox_id=pod), timeout=CALL_SECONDS
            )

        await asyncio.gather(*(life(number) for number in range(count)))


def one_after_the_other(node: Node, count: int) -> None:
    for _ in range(count):
        with node.pod() as sandbox:
            node.run(sandbox, "true")


def wait_for_links(node: Node) -> None:
    """Links are removed behind the calls, and addresses with them."""
    wait_until(lambda: reality.links(node.place) == {"lo", node.place.bridge}, "the links", 20)


def test_nothing_grows(node: Node) -> None:
    asyncio.run(at_once(node, AT_ONCE))
    one_after_the_other(node, SEQUENTIAL // 10)
    wait_for_links(node)
    before = footprint(node)
    one_after_the_other(node, SEQUENTIAL)
    asyncio.run(at_once(node, AT_ONCE))
    wait_for_links(node)
    after = footprint(node)
    print(before, after, sep="\n")
    left = reality.look(node.place)
    assert not left.shims
    assert not left.processes
    assert not left.cgroups | left.pinned | left.addresses | left.writable
    assert not any(left.directories.values())
    assert after.rules == before.rules
    assert after.mounts == before.mounts
    assert after.threads <= before.threads
    # A connection of a client or two may be about to close.
    assert after.descriptors <= before.descriptors + 2
    assert after.daemon_bytes <= before.daemon_bytes + DAEMON_GROWTH
    assert after.spawner_bytes <= before.spawner_bytes + SPAWNER_GROWTH
