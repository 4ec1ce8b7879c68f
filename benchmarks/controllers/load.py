"""Puts one subject to work, and measures it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.controllers.subjects import Running, Start, cpu_of, process, pss_of
from controlplane.engine.resources import DEPLOYMENTS, Object
from kubeletpy_common.apiclient.client import STRATEGIC_PATCH, ApiClient
from kubeletpy_common.apiclient.kubeconfig import read_kubeconfig
from tests.root.controlplane.server import api_server

_LOOK_SECONDS: Final = 0.1
_SETTLE_SECONDS: Final = 10.0
_PATIENCE_SECONDS: Final = 300.0


@dataclass(frozen=True)
class Effort:
    """How much is done.

    Attributes:
        nodes: without machines.
        replicas: of the Deployment that is created.
        rolled: of the one that is rolled over.
        pods: there in the end, at rest.
        rest: seconds of rest that are measured.
    """

    nodes: int = 100
    replicas: int = 1000
    rolled: int = 500
    pods: int = 5000
    rest: float = 30.0


QUICK: Final = Effort(nodes=5, replicas=50, rolled=20, pods=100, rest=3.0)


@dataclass
class Bench:
    """What a measurement needs.

    Attributes:
        client: of the server.
        running: the processes that are measured.
        server: pid of the server.
        bound: file with the number of bound pods.
    """

    client: ApiClient
    running: Running
    server: int
    bound: Path

    def count(self) -> int:
        """Return how many pods are bound; -1: there are no nodes yet."""
        return int.from_bytes(self.bound.read_bytes(), "little", signed=True)

    async def until(self, check: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait until ``check`` says so."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while not await check():
                    self.running.check()
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            raise SystemExit(f"{what}: not within {_PATIENCE_SECONDS:g} s") from None

    async def until_bound(self, count: int) -> None:
        """Wait until so many pods are bound."""

        async def check() -> bool:
            return self.count() == count

        await self.until(check, f"{count} pods bound")

    async def until_complete(self, name: str, replicas: int) -> None:
        """Wait until all pods of a Deployment are of its newest template, and available."""

        async def check() -> bool:
            value = await self.client.get(DEPLOYMENTS.path("default", name))
            status = value.get("status", {})
            counts = [status.get(each, 0) for each in ("replicas", "updatedReplicas",
                                                       "availableReplicas")]  # fmt: skip
            seen = status.get("observedGeneration") == value["metadata"]["generation"]
            return seen and counts == [replicas] * 3

        await self.until(check, f"Deployment {name} complete")

    async def until_told(self) -> None:
        """Wait until no event has come for a while: they are sent at a rate of their own."""
        count, since = -1, time.monotonic()

        async def check() -> bool:
            nonlocal count, since
            found = await self.client.get("/api/v1/events", params={"limit": "1"})
            known = len(found["items"]) + found["metadata"].get("remainingItemCount", 0)
            if known != count:
                count, since = known, time.monotonic()
            return time.monotonic() - since > _SETTLE_SECONDS

        await self.until(check, "events told")


def deployment(name: str, replicas: int, image: str) -> Object:
    """Return a Deployment of pods with one container."""
    pod = {"containers": [{"name": "main", "image": image,
                           "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}],
           "terminationGracePeriodSeconds": 0}  # fmt: skip
    return {
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
                 "template": {"metadata": {"labels": {"app": name}}, "spec": pod}},
    }  # fmt: skip


async def measure(start: Start, directory: Path, effort: Effort) -> dict[str, float]:
    """Return the figures of one subject, on a server of its own."""
    bound = directory / "bound"
    bound.write_bytes((-1).to_bytes(8, "little", signed=True))
    with api_server(directory) as server:
        nodes = process(
            directory / "nodes.log", sys.executable, "-m", "benchmarks.controllers.nodes",
            str(server.kubeconfig), str(effort.nodes), str(bound),
        )  # fmt: skip
        with nodes, start(server.kubeconfig, directory) as running:
            async with ApiClient(read_kubeconfig(server.kubeconfig), rate=0) as client:
                bench = Bench(client, running, server.process.pid, bound)
                await bench.until_bound(0)
                return await _figures(bench, effort)


async def _figures(bench: Bench, effort: Effort) -> dict[str, float]:
    found: dict[str, float] = {}
    await _create(bench, "warm", 1)
    await bench.until_complete("warm", 1)
    cpu, served, begun = bench.running.cpu(), cpu_of(bench.server), time.monotonic()
    await _create(bench, "web", effort.replicas)
    await bench.until_bound(effort.replicas + 1)
    found["bound"] = time.monotonic() - begun
    await bench.until_complete("web", effort.replicas)
    found["available"] = time.monotonic() - begun
    after = bench.running.cpu()
    found["bound_cpu_controllers"] = after[0] - cpu[0]
    found["bound_cpu_scheduler"] = after[1] - cpu[1]
    found["bound_cpu_server"] = cpu_of(bench.server) - served
    await _create(bench, "rolled", effort.rolled)
    await bench.until_complete("rolled", effort.rolled)
    begun = time.monotonic()
    template = deployment("rolled", 0, "example.test/app:2")["spec"]["template"]
    await bench.client.patch(
        DEPLOYMENTS.path("default", "rolled"), {"spec": {"template": template}},
        kind=STRATEGIC_PATCH,
    )  # fmt: skip
    await bench.until_complete("rolled", effort.rolled)
    found["rolled"] = time.monotonic() - begun
    rest = effort.pods - effort.rolled - 1
    await bench.client.patch(
        DEPLOYMENTS.path("default", "web"), {"spec": {"replicas": rest}}, kind=STRATEGIC_PATCH
    )
    await bench.until_complete("web", rest)
    await bench.until_told()
    cpu = bench.running.cpu()
    await asyncio.sleep(effort.rest)
    after = bench.running.cpu()
    found["rest_controllers"] = (after[0] - cpu[0]) / effort.rest * 100
    found["rest_scheduler"] = (after[1] - cpu[1]) / effort.rest * 100
    found["memory_controllers"] = pss_of(bench.running.controllers)
    found["memory_scheduler"] = pss_of(bench.running.scheduler)
    return found


async def _create(bench: Bench, name: str, replicas: int) -> None:
    value = {"apiVersion": "apps/v1", "kind": "Deployment",
             **deployment(name, replicas, "example.test/app:1")}  # fmt: skip
    await bench.client.create(DEPLOYMENTS.path("default"), value)
