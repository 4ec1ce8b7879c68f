"""Empties the namespaces that are to be deleted, and lets them go.

::

    Active --delete--> Terminating: pods are deleted -> the rest is deleted -> nothing is left
                       -> conditions say so -> the finalizer "kubernetes" is taken off -> gone

A look is begun by the deletion, by the last pod's end and by the end of the last object, so nothing
is asked for twice; after a restart, by every namespace that is found to be terminating.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Final

from controlplane.api import codec, metadata
from controlplane.api.deletion import DeleteOptions
from controlplane.api.errors import ApiError
from controlplane.api.resource import Object, Resource
from controlplane.builtin.following import context, follow
from controlplane.builtin.garbage.collector import node_of
from controlplane.builtin.selection import NAMESPACES
from controlplane.controllers.namespaces.conditions import Progress, with_progress
from controlplane.engine.queue import WorkQueue
from controlplane.plane import Plane
from controlplane.store.model import Change, Item

FINALIZER: Final = "kubernetes"
_AT_ONCE: Final = 64
# Objects with finalizers go when others let them; the last one's end is heard of, this is for what
# comes in between.
_AGAIN_SECONDS: Final = 15.0


class NamespaceDeleter:
    """Deletes what is in the namespaces that go.

    Args:
        plane: the parts of the server.
    """

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._queue = WorkQueue(NAMESPACES, self._look, workers=4)
        self._awaited: dict[str, set[str]] = {}

    async def run(self) -> None:
        """Work, until cancelled.

        Raises:
            CompactedError: it fell too far behind, and has to begin anew.
        """
        self._awaited.clear()
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(self._queue.run())
            async for change in follow(self._plane.store, "/"):
                self._hear(change)
            working.cancel()

    def _hear(self, change: Change) -> None:
        parts = change.key.split("/")
        if change.key.startswith("/core/namespaces/"):
            if change.item is None or not node_of(change.item).deleting:
                self._awaited.pop(parts[3], None)
            elif parts[3] not in self._awaited:
                self._awaited[parts[3]] = set()
                self._queue.add(parts[3])
        elif change.item is None and parts[3] in self._awaited:
            awaited = self._awaited[parts[3]]
            awaited.discard(change.key)
            if not awaited:
                self._queue.add(parts[3])

    async def _look(self, name: str) -> float | None:
        namespaces = self._plane.catalog.find("", "v1", "namespaces")
        assert namespaces is not None
        item = self._plane.store.get(namespaces.key("", name))
        if item is None:
            return None
        value = codec.decode(item)
        if not value["metadata"].get("deletionTimestamp"):
            return None
        if FINALIZER not in value.get("spec", {}).get("finalizers", []):
            return None
        try:
            return await self._work(namespaces, name)
        except ApiError as error:
            if error.reason != "NotFound":
                raise
            return None

    async def _work(self, namespaces: Resource, name: str) -> float | None:
        failures = await self._empty(name)
        await self._tell(namespaces, name, self._left(name), failures)
        # Having written the conditions, every write that was under way before is seen as well.
        left = self._left(name)
        self._awaited[name] = {item.key for _, item in left}
        if failures:
            raise RuntimeError("; ".join(failures))
        if left:
            return _AGAIN_SECONDS
        await self._finalize(namespaces, name)
        return None

    async def _empty(self, name: str) -> list[str]:
        """Delete the pods, and everything else once they are gone; return what failed."""
        pods = [r for r in self._resources() if (r.group, r.plural) == ("", "pods")]
        failures = await self._delete_all(pods, name)
        if failures or any(self._items(pod, name) for pod in pods):
            return failures
        others = [r for r in self._resources() if r not in pods]
        return await self._delete_all(others, name)

    async def _delete_all(self, resources: list[Resource], namespace: str) -> list[str]:
        found = [(resource, item) for resource in resources
                 for item in self._items(resource, namespace)]  # fmt: skip
        failures: dict[str, None] = {}
        for start in range(0, len(found), _AT_ONCE):
            batch = found[start : start + _AT_ONCE]
            results = await asyncio.gather(*(self._delete(*one) for one in batch))
            failures.update((one, None) for one in results if one)
        return list(failures)

    async def _delete(self, resource: Resource, item: Item) -> str:
        if node_of(item).deleting:
            return ""
        try:
            options = DeleteOptions(propagation="Background")
            await self._plane.registry.delete(resource, item, options, context(NAMESPACES))
        except ApiError as error:
            return "" if error.reason == "NotFound" else str(error)
        return ""

    def _resources(self) -> list[Resource]:
        """Return each namespaced resource once, not in each of its versions."""
        found = {r.prefix: r for r in self._plane.catalog.all() if r.namespaced and r.kept}
        return list(found.values())

    def _items(self, resource: Resource, namespace: str) -> tuple[Item, ...]:
        return self._plane.store.read(resource.prefix_in(namespace)).items

    def _left(self, namespace: str) -> list[tuple[Resource, Item]]:
        """Return what is waited for: the pods, and only then everything else."""
        left = [(resource, item) for resource in self._resources()
                for item in self._items(resource, namespace)]  # fmt: skip
        pods = [(r, item) for r, item in left if (r.group, r.plural) == ("", "pods")]
        return pods or left

    async def _tell(
        self,
        namespaces: Resource,
        name: str,
        left: list[tuple[Resource, Item]],
        failures: Iterable[str],
    ) -> None:
        progress = _progress(left, failures)

        async def told(value: Object) -> Object:
            status = value.setdefault("status", {})
            status["phase"] = "Terminating"
            conditions = status.get("conditions", [])
            status["conditions"] = with_progress(conditions, progress, metadata.now())
            value["metadata"].pop("resourceVersion", None)
            return value

        writing = context(NAMESPACES)
        writing.subresource = "status"
        await self._plane.registry.update(namespaces, "", name, told, writing)

    async def _finalize(self, namespaces: Resource, name: str) -> None:
        async def finalized(value: Object) -> Object:
            finalizers = value.get("spec", {}).get("finalizers", [])
            value["spec"] = {"finalizers": [one for one in finalizers if one != FINALIZER]}
            value["metadata"].pop("resourceVersion", None)
            return value

        writing = context(NAMESPACES)
        writing.subresource = "finalize"
        await self._plane.registry.update(namespaces, "", name, finalized, writing)


def _progress(left: list[tuple[Resource, Item]], failures: Iterable[str]) -> Progress:
    remaining: Counter[tuple[str, str]] = Counter()
    finalizers: Counter[str] = Counter()
    for resource, item in left:
        remaining[resource.plural, resource.group] += 1
        finalizers.update(node_of(item).finalizers)
    return Progress(remaining, finalizers, tuple(failures))
