"""A pod's life, call by call; the runtimes take turns, so that all meet the same machine."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import TypeVar

from benchmarks import pods
from benchmarks.parts import Bench
from benchmarks.peers import Peer
from kubeletpy.cri.client import CriClient

WARM_UP = 2
Result = TypeVar("Result")


async def measure(bench: Bench) -> None:
    """Each round: RunPodSandbox, Create- and StartContainer, ExecSync, stop and remove."""
    for number in range(-WARM_UP, bench.effort.rounds):
        for peer in bench.peers:
            async with CriClient(peer.endpoint) as client:
                times = await one_round(client, peer, bench.image)
            if number >= 0:
                for figure, value in times.items():
                    bench.samples.add(figure, peer.name, value)


async def one_round(client: CriClient, peer: Peer, image: str) -> dict[str, float]:
    """Take one pod through its life; return what the client waited for, in milliseconds."""
    times: dict[str, float] = {}

    async def clock(figure: str, call: Awaitable[Result]) -> Result:
        begun = time.perf_counter()
        result = await call
        times[figure] = times.get(figure, 0.0) + (time.perf_counter() - begun) * 1e3
        return result

    wanted = pods.pod(peer, image)
    # The connection is there before the clock runs.
    await client.version()
    sandbox = await clock("sandbox", client.run_pod_sandbox(wanted.sandbox))
    try:
        creating = client.create_container(sandbox, wanted.container, wanted.sandbox)
        container = await clock("create", creating)
        await clock("start", client.start_container(container))
        await clock("exec", client.exec_sync(container, ["/bin/true"], timeout=10))
        await clock("stop", client.stop_container(container, 10))
        await clock("remove", client.stop_pod_sandbox(sandbox))
    finally:
        await clock("remove", client.remove_pod_sandbox(sandbox))
    times["together"] = sum(times[step] for step in ("sandbox", "create", "start"))
    return times
