"""An API server and controllers in this process, for tests of controllers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controlplane.controllers import catalog
from controlplane.engine.controller import Controller
from controlplane.engine.host import Host, Make, Settings
from controlplane.engine.informer import Informer
from controlplane.engine.resources import PODS, Object, Resource
from controlplane.options import Options
from controlplane.serving import serving
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.kubeconfig import read_kubeconfig
from tests.support.hollow import HollowNodes

SECONDS = 20.0
"""That anything may take."""


@dataclass
class Cluster:
    """A server, its administrator's client, and what runs against it."""

    client: ApiClient
    kubeconfig: Path
    tasks: asyncio.TaskGroup
    watched: dict[Resource, Informer] = field(default_factory=dict)

    async def start(self, *names: str, **options: Any) -> Host:
        """Start controllers by name; they are in memory of their own, as a process would be."""
        return await self.start_parts([catalog.make(name) for name in names], **options)

    async def start_parts(self, makes: Sequence[Make], **options: Any) -> Host:
        """Start parts; `stop` ends them."""
        settings = Settings("test", elect=False, options=options)
        host = Host(self.client, settings, makes)
        host.task = self.tasks.create_task(host.run())  # type: ignore[attr-defined]
        async with asyncio.timeout(SECONDS):
            await host.started.wait()
        return host

    async def stop(self, host: Host) -> None:
        """End the controllers of a host wherever they are, as SIGKILL would."""
        task: asyncio.Task[None] = host.task  # type: ignore[attr-defined]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    @staticmethod
    def counted(host: Host) -> dict[str, float]:
        """Return what parts of a host counted: ``name/value of label/...``."""
        return {
            "/".join([one.name, *one.labels.values()]): one.value
            for part in host.parts if isinstance(part, Controller)
            for metric in part.metrics() for one in metric.samples
        }  # fmt: skip

    async def hollow(self, *nodes: str, **more: Any) -> HollowNodes:
        """Start nodes without machines."""
        made = HollowNodes(self.client, more.pop("decide", None))
        await made.make(*nodes, **more)
        self.tasks.create_task(made.run())
        return made

    async def create(self, resource: Resource, value: Object, namespace: str = "default") -> Object:
        """Create an object."""
        namespace = namespace if resource.namespaced else ""
        body = {"apiVersion": resource.group_version, "kind": resource.kind, **value}
        return await self.client.create(resource.path(namespace), body)

    async def get(self, resource: Resource, name: str, namespace: str = "default") -> Object:
        """Return an object."""
        namespace = namespace if resource.namespaced else ""
        return await self.client.get(resource.path(namespace, name))

    async def listed(self, resource: Resource, namespace: str = "") -> list[Object]:
        """Return all objects, as the server has them."""
        found: list[Object] = (await self.client.get(resource.path(namespace)))["items"]
        return found

    async def watch(self, resource: Resource) -> Informer:
        """Return an informer that follows the server."""
        if resource not in self.watched:
            made = self.watched[resource] = Informer(self.client, resource)
            self.tasks.create_task(made.run())
        async with asyncio.timeout(SECONDS):
            await self.watched[resource].synced.wait()
        return self.watched[resource]

    async def until(
        self, resource: Resource, check: Callable[[list[Object]], object], seconds: float = SECONDS
    ) -> list[Object]:
        """Wait until the objects of a resource, all together, fit; return them.

        Raises:
            AssertionError: they did not in time; it says what there was.
        """
        informer = await self.watch(resource)
        bell = asyncio.Event()
        informer.listen(lambda *_: bell.set())
        try:
            async with asyncio.timeout(seconds):
                while not check(found := list(informer)):
                    bell.clear()
                    await bell.wait()
        except TimeoutError:
            names = [(one["metadata"]["name"], one.get("status")) for one in informer][:10]
            raise AssertionError(
                f"{resource.plural} did not fit within {seconds:g} s: {len(informer)}, {names}"
            ) from None
        return found

    async def pods(self, count: int, **labels: str) -> list[Object]:
        """Wait until so many pods with these labels are there, none of them being deleted."""

        def matching(found: list[Object]) -> list[Object]:
            return [
                pod for pod in found
                if labels.items() <= (pod["metadata"].get("labels") or {}).items()
            ]  # fmt: skip

        def fits(found: list[Object]) -> bool:
            pods = matching(found)
            going = any("deletionTimestamp" in pod["metadata"] for pod in pods)
            return len(pods) == count and not going

        return matching(await self.until(PODS, fits))


@contextlib.asynccontextmanager
async def cluster(directory: Path, **options: Any) -> AsyncIterator[Cluster]:
    """Run an API server within the block; what was started against it ends before it.

    Args:
        directory: for its data.
        options: of the server, see `controlplane.options.Options`.
    """
    given = Options(data_dir=directory / "api", secure_port=0, **options)
    async with serving(given):
        kubeconfig = directory / "api" / "admin.kubeconfig"
        async with ApiClient(read_kubeconfig(kubeconfig), rate=0) as client:
            tasks = asyncio.TaskGroup()
            made = Cluster(client, kubeconfig, tasks)

            async def hold() -> None:
                async with tasks:
                    ready.set()
                    await done.wait()
                    for task in set(tasks._tasks):
                        task.cancel()

            ready, done = asyncio.Event(), asyncio.Event()
            holding = asyncio.create_task(hold())
            await ready.wait()
            try:
                yield made
            finally:
                done.set()
                await asyncio.gather(holding, return_exceptions=True)


def pod_template(**labels: str) -> Object:
    """Return the template of a pod with one container."""
    return {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "main", "image": "example.test/app:1"}]},
    }
