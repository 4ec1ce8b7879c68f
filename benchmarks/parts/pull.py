"""Pull and unpack a large image into an empty store, from a registry on loopback."""

from __future__ import annotations

import time

from benchmarks.machine import fresh_disk
from benchmarks.parts import Bench
from kubeletpy.cri.client import CriClient


async def measure(bench: Bench) -> None:
    """Each round has daemons of its own on a fresh disk, so that nothing is there already."""
    image, pause = f"{bench.registry}/bench/large:1", f"{bench.registry}/bench/pause:1"
    for number in range(bench.effort.pulls):
        for name, start in bench.runtimes.items():
            cgroup = f"{bench.cgroup}/pull-{name}-{number}"
            with (
                fresh_disk(bench.directory / f"disk-{name}") as disk,
                start(disk / "runtime", cgroup, pause) as peer,
            ):
                async with CriClient(peer.endpoint) as client:
                    await client.version()
                    begun = time.perf_counter()
                    await client.pull_image(image)
                    bench.samples.add("pull", name, time.perf_counter() - begun)
