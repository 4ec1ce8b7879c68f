"""How soon a pod is Ready, how soon many are, and what idle and probed pods cost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks.kubelet.nodes import NODE, Node
from kubeletpy_common.apiclient.client import ApiClient, object_path
from kubeletpy_common.apiclient.reflector import Changed, Reflector, Synced

NAMESPACE = "default"
PODS = object_path("v1", "pods", NAMESPACE)
_LONGEST = 600.0


@dataclass(frozen=True)
class Effort:
    """How much is done.

    Attributes:
        rounds: of one pod.
        pods: at once.
        quiet: seconds before figures of idle or probed pods are taken.
        seconds: over which they are taken.
    """

    rounds: int = 30
    pods: int = 100
    quiet: float = 30.0
    seconds: float = 60.0


QUICK = Effort(rounds=2, pods=4, quiet=1.0, seconds=2.0)


@dataclass
class Figures:
    """What a node gave: figure -> values."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, figure: str, value: float) -> None:
        """Note one value."""
        self.values.setdefault(figure, []).append(value)


class Watch:
    """Follows all pods, and tells when each was seen Ready and when it was gone."""

    def __init__(self) -> None:
        self.ready: dict[str, float] = {}
        self.gone: dict[str, float] = {}
        self._changed = asyncio.Event()
        self._synced = asyncio.Event()

    async def run(self, client: ApiClient) -> None:
        """Follow until cancelled."""
        async for each in Reflector(client, PODS):
            now = time.monotonic()
            if isinstance(each, Synced):
                self._synced.set()
                continue
            self._take(each, now)

    def _take(self, each: Changed, now: float) -> None:
        name = each.object["metadata"]["name"]
        if each.kind == "DELETED":
            self.gone.setdefault(name, now)
        elif name not in self.ready and is_ready(each.object):
            self.ready[name] = now
        self._changed.set()

    async def synced(self) -> None:
        """Wait until the watch stands."""
        await self._synced.wait()

    async def all_in(self, times: dict[str, float], names: set[str]) -> float:
        """Wait until all of ``names`` are in ``ready`` or ``gone``; return when the last was.

        Raises:
            TimeoutError: they are not within ten minutes.
        """
        async with asyncio.timeout(_LONGEST):
            while not names <= times.keys():
                self._changed.clear()
                await self._changed.wait()
        return max(times[name] for name in names)


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether a pod's status says that it is Ready."""
    conditions = pod.get("status", {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def manifest(name: str, image: str, *, probed: bool = False) -> dict[str, Any]:
    """Return a pod of one container that ends at SIGTERM at once."""
    container: dict[str, Any] = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done"],
    }
    if probed:
        container["livenessProbe"] = {
            "exec": {"command": ["/bin/true"]}, "periodSeconds": 1, "timeoutSeconds": 10,
            "failureThreshold": 1000,
        }  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"nodeName": NODE, "containers": [container]},
    }


@contextlib.asynccontextmanager
async def watching(node: Node) -> AsyncIterator[tuple[ApiClient, Watch]]:
    """Connect and follow the pods within the block."""
    async with ApiClient(node.access, rate=0) as client:
        watch = Watch()
        following = asyncio.create_task(watch.run(client))
        try:
            await watch.synced()
            yield client, watch
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def one_by_one(node: Node, image: str, effort: Effort, figures: Figures) -> None:
    """Create, see Ready, delete, see gone: one pod after the other."""
    names = (f"one-{number}" for number in itertools.count())
    async with watching(node) as (client, watch):
        for name, _ in zip(names, range(effort.rounds + 1), strict=False):
            begun = time.monotonic()
            await client.create(PODS, manifest(name, image))
            ready = await watch.all_in(watch.ready, {name}) - begun
            begun = time.monotonic()
            await client.delete(f"{PODS}/{name}")
            gone = await watch.all_in(watch.gone, {name}) - begun
            if name != "one-0":  # It pulled the image.
                figures.add("ready", ready * 1000)
                figures.add("gone", gone * 1000)


async def many(node: Node, image: str, effort: Effort, figures: Figures) -> None:
    """Create many at once, look what they cost once all is quiet, delete all."""
    names = [f"many-{number}" for number in range(effort.pods)]
    async with watching(node) as (client, watch):
        begun = time.monotonic()
        await asyncio.gather(*(client.create(PODS, manifest(n, image)) for n in names))
        figures.add("all_ready", await watch.all_in(watch.ready, set(names)) - begun)
        await cost(node, effort, figures, "idle")
        for part, mib in node.memory_mib().items():
            figures.add(f"memory_{part}", mib)
        begun = time.monotonic()
        await asyncio.gather(*(client.delete(f"{PODS}/{name}") for name in names))
        figures.add("all_gone", await watch.all_in(watch.gone, set(names)) - begun)


async def probed(node: Node, image: str, effort: Effort, figures: Figures) -> None:
    """Let many pods be exec-probed every second, and look what the node costs."""
    names = [f"probed-{number}" for number in range(effort.pods)]
    async with watching(node) as (client, watch):
        pods = (manifest(name, image, probed=True) for name in names)
        await asyncio.gather(*(client.create(PODS, pod) for pod in pods))
        await watch.all_in(watch.ready, set(names))
        await cost(node, effort, figures, "probed")
        await asyncio.gather(*(client.delete(f"{PODS}/{name}") for name in names))
        await watch.all_in(watch.gone, set(names))


async def cost(node: Node, effort: Effort, figures: Figures, what: str) -> None:
    """Note how much of a core each part takes, in percent."""
    await asyncio.sleep(effort.quiet)
    before, begun = node.cpu_seconds(), time.monotonic()
    await asyncio.sleep(effort.seconds)
    after, passed = node.cpu_seconds(), time.monotonic() - begun
    for part in before:
        figures.add(f"{what}_{part}", (after[part] - before[part]) / passed * 100)
