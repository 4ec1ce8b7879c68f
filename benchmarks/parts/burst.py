"""Many pods, eight at a time: until the last one runs."""

from __future__ import annotations

import asyncio
import time

from benchmarks import pods
from benchmarks.parts import Bench
from kubeletpy.cri.client import CriClient

AT_A_TIME = 8


async def measure(bench: Bench) -> None:
    """Start them, note the seconds, and remove them, in turn for each runtime."""
    for _ in range(bench.effort.bursts):
        for peer in bench.peers:
            async with CriClient(peer.endpoint) as client:
                await client.version()
                wanted = [pods.pod(peer, bench.image) for _ in range(bench.effort.pods)]
                turns = asyncio.Semaphore(AT_A_TIME)

                async def start(
                    each: pods.Pod, client: CriClient = client, turns: asyncio.Semaphore = turns
                ) -> None:
                    async with turns:
                        await pods.run(client, each)

                begun = time.perf_counter()
                try:
                    await asyncio.gather(*(start(each) for each in wanted))
                    bench.samples.add("pods", peer.name, time.perf_counter() - begun)
                finally:
                    await pods.remove_all(client)
