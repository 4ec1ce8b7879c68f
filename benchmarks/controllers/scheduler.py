"""How fast pods get nodes: ours and the Go kube-scheduler on the same embedded API server.

    .venv/bin/python -m benchmarks.controllers.scheduler [--kube-scheduler PROGRAM] [--pods 1000]

Server and scheduler are processes of their own; the pods of 100 nodes run nowhere. Each situation
is measured for each scheduler, with a server of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import psutil

from controlplane.engine.informer import Informer
from controlplane.engine.resources import PODS, Object
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.kubeconfig import read_kubeconfig
from tests.root.controlplane.server import api_server
from tests.support.hollow import HollowNodes
from tests.support.placing.objects import HOST, ZONE, far, spread, term

NODES: Final = 100
_AT_ONCE: Final = 16
_PATIENCE: Final = 300.0
_CONFIGURATION: Final = {
    "apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
    "leaderElection": {"leaderElect": False},
    "clientConnection": {"qps": 10000, "burst": 10000},
}  # fmt: skip
"""Without it the peer sends 50 requests a second."""
Shape = Callable[[int], dict[str, Any]]


def plain(index: int) -> dict[str, Any]:
    """Return the spec of a pod that only asks for resources."""
    requests = {"cpu": "100m", "memory": "64Mi"}
    container = {"name": "main", "image": "x", "resources": {"requests": requests}}
    return {"containers": [container]}


def spreading(index: int) -> dict[str, Any]:
    """Return the spec of a pod that wants to be spread over zones and hosts."""
    constraints = [spread("bench", ZONE), spread("bench", HOST, hard=False)]
    return {**plain(index), "topologySpreadConstraints": constraints}


def lonely(index: int) -> dict[str, Any]:
    """Return the spec of a pod that wants no pod of its group of 100 on its node."""
    return {**plain(index), "affinity": far(term(f"bench{index // NODES}"))}


SHAPES: Final[dict[str, Shape]] = {"plain": plain, "spread": spreading, "anti-affinity": lonely}


@contextlib.asynccontextmanager
async def running(command: list[str], log: Path) -> AsyncIterator[psutil.Process]:
    """Run a scheduler within the block."""
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(*command, stderr=file, stdout=file)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


async def measure(kubeconfig: Path, command: list[str], shape: str, count: int, log: Path,
                  server: int) -> dict[str, float]:  # fmt: skip
    """Return seconds until all pods have nodes, and what the processes took."""
    async with (
        ApiClient(read_kubeconfig(kubeconfig), rate=0) as client,
        contextlib.AsyncExitStack() as stack,
    ):
        hollow = HollowNodes(client)
        for index in range(NODES):
            await hollow.make(f"n{index}", labels={ZONE: f"z{index % 3}"})
        process = await stack.enter_async_context(running(command, log))
        await _ready(client)
        informer = Informer(client, PODS)
        bound, done = set[str](), asyncio.Event()

        def listen(before: Object | None, after: Object | None) -> None:
            if after is not None and after["spec"].get("nodeName"):
                bound.add(after["metadata"]["name"])
                if len(bound) == count + 1:
                    done.set()

        informer.listen(listen)
        following = asyncio.create_task(informer.run())
        before = [sum(psutil.Process(pid).cpu_times()[:2]) for pid in (process.pid, server)]
        begun = time.monotonic()
        await _create(client, shape, count)
        created = time.monotonic() - begun
        async with asyncio.timeout(_PATIENCE):
            await done.wait()
        seconds = time.monotonic() - begun
        after = [sum(psutil.Process(pid).cpu_times()[:2]) for pid in (process.pid, server)]
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        return {
            "created_s": created, "bound_s": seconds, "per_second": count / seconds,
            "cpu_s": after[0] - before[0], "server_cpu_s": after[1] - before[1],
            "memory_mib": process.memory_info().rss / (1 << 20),
        }  # fmt: skip


async def _ready(client: ApiClient) -> None:
    """Wait until a first pod has a node."""
    made = await _create_one(client, "first", {}, plain(0))
    async with asyncio.timeout(_PATIENCE):
        while not (await client.get(PODS.path_of(made)))["spec"].get("nodeName"):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def _create_one(
    client: ApiClient, name: str, labels: dict[str, str], spec: dict[str, Any]
) -> Object:
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
            "spec": spec}  # fmt: skip
    return await client.create(PODS.path("default"), body)


async def _create(client: ApiClient, shape: str, count: int) -> None:
    numbers = iter(range(count))

    async def work() -> None:
        for index in numbers:
            app = f"bench{index // NODES}" if shape == "anti-affinity" else "bench"
            await _create_one(client, f"p{index}", {"app": app}, SHAPES[shape](index))

    await asyncio.gather(*(work() for _ in range(_AT_ONCE)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.controllers.scheduler")
    parser.add_argument("--kube-scheduler", default="", help="its program")
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--only", action="append", choices=SHAPES, help="a situation")
    given = parser.parse_args()
    results: dict[str, Any] = {}
    for shape in given.only or SHAPES:
        for name in ("kubeletpy", *(["kube-scheduler"] if given.kube_scheduler else [])):
            with tempfile.TemporaryDirectory() as folder:
                found = _one(Path(folder), name, given.kube_scheduler, shape, given.pods)
            results[f"{shape}, {name}"] = found
            print(f"{shape}, {name}:", {key: round(value, 2) for key, value in found.items()},
                  flush=True)  # fmt: skip
    print(json.dumps(results, indent=1))


def _one(folder: Path, name: str, program: str, shape: str, count: int) -> dict[str, float]:
    configuration = folder / "configuration.yaml"
    with api_server(folder) as server:
        kubeconfig = next(folder.rglob("admin.kubeconfig"))
        connection = {**_CONFIGURATION["clientConnection"], "kubeconfig": str(kubeconfig)}  # type: ignore[dict-item]
        configuration.write_text(json.dumps({**_CONFIGURATION, "clientConnection": connection}))
        ours = [sys.executable, "-m", "controlplane.scheduler", "--healthz-port=-1"]
        peer = [program, "--secure-port=0"]
        command = [*(ours if name == "kubeletpy" else peer), f"--config={configuration}"]
        return asyncio.run(
            measure(kubeconfig, command, shape, count, folder / "log", server.process.pid)
        )


if __name__ == "__main__":
    main()
