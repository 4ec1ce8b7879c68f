"""A pod's life through CRI, step by step: our runtime, and containerd with runc if it is installed.

sudo .venv/bin/python -m benchmarks.pod_start [--rounds N] [-o json] [--socket NAME=unix:///path]

Everything runs in a network namespace of its own; the runtimes take turns, so that both meet the
same machine. Times are what the client waits. Results also go to benchmarks/results/.

Each round: RunPodSandbox, CreateContainer, StartContainer, ExecSync of /bin/true, StopContainer (of
a process that ends at SIGTERM), StopPodSandbox, RemovePodSandbox.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from benchmarks.peers import Peer, containerd, ours
from kubeletpy.cri.client import CriClient
from kubeletpy_common.cgroups import detect
from kubeletpy_common.linux import mounts
from kubeletpy_common.linux.namespaces import CLONE_NEWNET, CLONE_NEWNS, unshare
from kubeletpy_proto import cri_pb2 as cri
from tests.support.ociimage import busybox_image, push
from tests.support.registry import DockerRegistry

RESULTS = Path(__file__).parent / "results"
WARM_UP = 2
STEPS = ("sandbox", "create", "start", "together", "exec", "stop", "sandbox stop", "remove")
# What a peer's figure is multiplied by to get the target (issue of the drop-in runtime).
TARGETS = {"together": 0.25, "exec": 0.2, "stop": 0.5}
COMMAND = ("sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait")

Result = TypeVar("Result")
Samples = dict[str, list[float]]


class Clock:
    """Times calls of one round, in milliseconds."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}

    async def __call__(self, step: str, call: Awaitable[Result]) -> Result:
        """Await ``call`` and note how long it took as ``step``."""
        begun = time.perf_counter()
        result = await call
        self.times[step] = (time.perf_counter() - begun) * 1e3
        return result


async def one_round(client: CriClient, image: str, cgroup: str, number: int) -> dict[str, float]:
    """Take one pod through its life; return the times of its steps."""
    clock = Clock()
    pod = cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(
            name=f"pod{number}", uid=secrets.token_hex(8), namespace="bench"
        ),
        linux=cri.LinuxPodSandboxConfig(cgroup_parent=f"{cgroup}/pod{number}"),
    )
    container = cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name="main"),
        image=cri.ImageSpec(image=image),
        command=list(COMMAND),
        linux=cri.LinuxContainerConfig(resources=cri.LinuxContainerResources(cpu_shares=256)),
    )
    sandbox = await clock("sandbox", client.run_pod_sandbox(pod))
    try:
        identity = await clock("create", client.create_container(sandbox, container, pod))
        await clock("start", client.start_container(identity))
        await clock("exec", client.exec_sync(identity, ["/bin/true"], timeout=10))
        await clock("stop", client.stop_container(identity, 10))
        await clock("sandbox stop", client.stop_pod_sandbox(sandbox))
    finally:
        await clock("remove", client.remove_pod_sandbox(sandbox))
    clock.times["together"] = sum(clock.times[step] for step in ("sandbox", "create", "start"))
    return clock.times


async def measure(peers: list[Peer], image: str, cgroup: str, rounds: int) -> dict[str, Samples]:
    """Run all rounds, the peers in turn; return the times by peer and step."""
    samples: dict[str, Samples] = {peer.name: {step: [] for step in STEPS} for peer in peers}
    clients = {peer.name: CriClient(peer.endpoint) for peer in peers}
    try:
        for client in clients.values():
            await client.pull_image(image)
        for number in range(rounds + WARM_UP):
            for name, client in clients.items():
                times = await one_round(client, image, f"{cgroup}/{name}", number)
                if number >= WARM_UP:
                    for step in STEPS:
                        samples[name][step].append(times[step])
    finally:
        for client in clients.values():
            await client.close()
    return samples


def summary(samples: dict[str, Samples]) -> dict[str, dict[str, dict[str, float]]]:
    """Return median and 90th percentile, in milliseconds, by peer and step."""
    return {
        name: {
            step: {
                "median_ms": round(statistics.median(values), 2),
                "p90_ms": round(statistics.quantiles(values, n=10)[-1], 2),
            }
            for step, values in steps.items()
        }
        for name, steps in samples.items()
    }


def table(figures: dict[str, dict[str, dict[str, float]]]) -> Table:
    """Return the figures for a person; the ratio is of the first peer to each other one."""
    first, *others = figures
    result = Table(title="milliseconds: median (90th percentile)", title_justify="left")
    for column in ("step", first, *others, *(f"ratio to {name}" for name in others), "target"):
        result.add_column(column, justify="left" if column == "step" else "right")
    for step in STEPS:
        cells = [f"{f[step]['median_ms']:.1f} ({f[step]['p90_ms']:.1f})" for f in figures.values()]
        mine = figures[first][step]["median_ms"]
        ratios = [f"{mine / figures[name][step]['median_ms']:.2f}" for name in others]
        target = f"{TARGETS[step]:.2f}" if others and step in TARGETS else ""
        result.add_row(step, *cells, *ratios, target)
    return result


def _isolate() -> None:
    """Enter a network and a /run of our own; containerd keeps its shims in a fixed place."""
    unshare(CLONE_NEWNET | CLONE_NEWNS)
    mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)
    mounts.mount("tmpfs", "/run", "tmpfs")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def run(rounds: int, sockets: list[Peer]) -> dict[str, dict[str, dict[str, float]]]:
    """Start what is to be measured, measure it, and leave nothing."""
    directory = Path(tempfile.mkdtemp(prefix="kpb-"))
    cgroup = f"/kpbench-{secrets.token_hex(3)}"
    _isolate()
    hierarchy = detect()
    try:
        with ExitStack() as stack:
            registry = stack.enter_context(DockerRegistry(directory))
            push(busybox_image(), registry.host, "bench/main", "1")
            pause = busybox_image(config={"Cmd": ["/bin/sleep", "1000000"]})
            push(pause, registry.host, "bench/pause", "1")
            peers = [stack.enter_context(ours(directory / "ours"))]
            other = containerd(directory / "containerd", f"{registry.host}/bench/pause:1")
            if (peer := stack.enter_context(other)) is not None:
                peers.append(peer)
            image = f"{registry.host}/bench/main:1"
            for peer in (*peers, *sockets):
                hierarchy.cgroup(f"{cgroup}/{peer.name}").create()
            return summary(asyncio.run(measure([*peers, *sockets], image, cgroup, rounds)))
    finally:
        hierarchy.cgroup(cgroup).remove()
        shutil.rmtree(directory)


def main() -> None:
    """Parse the command line, measure, print, and keep the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30, help="counted rounds (default: 30)")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    parser.add_argument(
        "--socket",
        action="append",
        default=[],
        metavar="NAME=unix:///PATH",
        help="another runtime that runs already and reaches the loopback registry",
    )
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("benchmarks.pod_start needs root")
    sockets = [Peer(*entry.split("=", 1)) for entry in options.socket]
    figures = run(options.rounds, sockets)
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"pod_start-{time.strftime('%Y%m%dT%H%M%S')}.json"
    file.write_text(json.dumps({"rounds": options.rounds, "figures": figures}, indent=2))
    if options.output == "json":
        print(file.read_text())
    else:
        Console().print(table(figures))
        if len(figures) == 1:
            print("containerd is not installed, so there is nothing to compare with")


if __name__ == "__main__":
    main()
