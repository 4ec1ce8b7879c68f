"""Claims, volumes and classes for tests, and what must hold of them at any time."""

from __future__ import annotations

import asyncio
from typing import Any

from controlplane.controllers import catalog
from controlplane.engine.host import Host, Settings
from controlplane.engine.informer import Informers
from controlplane.engine.resources import CLAIMS, VOLUMES, Object, Resource
from controlplane.engine.writes import Writer
from kubeletpy_common.apiclient.client import ApiClient
from tests.support.cluster import SECONDS, Cluster

EVENTS = "/api/v1/events"


def volume(name: str, size: str = "1Gi", **more: Any) -> Object:
    spec = {
        "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": f"/nowhere/{name}"}, **more,
    }  # fmt: skip
    return {"metadata": {"name": name}, "spec": spec}


def claim(name: str, size: str = "1Gi", annotations: Any = None, **more: Any) -> Object:
    spec = {"resources": {"requests": {"storage": size}}, "accessModes": ["ReadWriteOnce"], **more}
    return {"metadata": {"name": name, "annotations": annotations or {}}, "spec": spec}


def storage_class(name: str, provisioner: str, default: bool = False, **more: Any) -> Object:
    marks = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    return {"metadata": {"name": name, "annotations": marks}, "provisioner": provisioner, **more}


def phase(value: Object) -> str:
    found: str = value.get("status", {}).get("phase", "")
    return found


def are(**phases: str) -> Any:
    """Return a check: objects of these names are in these phases; "": there are none."""

    def check(found: list[Object]) -> bool:
        known = {one["metadata"]["name"]: phase(one) for one in found}
        return all(known.get(name, "") == wanted for name, wanted in phases.items())

    return check


async def said(cluster: Cluster, name: str, reason: str) -> str:
    """Wait for an event about an object; return its text."""
    async with asyncio.timeout(SECONDS):
        while True:
            events = (await cluster.client.get(EVENTS))["items"]
            for one in events:
                if one["involvedObject"]["name"] == name and one["reason"] == reason:
                    text: str = one["message"]
                    return text
            await asyncio.sleep(0.02)


async def check_bindings(cluster: Cluster) -> None:
    """Check that no two claims have a volume, and that each claim has the one that is its."""
    volumes = {one["metadata"]["name"]: one for one in await cluster.listed(VOLUMES)}
    taken: dict[str, str] = {}
    for one in await cluster.listed(CLAIMS):
        name = one["spec"].get("volumeName")
        if not name or "pv.kubernetes.io/bind-completed" not in one["metadata"]["annotations"]:
            continue
        assert name not in taken, (name, one["metadata"]["name"], taken[name])
        taken[name] = one["metadata"]["name"]
        assert volumes[name]["spec"]["claimRef"]["uid"] == one["metadata"]["uid"]


class _Dying(Writer):
    """Does a write, and then the process is dead: nobody hears the answer."""

    def __init__(self, client: ApiClient, informers: Informers) -> None:
        super().__init__(client, informers)
        self.dead, self.done = asyncio.Event(), asyncio.Event()

    async def _learned(self, resource: Resource, call: Any) -> Object:
        await self._last(call)
        raise AssertionError("it is dead")

    async def read(self, resource: Resource, value: Object) -> Object:
        return await super()._learned(resource, self._client.get(resource.path_of(value)))

    async def delete(self, resource: Resource, value: Object, **more: Any) -> bool:
        await self._last(super().delete(resource, value, **more))
        raise AssertionError("it is dead")

    async def _last(self, call: Any) -> None:
        if self.dead.is_set():
            call.close()
            await asyncio.Event().wait()
        self.dead.set()
        await call
        self.done.set()
        await asyncio.Event().wait()


async def one_write_each(cluster: Cluster, *names: str, **options: Any) -> int:
    """Start controllers again and again; each time they die with the first write they do.

    Returns when a life was without any write for a while; says how many ended early.
    """
    for lives in range(100):
        settings = Settings("test", elect=False, options=options)
        host = Host(cluster.client, settings, [catalog.make(name) for name in names])
        host.context.writer = dying = _Dying(cluster.client, host.informers)
        task = asyncio.create_task(host.run())
        try:
            async with asyncio.timeout(1.5):
                await dying.done.wait()
        except TimeoutError:
            return lives
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    raise AssertionError("the same is written again and again")
