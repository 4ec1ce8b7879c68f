"""Memory of an idle runtime, and what each idle pod adds to it."""

from __future__ import annotations

import asyncio

from benchmarks import pods
from benchmarks.machine import memory_mib
from benchmarks.parts import Bench
from kubeletpy.cri.client import CriClient


async def measure(bench: Bench) -> None:
    """Measure without pods, start some, measure again once all is quiet, and divide."""
    count = bench.effort.idle_pods
    for peer in bench.peers:
        async with CriClient(peer.endpoint) as client:
            await asyncio.sleep(bench.effort.settle)
            before = memory_mib(peer.cgroup)
            bench.samples.add("daemon_memory", peer.name, before)
            try:
                for _ in range(count):
                    await pods.run(client, pods.pod(peer, bench.image))
                await asyncio.sleep(bench.effort.settle)
                after = memory_mib(peer.cgroup)
            finally:
                await pods.remove_all(client)
            bench.samples.add("pod_memory", peer.name, (after - before) / count)
