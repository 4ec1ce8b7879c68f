"""What exec probes cost: ten a second in one container, in CPU time of runtime and pod together."""

from __future__ import annotations

import asyncio
import time

from benchmarks import pods
from benchmarks.machine import cpu_seconds
from benchmarks.parts import Bench
from kubeletpy.cri.client import CriClient

PER_SECOND = 10


async def measure(bench: Bench) -> None:
    """Run the probes on a fixed beat, which no runtime may change by being slow or fast."""
    for peer in bench.peers:
        async with CriClient(peer.endpoint) as client:
            try:
                _, container = await pods.run(client, pods.pod(peer, bench.image))
                before, begun = cpu_seconds(peer.cgroup), time.monotonic()
                for number in range(bench.effort.probe_seconds * PER_SECOND):
                    await asyncio.sleep(max(0.0, begun + number / PER_SECOND - time.monotonic()))
                    await client.exec_sync(container, ["/bin/true"], timeout=10)
                used = cpu_seconds(peer.cgroup) - before
            finally:
                await pods.remove_all(client)
            bench.samples.add("probes", peer.name, used)
